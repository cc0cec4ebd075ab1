"""The pages' templates: what they fill in is escaped, and a page holds nothing that HTML can't."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gliclass_spark.report import words

# What HTML can't hold, whatever document it came from: control characters.
_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")


def filled(name: str, **values: object) -> str:
    """The page that the template of this name makes of the values."""
    page = _environment().get_template(name).render(values)
    return page.encode("utf-8", "replace").decode("utf-8").translate(_CONTROL)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("number", "counted", "share", "duration", "rate", "moment", "day")
    environment.filters |= {name: getattr(words, name) for name in names}
    return environment
