"""A batch's results as Arrow columns, without a Python object for each score."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema

from gliclass_spark.inference.results import FloatArray, Results
from gliclass_spark.model.location import ModelRef
from gliclass_spark.spark.schema import TAG_FIELDS

_TYPES = {field.name: field.type for field in to_arrow_schema(TAG_FIELDS)}


def tag_columns(results: Results, model: ModelRef) -> dict[str, pa.Array]:
    """The columns of `schema.TAG_FIELDS`, one row for each text: what `worker.tag_record` says row by row."""
    rows = len(results.errors)
    label_set = results.label_set
    names = pa.array(label_set.names, _TYPES["labels"].value_type)
    scored = np.array([error is None for error in results.errors], dtype=bool)
    scores = results.scores
    ranked = _ranked(scores)
    # As Python compares them: the score's float32 with the threshold's float64.
    passing = np.take_along_axis(scores.astype(np.float64) >= np.array(label_set.thresholds), ranked, axis=1)
    passing &= scored[:, np.newaxis]
    columns = {
        "label_set": pa.repeat(label_set.name, rows),
        "label_set_hash": pa.repeat(label_set.hash, rows),
        "scores": pa.MapArray.from_arrays(
            _offsets(scored * len(label_set)),
            names.take(pa.array(np.tile(np.arange(len(label_set)), int(scored.sum())))),
            pa.array(scores[scored].ravel()),
            type=_TYPES["scores"],
        ),
        "labels": pa.ListArray.from_arrays(
            _offsets(passing.sum(axis=1)), names.take(pa.array(ranked[passing])), type=_TYPES["labels"]
        ),
        "token_count": pa.array(results.token_counts),
        "chunk_count": pa.array(results.chunk_counts),
        "error": pa.array(
            [error and {"code": error.code, "message": error.message} for error in results.errors], _TYPES["error"]
        ),
        "model": pa.repeat(model.uri, rows),
        "model_digest": pa.repeat(model.digest, rows),
    }
    return {name: columns[name] for name in TAG_FIELDS.names}


def _ranked(scores: FloatArray) -> NDArray[np.intp]:
    """The labels' positions, best first; labels of equal score stand in the label set's order."""
    return np.argsort(-scores, axis=1, kind="stable")


def _offsets(lengths: NDArray[np.integer]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
