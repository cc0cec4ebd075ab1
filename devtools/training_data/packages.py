"""What Debian says about its packages."""

from __future__ import annotations

import re
from collections.abc import Iterator

# What a tag says about a program that its description says too.
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
    for fields in stanzas(packages):
        section = fields.get("Section", "").rpartition("/")[2]
        yield described(fields), [SECTIONS.get(section, section)]


def tags(packages: str) -> Iterator[tuple[str, list[str]]]:
    for fields in stanzas(packages):
        found = re.findall(r"([a-z-]+)::([a-z0-9-]+)", fields.get("Tag", ""))
        yield described(fields), [name.replace("-", " ") for facet, name in found if facet in FACETS]


def stanzas(packages: str) -> Iterator[dict[str, str]]:
    for stanza in packages.split("\n\n"):
        fields = re.findall(r"^([A-Za-z0-9-]+): (.*(?:\n .*)*)", stanza, flags=re.MULTILINE)
        if fields:
            yield dict(fields)


def described(fields: dict[str, str]) -> str:
    """The first line: the others are there for few packages."""
    return fields.get("Description", "").partition("\n")[0]
