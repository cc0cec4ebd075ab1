"""Readers of FOLDOC, a dictionary of computing, and of fortune, sayings by topic, as packaged by Debian."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

# Files of sayings without a topic, or without English prose.
NO_TOPIC = {"ascii-art", "cookie", "debian", "disclaimer", "fortunes", "goedel", "knghtbrd", "linuxcookie", "magic"}
NO_TOPIC |= {"miscellaneous", "paradoxum", "pratchett", "tao", "translate-me", "zippy"}
TOPICS = {"men-women": "men and women", "songs-poems": "songs and poems", "startrek": "Star Trek"}


def foldoc(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield texts and subjects. Below each headword are paragraphs `<subject, subject> text`; {} marks a reference."""
    book = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    for entry in re.finditer(r"^   <([a-z, ]+)>((?:.+\n)+)", book, flags=re.MULTILINE):
        yield " ".join(re.sub(r"[{}]", "", entry[2]).split()), [name.strip() for name in entry[1].split(",")]


def fortunes(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield sayings and topics. There is a file for each topic; sayings end with a line "%", authors follow "--"."""
    for path in sorted(folder.iterdir()):
        if path.suffix or path.name in NO_TOPIC:
            continue
        for saying in re.split(r"^%\n", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE):
            yield " ".join(re.split(r"\n\s*-- ", saying)[0].split()), [TOPICS.get(path.name, path.name)]
