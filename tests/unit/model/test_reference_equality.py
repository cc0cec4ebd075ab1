"""The models give the reference library's logits for the same token ids, within 1e-5."""

from __future__ import annotations

from collections.abc import Callable
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from gliclass import GLiClassModel as ReferenceModel
from reference_cells import BACKBONES, HEADS, SPACES, Cell, cells, sample
from reference_models import PUBLISHED, TOLERANCE, Reference, batch_logits, build, single_logits

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


def test_the_matrix_covers_every_supported_pooling_and_scorer() -> None:
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
    model = reference.twin()
    inputs = [reference.model_inputs(text, cell.labels) for text in TEXTS]
    expected = torch.stack([reference.forward(row, len(cell.labels)) for row in inputs])
    spread = expected.amax(dim=1) - expected.amin(dim=1)
    assert spread.min() > 20 * TOLERANCE, "the labels' logits must differ to be compared"
    alone = torch.cat([batch_logits(model, [row]) for row in inputs])
    torch.testing.assert_close(alone, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(batch_logits(model, inputs, padding=5), expected, atol=TOLERANCE, rtol=0)


def test_an_input_with_examples_has_the_segments_of_the_published_training() -> None:
    example = 103
    reference = build(use_segment_embeddings=True, example_token_index=example)
    plain = reference.input_ids(TEXTS[1], LABELS.texts)
    token_ids = [plain, [*plain[:-1], example, *plain[-4:-1], 2003, plain[-1]]]
    expected = torch.stack([reference.logits(ids) for ids in token_ids])
    inputs = [{"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids))} for ids in token_ids]
    together = batch_logits(reference.twin(), inputs, padding=5)
    torch.testing.assert_close(together, expected, atol=TOLERANCE, rtol=0)
    unmarked = build(use_segment_embeddings=True).logits(token_ids[1])
    assert (unmarked - expected[1]).abs().max() > 1e-3


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_engine_gives_the_references_logits_for_the_published_heads(
    name: str, backbone: str, reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    config = PUBLISHED[name][1]
    reference_model = reference(backbone, **config)
    expected = [reference_model.logits(reference_model.input_ids(text, LABELS.texts)).tolist() for text in TEXTS]
    logits = engine(backbone, **config).logits(TEXTS, LABELS)
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)


def test_a_task_prompt_gives_the_references_logits(
    reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    backbone, config = PUBLISHED["instruct-edge"]
    reference_model = reference(backbone, **config)
    label_set = LABELS.model_copy(update={"prompt": "Find the topic: "})
    expected = [
        reference_model.logits(reference_model.input_ids(text, LABELS.texts, label_set.prompt)).tolist()
        for text in TEXTS
    ]
    np.testing.assert_allclose(engine(backbone, **config).logits(TEXTS, label_set), expected, atol=TOLERANCE, rtol=0)
    without = engine(backbone, **config).logits(TEXTS, LABELS)
    assert np.abs(without - expected).max() > 1e-3


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reference_loads_saved_checkpoints(name: str, reference: Callable[..., Reference]) -> None:
    backbone, config = PUBLISHED[name]
    original = reference(backbone, **config)
    loaded = checkpoint.load(resolve_model(str(original.folder)))
    with TemporaryDirectory() as folder:
        checkpoint.save(loaded.model, loaded.tokenizer, folder)
        model, report = ReferenceModel.from_pretrained(folder, output_loading_info=True)
        reloaded = checkpoint.load(resolve_model(folder))
    assert report["missing_keys"] == set()
    assert report["unexpected_keys"] == set()
    for text in TEXTS:
        ids = original.input_ids(text, LABELS.texts)
        expected = original.logits(ids)
        torch.testing.assert_close(Reference(model.eval()).logits(ids), expected, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(single_logits(reloaded.model, ids), expected, atol=TOLERANCE, rtol=0)
