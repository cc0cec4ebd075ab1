"""Reader of WordNet 3.0, as packaged in Debian's wordnet-base."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# lexnames(5WN): the lexicographers' files of nouns, 4 to 28, and of verbs, 29 to 43. Number 3 has the top nodes.
_NOUNS = (
    *("act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling"),
    *("food", "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession"),
    *("process", "quantity", "relation", "shape", "state", "substance", "time"),
)
_VERBS = (
    *("care of the body", "change", "thinking", "communication", "competition", "eating and drinking", "touch"),
    *("creation", "emotion", "motion", "perception", "possession", "social life", "being", "weather"),
)
DOMAINS = dict(enumerate((*_NOUNS, *_VERBS), start=4))
HYPERNYM, TOPIC = "@", ";c"


@dataclass(frozen=True)
class Synset:
    """A set of synonyms. domain: empty for the top nodes. pointers: kind and offset of another synset."""

    offset: str
    domain: str
    words: tuple[str, ...]
    pointers: tuple[tuple[str, str], ...]
    definition: str
    examples: tuple[str, ...]

    @property
    def gloss(self) -> str:
        return f"{self.words[0]}: {self.definition}"


def read(path: Path) -> dict[str, Synset]:
    """Return the synsets of a data file by offset. The indented lines at the top are the licence."""
    lines = path.read_text(encoding="utf-8").splitlines()
    synsets = [read_synset(line) for line in lines if line and not line.startswith(" ")]
    return {synset.offset: synset for synset in synsets}


def read_synset(line: str) -> Synset:
    """Parse a line of wndb(5WN): offset, domain, words, pointers | definition; "example"."""
    head, _, gloss = line.partition("|")
    fields = head.split()
    count = int(fields[3], 16)
    words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
    pointers = fields[5 + 2 * count : 5 + 2 * count + 4 * int(fields[4 + 2 * count])]
    definition, *_ = gloss.strip().split('; "')
    return Synset(
        offset=fields[0],
        domain=DOMAINS.get(int(fields[1]), ""),
        words=words,
        pointers=tuple(zip(pointers[::4], pointers[1::4], strict=True)),
        # The field may precede it in brackets, which would give the label away.
        definition=re.sub(r"^\([^)]*\)\s*", "", definition.strip()),
        examples=tuple(re.findall(r'"([^"]+)"', gloss)),
    )


def with_defined_word(synsets: Iterable[Synset]) -> Iterator[tuple[str, list[str]]]:
    """Yield definitions and words. Spelling variants ("air mail", "airmail") become the first one."""
    spelled: dict[str, str] = {}
    for synset in synsets:
        word = synset.words[0].lower()
        yield synset.definition, [spelled.setdefault(re.sub(r"[\W_]", "", word), word)]


def with_targets(synsets: dict[str, Synset], kind: str) -> Iterator[tuple[str, list[str]]]:
    """Yield glosses and the first words of the synsets that a kind of pointer leads to."""
    for synset in synsets.values():
        yield synset.gloss, [target.words[0] for target in _targets(synset, synsets, kind)]


def with_described_hypernyms(synsets: dict[str, Synset]) -> Iterator[tuple[str, list[str]]]:
    """Yield glosses and the glosses of their hypernyms, as labels with descriptions."""
    for synset in synsets.values():
        yield synset.gloss, [hypernym.gloss for hypernym in _targets(synset, synsets, HYPERNYM)]


def _targets(synset: Synset, synsets: dict[str, Synset], kind: str) -> list[Synset]:
    return [synsets[to] for symbol, to in synset.pointers if symbol == kind and to in synsets]
