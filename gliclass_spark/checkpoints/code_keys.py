"""Keys of a model's configuration whose value names code: transformers would import it, or fetch it from the hub."""

from __future__ import annotations

from typing import Any

_CODE = ("auto_map", "custom_pipelines", "kernel_config", "use_kernels")
# Each may name a repository of kernels, as `org/kernel@revision:function`.
_IMPLEMENTATIONS = tuple(
    f"{prefix}{kind}_implementation{suffix}"
    for kind in ("attn", "experts")
    for prefix in ("", "_")
    for suffix in ("", "_internal")
)
# Implementations that are part of transformers and torch. Which one computes is decided here, not by the file.
_BUILT_IN = frozenset({"eager", "sdpa", "flex_attention", *(f"flash_attention_{version}" for version in (2, 3, 4))})


def code_key(document: Any) -> str | None:
    """Return the dotted path of the first key, at any depth, that names code; None if there is none."""
    pending: list[tuple[str, Any]] = [("", document)]
    while pending:
        prefix, value = pending.pop()
        if isinstance(value, list):
            pending += [(f"{prefix}{index}.", child) for index, child in enumerate(value)]
        elif isinstance(value, dict):
            for key, child in value.items():
                if (key in _CODE and child) or (key in _IMPLEMENTATIONS and not _is_built_in(child)):
                    return f"{prefix}{key}"
            pending += [(f"{prefix}{key}.", child) for key, child in value.items()]
    return None


def _is_built_in(implementation: Any) -> bool:
    if isinstance(implementation, dict):  # one for each part of a model
        return all(_is_built_in(value) for value in implementation.values())
    return implementation is None or (isinstance(implementation, str) and implementation in _BUILT_IN)
