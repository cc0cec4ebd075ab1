"""YAML without its silent surprises: no code, no key that is said twice, one line for each error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gliclass_spark.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys; whoever wrote the first would never learn of it."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # While composing, and not while constructing: there, `<<` has already mixed in merged keys,
        # which a mapping may well say again.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"key {key.value!r} appears twice, again in line {line}; remove one")
                seen.add((key.tag, key.value))
        return node


def load(path: str | Path) -> Any:
    """What the file says, in plain Python values. Raises ConfigError that names the file and the mend."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}); check the path and its permissions") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply; flatten it") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are no UTF-8, dates like 2024-99-99
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {problem}") from None
