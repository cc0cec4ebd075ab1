"""Labelled texts from Debian's packages: training data of the embedded model's second generation.

Writes Parquet tables with the columns text, labels and split:

- wordnet_topics: glosses of WordNet's nouns -> their fields (sport, law, ...).
- wordnet_kinds: glosses of nouns -> their hypernyms (tree, vehicle, ...).
- wordnet_described: glosses of nouns -> their hypernyms, each with its definition.
- wordnet_domains: glosses of nouns -> one of 25 broad domains (animal, food, person, ...).
- wordnet_actions: example sentences of verbs -> one of 15 broad domains (motion, communication, ...).
- wordnet_words: definitions -> the defined word.
- debian_sections: descriptions of Debian's packages -> their section.
- debian_tags: descriptions of packages -> several tags about their purpose.
- foldoc_subjects: entries of the Free On-line Dictionary of Computing -> their subject.
- fortunes_topics: sayings -> their topic in fortune(6).

WordNet 3.0 is under the Princeton licence; Debian's descriptions are under the packages' licences, its tags in
the public domain; FOLDOC is under the GFDL; fortune's collection is under the BSD licence.
"""

from __future__ import annotations

import argparse
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from devtools.training_data import dictionaries, packages, wordnet

MIN_TEXTS = 25  # of a label
MIN_CHARS = 20  # of a text

Row = tuple[str, list[str]]


def add_command(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser("debian", help="make labelled text of Debian's packages")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--share", type=Path, default=Path("/usr/share"), help="the folder of the installed packages' files"
    )
    parser.add_argument("--packages", type=Path, help="a file with the output of apt-cache dumpavail; default: run it")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    descriptions = options.packages.read_text(encoding="utf-8") if options.packages else dump()
    for name, rows in tables(options.share, descriptions):
        pq.write_table(table(rows), options.out / f"{name}.parquet")
        print(f"{name}: {len(rows)} texts, {len({label for _, labels in rows for label in labels})} labels")


def tables(share: Path, descriptions: str) -> Iterator[tuple[str, list[Row]]]:
    """Yield the name and the rows of each table."""
    nouns = wordnet.read(share / "wordnet" / "data.noun")
    verbs = wordnet.read(share / "wordnet" / "data.verb")
    yield "wordnet_topics", common(wordnet.with_targets(nouns, wordnet.TOPIC))
    yield "wordnet_kinds", common(wordnet.with_targets(nouns, wordnet.HYPERNYM))
    yield "wordnet_described", common(wordnet.with_described_hypernyms(nouns))
    yield "wordnet_domains", common((noun.gloss, [noun.domain]) for noun in nouns.values())
    yield "wordnet_actions", common((text, [verb.domain]) for verb in verbs.values() for text in verb.examples)
    yield "wordnet_words", common(wordnet.with_defined_word([*nouns.values(), *verbs.values()]), min_texts=1)
    yield "debian_sections", common(packages.sections(descriptions))
    yield "debian_tags", common(packages.tags(descriptions))
    yield "foldoc_subjects", common(dictionaries.foldoc(share / "dictd" / "foldoc.dict.dz"))
    yield "fortunes_topics", common(dictionaries.fortunes(share / "games" / "fortunes"))


def dump() -> str:
    return subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout  # noqa: S607


def common(rows: Iterable[Row], min_texts: int = MIN_TEXTS) -> list[Row]:
    """Return unique texts with the labels of at least `min_texts` texts, without texts that have no such label."""
    unique = {text.strip(): sorted({label for label in labels if label}) for text, labels in rows}
    counts = Counter(label for labels in unique.values() for label in labels)
    kept = ((text, [label for label in labels if counts[label] >= min_texts]) for text, labels in unique.items())
    return [(text, labels) for text, labels in kept if labels and len(text) >= MIN_CHARS]


def table(rows: list[Row]) -> pa.Table:
    return pa.table(
        {"text": [text for text, _ in rows], "labels": [labels for _, labels in rows], "split": ["train"] * len(rows)}
    )
