"""The fenced blocks of the documentation, and which pages' blocks are run as they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Every block of these is run, in order, in an empty folder, by tests/spark/test_docs_pages.py.
RUN_PAGES = ("quickstart.md", *(f"howto/{page.name}" for page in sorted((DOCS / "howto").glob("*.md"))))
_BLOCK = re.compile(
    r"^```(?P<language>[a-z]*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", flags=re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """language: python and bash are run; yaml, json and csv with a title are files, yaml without is a part of one;
    text is what the block before printed; console is typed elsewhere: on a cluster, or without an end.
    """

    page: str
    language: str
    title: str | None
    text: str


def pages() -> list[Path]:
    """Every file that is a page of the site."""
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    assert 2 * len(found) == len(re.findall(r"^```", text, flags=re.MULTILINE)), f"{page}: a block that can't be read"
    name = page.relative_to(DOCS).as_posix() if page.is_relative_to(DOCS) else page.name
    for block in found:
        yield Block(name, block["language"], block["title"], block["text"])
