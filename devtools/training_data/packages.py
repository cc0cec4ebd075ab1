"""Reader of Debian's package descriptions: sections and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Facets of tags that a description also covers.
FACETS = ("field", "game", "network", "science", "security", "sound", "use", "web", "works-with")
SECTIONS = {
    "admin": "system administration",
    "cli-mono": "mono",
    "comm": "communication",
    "devel": "software development",
    "doc": "documentation",
    "hamradio": "ham radio",
    "httpd": "web servers",
    "libdevel": "development libraries",
    "libs": "libraries",
    "localization": "translations",
    "math": "mathematics",
    "misc": "",
    "net": "networking",
    "oldlibs": "",
    "otherosfs": "other operating systems",
    "tex": "typesetting with TeX",
    "vcs": "version control",
    "x11": "window system",
}


def sections(packages: str) -> Iterator[tuple[str, list[str]]]:
    """Yield descriptions and sections."""
    for fields in stanzas(packages):
        section = fields.get("Section", "").rpartition("/")[2]
        yield description(fields), [SECTIONS.get(section, section)]


def tags(packages: str) -> Iterator[tuple[str, list[str]]]:
    """Yield descriptions and tags."""
    for fields in stanzas(packages):
        facets = re.findall(r"([a-z-]+)::([a-z0-9-]+)", fields.get("Tag", ""))
        yield description(fields), [name.replace("-", " ") for facet, name in facets if facet in FACETS]


def stanzas(packages: str) -> Iterator[dict[str, str]]:
    for stanza in packages.split("\n\n"):
        fields = re.findall(r"^([A-Za-z0-9-]+): (.*(?:\n .*)*)", stanza, flags=re.MULTILINE)
        if fields:
            yield dict(fields)


def description(fields: dict[str, str]) -> str:
    """Return the first line: few packages have more."""
    return fields.get("Description", "").partition("\n")[0]
