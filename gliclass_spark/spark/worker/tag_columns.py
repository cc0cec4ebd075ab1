"""Tag columns: a batch's results as Arrow arrays, without a Python object per score."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.results import Results
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import FloatArray, Mask, passing_labels, rank_labels
from gliclass_spark.spark.delta.schema import TAG_FIELDS

_TYPES = {field.name: field.type for field in to_arrow_schema(TAG_FIELDS)}


def tag_columns(results: Results, model: ModelRef) -> dict[str, pa.Array]:
    """Return the columns `schema.TAG_FIELDS`, one row per text; equal to `scoring.tag_record` of each text."""
    rows = len(results.errors)
    label_set = results.label_set
    scored = np.array([error is None for error in results.errors], dtype=bool)
    scores = results.scores
    passing = passing_labels(scores, label_set) & scored[:, np.newaxis]
    columns = {
        "label_set": pa.repeat(label_set.name, rows),
        "label_set_hash": pa.repeat(label_set.hash, rows),
        "scores": label_maps(scores[scored], scored, label_set, _TYPES["scores"]),
        "labels": label_lists(passing, scores, label_set),
        "token_count": pa.array(results.token_counts),
        "chunk_count": pa.array(results.chunk_counts),
        "error": pa.array(
            [error and {"code": error.code, "message": error.message} for error in results.errors], _TYPES["error"]
        ),
        "model": pa.repeat(model.uri, rows),
        "model_digest": pa.repeat(model.digest, rows),
    }
    return {name: columns[name] for name in TAG_FIELDS.names}


def label_lists(chosen: Mask, scores: FloatArray, label_set: LabelSet) -> pa.ListArray:
    """Return the chosen labels of each row, best first. `chosen` and `scores` are (rows, labels)."""
    ranked = rank_labels(scores)
    ranked_chosen = np.take_along_axis(chosen, ranked, axis=1)
    names = _names(label_set).take(pa.array(ranked[ranked_chosen]))
    return pa.ListArray.from_arrays(_offsets(ranked_chosen.sum(axis=1)), names, type=_TYPES["labels"])


def label_maps(
    values: NDArray[np.floating], scored: Mask, label_set: LabelSet, map_type: pa.MapType, null: pa.BooleanArray = None
) -> pa.MapArray:
    """Return a map from label to value for each row, empty for rows without scores.

    values: (scored rows, labels). scored: (rows,). null: rows whose map is null.
    """
    keys = _names(label_set).take(pa.array(np.tile(np.arange(len(label_set)), len(values))))
    offsets = _offsets(scored * len(label_set))
    return pa.MapArray.from_arrays(offsets, keys, pa.array(values.ravel()), type=map_type, mask=null)


def _names(label_set: LabelSet) -> pa.StringArray:
    return pa.array(label_set.names, _TYPES["labels"].value_type)


def _offsets(lengths: NDArray[np.integer]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
