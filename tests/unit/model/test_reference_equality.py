"""Our model gives the reference library's logits, for the same token ids, within 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from gliclass import GLiClassModel as ReferenceModel
from reference_cells import BACKBONES, HEADS, SPACES, Cell, cells, sample
from reference_models import PUBLISHED, TOLERANCE, Reference, answers, build, logits_alone

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.heads.pooling import POOLINGS
from gliclass_spark.model.heads.scorers import SCORERS

LABELS = LabelSet(labels=(Label(name="sport"), Label(name="machine learning", description="models"), Label(name="web")))
TEXTS = (
    "Spark",
    "The quick brown fox jumps over the lazy dog again and again, in Zürich; nobody has asked it why.",
)


PUBLISHED_ARCHITECTURES = ("uni-encoder", "bi-encoder", "bi-encoder-fused", "encoder-decoder", "encoder-decoder-cls")
SAMPLE = list(sample(cells()))


def test_the_matrix_holds_every_pooling_and_every_scorer_that_is_supported() -> None:
    assert {pooling for pooling, _ in HEADS} == set(POOLINGS)
    assert {scorer for _, scorer in HEADS} == set(SCORERS)
    assert set(SPACES) == set(PUBLISHED_ARCHITECTURES)
    for architecture, space in SPACES.items():
        sampled = [cell for cell in SAMPLE if cell.architecture == architecture]
        assert {cell.backbone for cell in sampled} == set(space.backbones)
        assert {cell.class_token_pooling for cell in sampled} == set(space.class_token_poolings)
        assert {cell.option for cell in sampled} == set(space.options)


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_logits_are_the_references(cell: Cell) -> None:
    reference = build(cell.backbone, **cell.changes)
    ours = reference.twin()
    asked = [reference.asked(text, cell.labels) for text in TEXTS]
    expected = torch.stack([reference.answer(each, len(cell.labels)) for each in asked])
    differ = expected.amax(dim=1) - expected.amin(dim=1)
    assert differ.min() > 20 * TOLERANCE, "the labels' logits must differ to be compared"
    alone = torch.cat([answers(ours, [each]) for each in asked])
    torch.testing.assert_close(alone, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(answers(ours, asked, padding=5), expected, atol=TOLERANCE, rtol=0)


def test_an_input_with_examples_has_the_segments_that_the_published_weights_were_trained_with() -> None:
    example = 103
    reference = build(use_segment_embeddings=True, example_token_index=example)
    plain = reference.input_ids(TEXTS[1], LABELS.texts)
    inputs = [plain, [*plain[:-1], example, *plain[-4:-1], 2003, plain[-1]]]
    expected = torch.stack([reference.logits(ids) for ids in inputs])
    asked = [{"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))} for ids in inputs]
    together = answers(reference.twin(), asked, padding=5)
    torch.testing.assert_close(together, expected, atol=TOLERANCE, rtol=0)
    unmarked = build(use_segment_embeddings=True).logits(inputs[1])
    assert (unmarked - expected[1]).abs().max() > 1e-3


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
    loaded = checkpoint.load(resolve_model(str(original.folder)))
    with TemporaryDirectory() as folder:
        checkpoint.save(loaded.model, loaded.tokenizer, folder)
        model, report = ReferenceModel.from_pretrained(folder, output_loading_info=True)
        again = checkpoint.load(resolve_model(folder))
    assert report["missing_keys"] == set()
    assert report["unexpected_keys"] == set()
    for text in TEXTS:
        ids = original.input_ids(text, LABELS.texts)
        expected = original.logits(ids)
        torch.testing.assert_close(Reference(model.eval()).logits(ids), expected, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(logits_alone(again.model, ids), expected, atol=TOLERANCE, rtol=0)
