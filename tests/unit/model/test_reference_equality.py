"""Our model gives the reference library's logits, for the same token ids, within 1e-5."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from gliclass import GLiClassModel as ReferenceModel
from reference_models import (
    BACKBONES,
    CLASS_TOKEN_POOLINGS,
    HEADS,
    OPTIONS,
    PUBLISHED,
    TOLERANCE,
    Cell,
    Reference,
    build,
    cells,
    logits_alone,
)

from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.model import checkpoint, location
from gliclass_spark.model.pooling import POOLINGS
from gliclass_spark.model.scoring import SCORERS

LABELS = LabelSet(labels=(Label(name="sport"), Label(name="machine learning", description="models"), Label(name="web")))
TEXTS = (
    "Spark",
    "The quick brown fox jumps over the lazy dog again and again, in Zürich; nobody has asked it why.",
)


def sample(matrix: Iterable[Cell]) -> Iterator[Cell]:
    """Few cells of the matrix in which every pair of two settings occurs: the head of one cell may hide another's."""
    left = list(matrix)
    Random(0).shuffle(left)  # noqa: S311
    pairs = {cell: set(combinations(vars(cell).items(), 2)) for cell in left}
    waiting = set().union(*pairs.values())
    while waiting:
        best = max(left, key=lambda cell: len(pairs[cell] & waiting))
        waiting -= pairs[best]
        yield best


SAMPLE = list(sample(cells()))


def padded(inputs: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, inputs)) + 5
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in inputs])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in inputs])
    return ids, mask


def test_the_matrix_holds_every_pooling_and_every_scorer_that_is_supported() -> None:
    assert {pooling for pooling, _ in HEADS} == set(POOLINGS)
    assert {scorer for _, scorer in HEADS} == set(SCORERS)
    settings = {(name, value) for cell in SAMPLE for name, value in vars(cell).items()}
    assert {value for name, value in settings if name == "backbone"} == set(BACKBONES)
    assert {value for name, value in settings if name == "class_token_pooling"} == set(CLASS_TOKEN_POOLINGS)
    assert {value for name, value in settings if name == "option"} == set(OPTIONS)


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_logits_are_the_references(cell: Cell) -> None:
    reference = build(cell.backbone, **cell.changes)
    ours = reference.twin()
    inputs = [reference.input_ids(text, LABELS.texts) for text in TEXTS]
    expected = torch.stack([reference.logits(ids) for ids in inputs])
    assert (expected.amax(dim=1) - expected.amin(dim=1)).min() > 1e-3, "the labels' logits must differ to be compared"
    alone = torch.stack([logits_alone(ours, ids) for ids in inputs])
    torch.testing.assert_close(alone, expected, atol=TOLERANCE, rtol=0)
    with torch.inference_mode():
        together = ours(*padded(inputs))
    torch.testing.assert_close(together, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_engine_gives_the_references_logits_for_the_heads_that_are_published(
    name: str, backbone: str, reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    config = PUBLISHED[name][1]
    theirs = reference(backbone, **config)
    expected = [theirs.logits(theirs.input_ids(text, LABELS.texts)).tolist() for text in TEXTS]
    found = engine(backbone, **config).logits(TEXTS, LABELS)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_a_task_prompt_is_read_as_the_reference_reads_it(
    reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    backbone, config = PUBLISHED["instruct-edge"]
    theirs = reference(backbone, **config)
    asked = LABELS.model_copy(update={"prompt": "Find the topic: "})
    expected = [theirs.logits(theirs.input_ids(text, LABELS.texts, asked.prompt)).tolist() for text in TEXTS]
    np.testing.assert_allclose(engine(backbone, **config).logits(TEXTS, asked), expected, atol=TOLERANCE, rtol=0)
    without = engine(backbone, **config).logits(TEXTS, LABELS)
    assert np.abs(without - expected).max() > 1e-3


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reference_loads_what_we_save(name: str, reference: Callable[..., Reference]) -> None:
    backbone, config = PUBLISHED[name]
    original = reference(backbone, **config)
    loaded = checkpoint.load(location.resolve(str(original.folder)))
    with TemporaryDirectory() as folder:
        checkpoint.save(loaded.model, loaded.tokenizer, folder)
        model, report = ReferenceModel.from_pretrained(folder, output_loading_info=True)
        again = checkpoint.load(location.resolve(folder))
    assert report["missing_keys"] == set()
    assert report["unexpected_keys"] == set()
    for text in TEXTS:
        ids = original.input_ids(text, LABELS.texts)
        expected = original.logits(ids)
        torch.testing.assert_close(Reference(model.eval()).logits(ids), expected, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(logits_alone(again.model, ids), expected, atol=TOLERANCE, rtol=0)
