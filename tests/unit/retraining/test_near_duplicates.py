"""Near-duplicates of texts, by hand and against all pairs."""

from __future__ import annotations

import numpy as np

from gliclass_spark.retraining.near_duplicates import SIMILARITY, near_duplicates

REPORT = "the board met on monday and approved the plan for a new bridge over the river near the old mill"


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + 3]) for start in range(len(words) - 2)}


def test_texts_with_small_changes_are_near_duplicates_and_others_are_not() -> None:
    texts = [REPORT.upper(), f"{REPORT} today", REPORT.replace("bridge", "tunnel"), REPORT[:40], "a bridge", ""]
    assert near_duplicates(texts, [REPORT, "an unrelated text about cats"]) == {0, 1, 2}
    assert near_duplicates(["A  bridge", "a bridges"], ["a bridge"]) == {0}
    assert near_duplicates(texts, []) == near_duplicates([], [REPORT]) == frozenset()


def similarity(one: str, other: str) -> float:
    first, second = trigrams(one), trigrams(other)
    return len(first & second) / len(first | second)


def test_the_index_finds_what_a_comparison_of_all_pairs_finds() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(300)])
    originals = rng.choice(words, (60, 60))
    is_changed = rng.random(originals.shape) < rng.random((60, 1)) * 0.2
    copies = np.where(is_changed, rng.choice(words, originals.shape), originals)
    references, texts = ([" ".join(row) for row in rows] for rows in (originals, copies))
    expected = {
        row for row, text in enumerate(texts) if max(similarity(text, each) for each in references) >= SIMILARITY
    }
    assert 10 < len(expected) < 50
    missed = expected - near_duplicates(texts, references)
    assert len(missed) <= 1
    assert near_duplicates(texts, references) <= expected
