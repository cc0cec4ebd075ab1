"""YAML files, loaded strictly: no code, no duplicate keys, errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gliclass_spark.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """A safe loader that rejects duplicate keys, of which PyYAML silently keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # While composing, since constructing has already merged the keys of `<<`, which a mapping may override.
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
    """Return the content of a file as plain Python values. Raises ConfigError with the file and the fix."""
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; check the path") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}); check the path and its permissions") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply; flatten it") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: invalid UTF-8, dates like 2024-99-99
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {problem}") from None
