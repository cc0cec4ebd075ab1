"""The fenced blocks of the documentation, and the pages whose blocks are run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Every block of these is run, in order, in an empty folder, by tests/spark/pages/test_docs_pages.py.
_OTHERS = ("dbt.md", "stream.md")  # have tests of their own
RUN_PAGES = (
    "quickstart.md",
    *(f"howto/{page.name}" for page in sorted((DOCS / "howto").glob("*.md")) if page.name not in _OTHERS),
)
_BLOCK = re.compile(
    r"^```(?P<language>[a-z]*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", flags=re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    language: python and bash are run; yaml, json, csv and sql with a title are files, yaml without one is a part of
    one; text is the output of the block before; console is not run, because it needs a cluster or does not end.
    """

    page: str
    language: str
    title: str | None
    text: str


def pages() -> list[Path]:
    """Return the Markdown files that are pages of the site."""
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    matches = list(_BLOCK.finditer(text))
    assert 2 * len(matches) == len(re.findall(r"^```", text, flags=re.MULTILINE)), f"{page}: a block can't be parsed"
    name = page.relative_to(DOCS).as_posix() if page.is_relative_to(DOCS) else page.name
    for match in matches:
        yield Block(name, match["language"], match["title"], match["text"])
