"""The engine gives the reference pipeline's logits for every published architecture, whatever shares the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from reference_models import TOLERANCE, Reference

from gliclass_spark.errors import LabelSetError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import Example, Label, LabelSet
from gliclass_spark.model.architectures.bi_encoder import BiEncoderModel

TEXTS = (
    "Spark!",
    "The quick brown fox jumps over the lazy dog again and again, in Zürich; nobody has asked it why.",
    "A text of more than a few words.",
)
LABELS = LabelSet.of("sport", "music", "web")
UNLIKE = LabelSet(labels=(Label(name="sport"), Label(name="machine learning", description="models"), Label(name="web")))
BI_ENCODERS: dict[str, dict[str, Any]] = {
    "bi-encoder": {"architecture_type": "bi-encoder", "pooling_strategy": "avg", "scorer_type": "mlp"},
    "fused": {"architecture_type": "bi-encoder-fused", "pooling_strategy": "max", "normalize_features": True},
    "fused, text first": {"architecture_type": "bi-encoder-fused", "prompt_first": False, "scorer_type": "hopfield"},
}
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "encoder-decoder": {"architecture_type": "encoder-decoder", "pooling_strategy": "avg", "use_lstm": True},
    "cross-attention": {
        "architecture_type": "encoder-decoder",
        "pooling_strategy": "pass",
        "scorer_type": "cross-attn",
        "class_token_pooling": "average",
    },
    "encoder-decoder-cls": {"architecture_type": "encoder-decoder-cls", "scorer_type": "weighted-dot"},
}
UNI_ENCODER: dict[str, Any] = {
    "pooling_strategy": "avg",
    "scorer_type": "hopfield",
    "use_lstm": True,
    "use_calibrator": True,
    "use_segment_embeddings": True,
    "prompt_first": True,
}
MODELS = {
    "uni-encoder": ("bert", UNI_ENCODER),
    **{name: ("deberta-v2", config) for name, config in BI_ENCODERS.items()},
    **{name: ("t5", config) for name, config in ENCODER_DECODERS.items()},
}

ModelPair = tuple[Reference, Engine]


@pytest.fixture(params=MODELS)
def pair(
    request: pytest.FixtureRequest, reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> ModelPair:
    backbone, config = MODELS[request.param]
    return reference(backbone, **config), engine(backbone, **config)


def reference_logits(reference: Reference, labels: LabelSet, text: str, **more: Any) -> list[float]:
    inputs = reference.model_inputs(text, labels.texts, **more)
    logits: list[float] = reference.forward(inputs, len(labels)).tolist()
    return logits


def assert_close(logits: FloatArray, expected: Any) -> None:
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("prompt", [None, "Find the topic:"])
def test_the_logits_are_the_reference_pipelines(pair: ModelPair, prompt: str | None) -> None:
    reference, engine = pair
    expected = [reference_logits(reference, LABELS, text, prompt=prompt) for text in TEXTS]
    assert np.ptp(expected, axis=1).min() > 20 * TOLERANCE
    assert_close(engine.logits(TEXTS, LABELS.model_copy(update={"prompt": prompt})), expected)


def test_a_text_has_its_logits_alone_in_any_order_and_in_any_batch(pair: ModelPair) -> None:
    _, engine = pair
    expected = np.concatenate([engine.logits([text], UNLIKE) for text in TEXTS])
    assert_close(engine.logits(TEXTS, UNLIKE), expected)
    assert_close(engine.logits(TEXTS[::-1], UNLIKE), expected[::-1])


@pytest.mark.parametrize("model", MODELS)
def test_in_bfloat16_a_text_has_its_scores_whatever_shares_its_batch(model: str, engine: Callable[..., Engine]) -> None:
    backbone, config = MODELS[model]
    half = engine(backbone, precision="bfloat16", **config)
    exact = engine(backbone, **config).scores(TEXTS, UNLIKE)
    alone = np.concatenate([half.scores([text], UNLIKE) for text in TEXTS])
    np.testing.assert_allclose(half.scores(TEXTS, UNLIKE), alone, atol=2e-2, rtol=0)
    np.testing.assert_allclose(alone, exact, atol=2e-2, rtol=0)


def test_texts_with_different_label_sets_share_batches(pair: ModelPair) -> None:
    _, engine = pair
    sets = [UNLIKE, LabelSet.of("web"), LABELS]
    results = engine.classify_each(TEXTS, sets)
    for text, label_set, result in zip(TEXTS, sets, results, strict=True):
        assert result.scores == pytest.approx(engine.classify([text], label_set)[0].scores, abs=TOLERANCE)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "bi-encoder"])
def test_examples_are_encoded_where_the_reference_encodes_them(
    model: str,
    reference: Callable[..., Reference],
    engine: Callable[..., Engine],
) -> None:
    backbone, config = MODELS[model]
    trained_on_examples = reference(backbone, with_examples=True, **config)
    label_set = LABELS.model_copy(update={"examples": (Example(text="We won the match", labels=("sport",)),)})
    examples = [{"text": "We won the match", "labels": ["sport"]}]
    expected = [reference_logits(trained_on_examples, LABELS, text, examples=examples) for text in TEXTS]
    assert_close(engine(backbone, with_examples=True, **config).logits(TEXTS, label_set), expected)


def test_a_bi_encoder_refuses_examples(engine: Callable[..., Engine]) -> None:
    label_set = LABELS.model_copy(update={"examples": (Example(text="We won", labels=("sport",)),)})
    with pytest.raises(LabelSetError, match="has examples, which a bi-encoder can't take"):
        engine("deberta-v2", **BI_ENCODERS["bi-encoder"]).logits(TEXTS, label_set)


def test_a_bi_encoder_encodes_each_label_as_the_reference_does_alone(
    reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    config: Mapping[str, Any] = BI_ENCODERS["bi-encoder"]
    alone = [LabelSet(labels=(label,)) for label in UNLIKE.labels]
    expected = [[reference_logits(reference("bert", **config), label, text)[0] for label in alone] for text in TEXTS]
    assert_close(engine("bert", **config).logits(TEXTS, UNLIKE), expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a<<LABEL>>b", "fine"], "label 'a<<LABEL>>b' holds a control token of the model's tokenizer; reword it"),
        (["fine", "[SEP]"], "label '[SEP]' holds a control token of the model's tokenizer; reword it"),
        (LABELS.replace(prompt="sort <<SEP>>"), "prompt 'sort <<SEP>>' holds a control token"),
        (LABELS.replace(prompt="sort the mail " * 500), "shorten"),
        ([], "holds no label; name at least one"),
    ],
    ids=["label token", "separator", "prompt with a token", "prompt longer than the window", "no labels"],
)
def test_invalid_labels_are_refused_by_every_architecture(labels: Any, message: str, pair: ModelPair) -> None:
    _, engine = pair
    with pytest.raises(LabelSetError) as refused:
        engine.logits(TEXTS, labels)
    assert message in str(refused.value)


@pytest.mark.long
def test_unusual_and_many_labels_are_scored_by_every_architecture(pair: ModelPair) -> None:
    _, engine = pair
    unusual = ["!!!", "спорт", "体育", "रियासत", "רياضة", "\N{GRINNING FACE}"]
    many = [f"{number}" for number in range(5000)]
    long = LabelSet(labels=(Label(name="water", description="a " * 350), Label(name="sea")))
    for labels in (unusual, many, long):
        results = engine.run(TEXTS[:1], labels)
        assert results.logits.shape == (1, len(labels))
        assert np.isfinite(results.logits).all()


@pytest.mark.parametrize("name", BI_ENCODERS)
def test_a_bi_encoder_encodes_each_label_once(
    name: str, engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    vectors = BiEncoderModel.label_vectors

    def counted(self: BiEncoderModel, input_ids: torch.Tensor, mask: torch.Tensor, **named: Any) -> torch.Tensor:
        encoded.append(len(input_ids))
        return vectors(self, input_ids, mask, **named)

    monkeypatch.setattr(BiEncoderModel, "label_vectors", counted)
    own = engine("modernbert", **BI_ENCODERS[name])
    for labels in (LABELS, LABELS, UNLIKE, LabelSet.of("web", "news")):
        own.logits(TEXTS, labels)
    assert sum(encoded) == len({*LABELS.texts, *UNLIKE.texts, "news"})
