"""Books that Debian packages: a dictionary of computing, and sayings by topic."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

# Files of sayings that are no topic, or no English prose.
NO_TOPIC = {"ascii-art", "cookie", "debian", "disclaimer", "fortunes", "goedel", "knghtbrd", "linuxcookie", "magic"}
NO_TOPIC |= {"miscellaneous", "paradoxum", "pratchett", "tao", "translate-me", "zippy"}
TOPICS = {"men-women": "men and women", "songs-poems": "songs and poems", "startrek": "Star Trek"}


def foldoc(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Headwords at the left edge, under them `<subject, subject> text`, by paragraphs; {} marks a reference."""
    book = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    for entry in re.finditer(r"^   <([a-z, ]+)>((?:.+\n)+)", book, flags=re.MULTILINE):
        yield " ".join(re.sub(r"[{}]", "", entry[2]).split()), [name.strip() for name in entry[1].split(",")]


def fortunes(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A file for each topic; a line with a % behind each saying, and a line with two dashes before who said it."""
    for path in sorted(folder.iterdir()):
        if path.suffix or path.name in NO_TOPIC:
            continue
        for saying in re.split(r"^%\n", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE):
            yield " ".join(re.split(r"\n\s*-- ", saying)[0].split()), [TOPICS.get(path.name, path.name)]
