"""Links between files of the repository, rewritten for the site.

A page may link to any file of the repository, as on a code host. The site has other paths for pages, and publishes
linked files unchanged.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Files outside docs/ that are pages of the site, by their path on it.
PAGES = {
    "benchmarks-method.md": "benchmarks/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "reference/embedded-model.md": "gliclass_spark/model/embedded/README.md",
    "security.md": "SECURITY.md",
}
_SITE_PATHS = {file: page for page, file in PAGES.items()} | {"README.md": "index.md"}
# The site's folder of files that are published unchanged.
_FILES = "files"
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\]\[]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")


def source_of(page: str) -> str:
    """Return the repository file of a page of the site, both as POSIX paths."""
    return PAGES.get(page, f"docs/{page}")


def site_path(file: str) -> str:
    """Return the path on the site of a repository file."""
    if file in _SITE_PATHS:
        return _SITE_PATHS[file]
    return file.removeprefix("docs/") if file.startswith("docs/") else f"{_FILES}/{file}"


def local_links(markdown: str, file: str) -> Iterator[tuple[str, str]]:
    """Yield the repository files that a file links to or shows, each with the link's anchor, "" without one."""
    targets: list[tuple[str, str]] = []

    def collect(match: re.Match[str]) -> str:
        if (target := _local(match["target"], file)) is not None:
            targets.append(target)
        return match[0]

    _outside_code(markdown, lambda text: _PICTURE.sub(collect, _LINK.sub(collect, text)))
    yield from targets


def for_site(markdown: str, page: str) -> str:
    """Return the page's Markdown with its links to repository files rewritten for the site."""
    file = source_of(page)

    def rewrite(match: re.Match[str]) -> str:
        if (target := _local(match["target"], file)) is None:
            return match[0]
        path, anchor = target
        relative = posixpath.relpath(site_path(path), posixpath.dirname(page) or ".")
        return f"[{match['text']}]({relative}{f'#{anchor}' if anchor else ''})"

    return _outside_code(markdown, lambda text: _LINK.sub(rewrite, text))


def with_pictures(markdown: str, page: str) -> str:
    """Return the page's Markdown with its SVG files inlined, so that they take the page's colours."""
    folder = (ROOT / source_of(page)).parent

    def inline(match: re.Match[str]) -> str:
        if not match["target"].endswith(".svg"):
            return match[0]
        svg = (folder / match["target"]).read_text(encoding="utf-8")
        svg = re.sub(r"<style>.*?</style>\s*|<\?xml.*?\?>\s*", "", svg, flags=re.DOTALL)
        labelled = svg.replace("<svg ", f'<svg role="img" aria-label="{match["text"]}" ', 1)
        return f'<figure class="picture">{" ".join(labelled.split())}</figure>'

    return _outside_code(markdown, lambda text: _PICTURE.sub(inline, text))


def _local(target: str, file: str) -> tuple[str, str] | None:
    """Return the file and anchor of a link, None for another site or an anchor of the page itself."""
    path, _, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), path)), anchor


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return the Markdown with `change` applied to each line outside fenced blocks."""
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
