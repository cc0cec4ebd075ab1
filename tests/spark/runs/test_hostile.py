"""Hostile texts: none fails the job, and none changes the score of another text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from gliclass_spark import Engine, LabelSet
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms.tagging import tag
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

pytestmark = pytest.mark.long

LABELS = LabelSet.of("spam", "ham", "lake")
HOSTILE = 10_000
NEIGHBOURS = [
    f"neighbour {number} speaks of a lake of data" + " and of tables" * (number % 30) for number in range(200)
]

injections = st.sampled_from(
    [
        "<<LABEL>>",
        "<<SEP>>",
        "[CLS]",
        "[SEP]",
        "[PAD]",
        "[MASK]",
        "<s>",
        "</s>",
        "{}",
        "%s",
        "\\",
        "'; DROP TABLE tags; --",
    ]
)
pieces = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    injections,
    st.characters(categories=["Cc", "Cf", "Co", "Mn", "Zl", "Zp", "So"]),
    st.sampled_from(["a" * 5000, "\u202e", "\0", "🏴‍☠️" * 50, "א" * 300, "\n" * 1000, "https://x.y/" + "z" * 3000, " "]),
)


def as_bytes(piece: str | bytes) -> bytes:
    return piece if isinstance(piece, bytes) else piece.encode("utf-8", errors="surrogatepass")


hostile = st.lists(pieces, max_size=4).map(lambda parts: b"".join(map(as_bytes, parts)))


def fuzzed() -> list[bytes]:
    generated: list[bytes] = []

    @settings(
        max_examples=1500, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(hostile, min_size=8, max_size=16))
    def gather(texts: list[bytes]) -> None:
        generated.extend(texts)

    gather()
    assert len(generated) >= HOSTILE
    return generated[:HOSTILE]


def test_promise_3_ten_thousand_hostile_texts_fail_no_job_and_change_no_other_score(
    spark: SparkSession, tiny_bi_encoder: str
) -> None:
    texts = fuzzed()
    step = len(texts) // len(NEIGHBOURS)
    for position, neighbour in enumerate(NEIGHBOURS):
        texts.insert(position * (step + 1), neighbour.encode())
    records = [(str(position), bytearray(text)) for position, text in enumerate(texts)]
    documents = spark.createDataFrame(records, "doc_id string, body binary")
    settings_ = WorkerSettings(resolve_model(tiny_bi_encoder), "cpu", "float32", 1)
    rows = tag(with_content(documents, "body"), len(texts), LABELS, settings_, "fuzz").collect()
    assert len(rows) == len(texts)
    by_id = {int(row["doc_id"]): row for row in rows}
    for row in rows:
        if row["error"] is None:
            assert set(row["scores"]) == set(LABELS.names)
            assert all(0.0 <= score <= 1.0 for score in row["scores"].values())
        else:
            assert row["scores"] == {}
            assert row["error"]["code"] in {"empty_text", "undecodable_text"}
    expected = Engine.from_pretrained(tiny_bi_encoder, device="cpu", precision="float32").scores(NEIGHBOURS, LABELS)
    maps = [by_id[position * (step + 1)]["scores"] for position in range(len(NEIGHBOURS))]
    scores = np.array([[score_map[label] for label in LABELS.names] for score_map in maps])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
