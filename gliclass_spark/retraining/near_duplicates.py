"""Near-duplicates: texts that share most of their word trigrams with one of a set, by MinHash."""

from __future__ import annotations

from collections.abc import Sequence

from datasketch import MinHash, MinHashLSH

from gliclass_spark.training.data.labelled_text import normalized_text

# Jaccard similarity of the trigrams from which a text is a near-duplicate.
SIMILARITY = 0.7
_WORDS = 3
# Of a longer text, its beginning: the training reads no more of it.
_MAX_WORDS = 1000
_PERMUTATIONS = 128
# The index misses half of the pairs at its own threshold, and few that are well above it; each hit is verified.
_INDEX_THRESHOLD = 0.5


def near_duplicates(texts: Sequence[str], of: Sequence[str]) -> frozenset[int]:
    """Return the positions of the texts that are near-duplicates of one of the texts `of`, or equal to one.

    Case and white space don't count. Texts of up to three words have no near-duplicates but equal texts.
    """
    references = [_shingles(text) for text in of]
    known = frozenset().union(*references)
    index = MinHashLSH(threshold=_INDEX_THRESHOLD, num_perm=_PERMUTATIONS)
    for position, hashed in enumerate(MinHash.generator(references, num_perm=_PERMUTATIONS)):
        index.insert(position, hashed)
    positions = set()
    for row, text in enumerate(texts):
        shingles = _shingles(text)
        # As many are shared with a near-duplicate alone; most texts of a table share few, and are not hashed.
        if len(shingles & known) < SIMILARITY * len(shingles):
            continue
        [hashed] = MinHash.bulk([shingles], num_perm=_PERMUTATIONS)
        if any(_similarity(shingles, references[position]) >= SIMILARITY for position in index.query(hashed)):
            positions.add(row)
    return frozenset(positions)


def _shingles(text: str) -> frozenset[bytes]:
    words = normalized_text(text).split()[:_MAX_WORDS]
    starts = range(max(len(words) - _WORDS, 0) + 1)
    return frozenset(" ".join(words[start : start + _WORDS]).encode(errors="surrogatepass") for start in starts)


def _similarity(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    return len(one & other) / len(one | other)
