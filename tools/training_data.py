"""Labelled text out of Debian's packages: what the embedded model learns from beside public data sets.

    apt-get install wordnet-base
    python tools/training_data.py OUT

Writes Parquet tables with the columns text, labels and split:

- wordnet_topics: the glosses of WordNet's nouns -> the fields they belong to (sport, law, ...).
- wordnet_kinds: the same -> what the thing is a kind of (tree, vehicle, ...).
- wordnet_domains: the same -> one of 25 broad domains (animal, food, person, ...).
- debian_sections: descriptions of Debian's packages -> their section.
- debian_tags: the same -> what they are for and about, several at once.

WordNet 3.0 is under the Princeton licence; Debian's descriptions are under the packages' licences, its tags in
the public domain.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

WORDNET = Path("/usr/share/wordnet/data.noun")
# lexnames(5WN): the numbers of the lexicographers' files of nouns.
_NOUNS = (
    *("act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession"),
    *("process", "quantity", "relation", "shape", "state", "substance", "time"),
)
DOMAINS = dict(enumerate(_NOUNS, start=4))
HYPERNYM, TOPIC = "@", ";c"
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
MIN_TEXTS = 25  # of a label
MIN_CHARS = 20  # of a text

Row = tuple[str, list[str]]


@dataclass(frozen=True)
class Synset:
    offset: str
    domain: int
    words: tuple[str, ...]
    pointers: tuple[tuple[str, str], ...]
    gloss: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--wordnet", type=Path, default=WORDNET)
    parser.add_argument("--packages", type=Path, help="the output of apt-cache dumpavail; default: it is asked")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    synsets = {synset.offset: synset for synset in map(read_synset, data_lines(options.wordnet))}
    packages = options.packages.read_text() if options.packages else dump()
    tables = {
        "wordnet_topics": pointed_at(synsets, TOPIC),
        "wordnet_kinds": pointed_at(synsets, HYPERNYM),
        "wordnet_domains": ((each.gloss, [DOMAINS.get(each.domain, "")]) for each in synsets.values()),
        "debian_sections": sections(packages),
        "debian_tags": tags(packages),
    }
    for name, rows in tables.items():
        kept = common(rows)
        pq.write_table(table(kept), options.out / f"{name}.parquet")
        print(f"{name}: {len(kept)} texts, {len({label for _, labels in kept for label in labels})} labels")


def dump() -> str:
    return subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout  # noqa: S607


def data_lines(path: Path) -> Iterator[str]:
    """Behind the licence, which is indented."""
    return (line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith(" "))


def read_synset(line: str) -> Synset:
    """A line of wndb(5WN): offset, domain, words, pointers | gloss."""
    head, _, gloss = line.partition("|")
    fields = head.split()
    count = int(fields[3], 16)
    words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
    rest = fields[5 + 2 * count :]
    pointers = tuple((rest[at], rest[at + 1]) for at in range(0, len(rest), 4))
    # Examples follow the definition in quotes; the field may stand before it in brackets, which would tell the answer.
    definition = re.sub(r"^\([^)]*\)\s*", "", gloss.split('; "')[0].strip())
    return Synset(fields[0], int(fields[1]), words, pointers, f"{words[0]}: {definition}")


def pointed_at(synsets: dict[str, Synset], kind: str) -> Iterator[Row]:
    for synset in synsets.values():
        yield synset.gloss, [synsets[to].words[0] for symbol, to in synset.pointers if symbol == kind and to in synsets]


def stanzas(packages: str) -> Iterator[dict[str, str]]:
    for stanza in packages.split("\n\n"):
        fields = re.findall(r"^([A-Za-z0-9-]+): (.*(?:\n .*)*)", stanza, flags=re.MULTILINE)
        if fields:
            yield dict(fields)


def sections(packages: str) -> Iterator[Row]:
    for fields in stanzas(packages):
        section = fields.get("Section", "").rpartition("/")[2]
        yield described(fields), [SECTIONS.get(section, section)]


def tags(packages: str) -> Iterator[Row]:
    for fields in stanzas(packages):
        found = re.findall(r"([a-z-]+)::([a-z0-9-]+)", fields.get("Tag", ""))
        yield described(fields), [name.replace("-", " ") for facet, name in found if facet in FACETS]


def described(fields: dict[str, str]) -> str:
    """The first line: the others are there for few packages."""
    return fields.get("Description", "").partition("\n")[0]


def common(rows: Iterable[Row]) -> list[Row]:
    """Each text once, with the labels that enough texts have; texts that are left without a label are left out."""
    unique = {text.strip(): sorted({label for label in labels if label}) for text, labels in rows}
    counts = Counter(label for labels in unique.values() for label in labels)
    kept = ((text, [label for label in labels if counts[label] >= MIN_TEXTS]) for text, labels in unique.items())
    return [(text, labels) for text, labels in kept if labels and len(text) >= MIN_CHARS]


def table(rows: list[Row]) -> pa.Table:
    return pa.table(
        {"text": [text for text, _ in rows], "labels": [labels for _, labels in rows], "split": ["train"] * len(rows)}
    )


if __name__ == "__main__":
    main()
