"""Links between the files of the repository, and what they become on the site.

A page may link to any file of the repository as it would on a code host. On the site, pages stand under
addresses of their own, and other files are published beside them as they are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Files outside of docs/ that are pages of the site, by their place on it.
PAGES = {
    "benchmarks-method.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reference/embedded-model.md": "gliclass_spark/model/embedded/README.md",
    "security.md": "SECURITY.md",
}
_PLACES = {file: page for page, file in PAGES.items()} | {"README.md": "index.md"}
# The site's pages of files that are published as they are.
_FILES = "files"
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\]\[]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")


def source_of(page: str) -> str:
    """The file of the repository that a page of the site is made from, both as POSIX paths."""
    return PAGES.get(page, f"docs/{page}")


def place_of(file: str) -> str:
    """Where a file of the repository stands on the site."""
    if file in _PLACES:
        return _PLACES[file]
    return file.removeprefix("docs/") if file.startswith("docs/") else f"{_FILES}/{file}"


def local_links(markdown: str, file: str) -> Iterator[tuple[str, str]]:
    """The files of the repository that a file links to or shows, with the anchor behind each: "" for none."""
    found: list[tuple[str, str]] = []

    def collect(match: re.Match[str]) -> str:
        if (target := _local(match["target"], file)) is not None:
            found.append(target)
        return match[0]

    _outside_code(markdown, lambda text: _PICTURE.sub(collect, _LINK.sub(collect, text)))
    yield from found


def for_site(markdown: str, page: str) -> str:
    """The page's Markdown with its links to files of the repository as the site has them."""
    file = source_of(page)

    def changed(match: re.Match[str]) -> str:
        if (target := _local(match["target"], file)) is None:
            return match[0]
        path, anchor = target
        there = posixpath.relpath(place_of(path), posixpath.dirname(page) or ".")
        return f"[{match['text']}]({there}{f'#{anchor}' if anchor else ''})"

    return _outside_code(markdown, lambda text: _LINK.sub(changed, text))


def with_pictures(markdown: str, page: str) -> str:
    """The page's Markdown with its SVG files written out, so that they take the page's colours."""
    folder = (ROOT / source_of(page)).parent

    def drawn(match: re.Match[str]) -> str:
        if not match["target"].endswith(".svg"):
            return match[0]
        svg = (folder / match["target"]).read_text(encoding="utf-8")
        svg = re.sub(r"<style>.*?</style>\s*|<\?xml.*?\?>\s*", "", svg, flags=re.DOTALL)
        shown = svg.replace("<svg ", f'<svg role="img" aria-label="{match["text"]}" ', 1)
        return f'<figure class="picture">{" ".join(shown.split())}</figure>'

    return _outside_code(markdown, lambda text: _PICTURE.sub(drawn, text))


def _local(target: str, file: str) -> tuple[str, str] | None:
    """The file that a link leads to and its anchor; None for another site, and for an anchor of the page itself."""
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), path)), anchor


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """The Markdown with everything but its fenced blocks changed, line by line."""
    fence = ""
    lines = []
    for line in markdown.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]
        else:
            line = change(line)
        lines.append(line)
    return "".join(lines)
