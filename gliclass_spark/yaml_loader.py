"""YAML files, loaded strictly: no code, no duplicate keys, no multiplied aliases, errors in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gliclass_spark.errors import ConfigError

# Values that aliases may repeat in a file. A few lines of aliases of aliases make billions.
_MAX_REPEATED = 10_000
# Digits of a whole number. Python refuses to print one of thousands, and no key takes one of more than 64 bits.
_MAX_DIGITS = 40


class _Loader(yaml.SafeLoader):
    """A safe loader that rejects duplicate keys, of which PyYAML silently keeps the last."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._sizes: dict[yaml.Node, int] = {}
        self._repeated = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Compose a value. An alias is the node that its anchor names, and counts as all values in that."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        is_alias, line = isinstance(event, yaml.AliasEvent), event.start_mark.line + 1
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if is_alias:
            if node not in self._sizes:
                raise yaml.YAMLError(f"the alias in line {line} is inside of what it repeats; write the value itself")
            self._repeated += self._sizes[node]
            if self._repeated > _MAX_REPEATED:
                raise yaml.YAMLError(
                    f"aliases repeat more than {_MAX_REPEATED} values up to line {line}; write the values themselves"
                )
        else:
            self._sizes[node] = 1 + sum(self._sizes[child] for child in _children(node))
        return node

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

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value. PyYAML raises anything for a tag with another value, as `!!bool 3` and `!!timestamp x`."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError):
            kind, line = node.tag.rpartition(":")[2], node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line} holds a value that can't be a {kind}; correct it") from None

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        try:
            str(value).encode()
        except UnicodeEncodeError:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line} holds half of a surrogate pair, which is no text; correct it") from None
        return value

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Construct a whole number, in any of YAML's notations, of a length that can be printed."""
        if len(node.value) > _MAX_DIGITS:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"line {line} holds a number of {len(node.value)} digits; write a text in quotes")
        return int(super().construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


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


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
