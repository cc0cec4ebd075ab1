"""HTML templates of the reports: autoescaped, and free of characters that HTML may not hold."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gliclass_spark.report import number_format

_FILTERS = ("number", "counted", "share", "duration", "rate", "timestamp", "day")
# Control characters, which documents may bring along.
_CONTROL = dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")


def fill(name: str, **values: object) -> str:
    """Return the page that the template of this name renders with the values."""
    page = _environment().get_template(name).render(values)
    return page.encode("utf-8", "replace").decode("utf-8").translate(_CONTROL)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(number_format, name) for name in _FILTERS}
    return environment
