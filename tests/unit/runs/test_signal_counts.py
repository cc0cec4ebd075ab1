"""Signals about a pipeline's labels, counted without Spark."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.signal_counts import count_signals

# (label, labels): a label's signal, or a document's; a late signal about a document has neither.
Signal = tuple[str | None, list[str] | None]
SIGNALS = st.one_of(
    st.tuples(st.sampled_from(["lake", "it's late", "gone"]), st.none()),
    st.tuples(
        st.none(), st.sampled_from([None, [], ["lake"], ["it's late", "lake"], ["gone"], ["gone", "lake"], [""]])
    ),
)
LABELS = {"lake", "it's late"}


def counted(signals: list[Signal], folder: Path) -> int:
    pipeline = Pipeline.model_validate(
        {
            "name": "mail",
            "source": {"path": "mail", "id": "id", "text": "body"},
            "label_set": sorted(LABELS),
            "model": "embedded",
            "tables": str(folder),
        }
    )
    label_set_hash = pipeline.label_set.hash
    write_deltalake(str(folder / "runs"), pa.table({"pipeline": ["mail"], "label_set_hash": [label_set_hash]}))
    columns = {
        "label_set_hash": pa.array([label_set_hash] * len(signals)),
        "label": pa.array([label for label, _ in signals], pa.string()),
        "labels": pa.array([labels for _, labels in signals], pa.list_(pa.string())),
    }
    write_deltalake(str(folder / "feedback"), pa.table(columns))
    return count_signals(pipeline)


# DataFusion's array_has_all answers false for a null list behind certain others.
def test_a_late_signal_about_a_document_counts_whatever_is_before_it(tmp_path: Path) -> None:
    signals: list[Signal] = [
        (None, ["it's late", "lake"]),
        (None, []),
        (None, ["lake"]),
        (None, None),
        (None, ["lake"]),
    ]
    assert counted(signals, tmp_path) == 5


@settings(max_examples=200, deadline=None)
@given(signals=st.lists(SIGNALS, min_size=1, max_size=30))
def test_signals_count_if_the_label_set_has_all_of_their_labels(signals: list[Signal]) -> None:
    with TemporaryDirectory() as folder:
        assert counted(signals, Path(folder)) == sum(
            {label, *(labels or ())} - {None} <= LABELS for label, labels in signals
        )
