"""gliclass_udf: classify a text column, in the DataFrame API and in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import DataType, FloatType, MapType, StringType

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import ConfigError
from gliclass_spark.inference.results import Classification
from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.spark.delta.schema import SCORED_LABELS, TAG_FIELDS
from gliclass_spark.spark.session import threads_per_task
from gliclass_spark.spark.worker.resource_profile import gpu_sharing
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from gliclass_spark.inference.device import Precision

Output = Literal["labels", "scores", "full"]

_TYPES: dict[str, DataType] = {
    "labels": SCORED_LABELS,
    "scores": MapType(StringType(), FloatType()),
    "full": TAG_FIELDS,
}


def gliclass_udf(
    labels: LabelSet | Sequence[str] | Tree | None = None,
    *,
    model: str = "embedded",
    output: Output = "labels",
    device: str | None = None,
    precision: Precision = "auto",
) -> Callable[..., Column]:
    """A function of a text column: `df.withColumn("labels", gliclass_udf(["spam", "ham"])("text"))`.

    labels: without them the function takes a second column, array<string>, with each row's own labels:
        `gliclass_udf()("text", "candidates")`.
    model: "embedded", a folder, a hub id (org/name@revision), a folder of a store (s3://bucket/folder), or
        models:/NAME@champion. Every worker finds the very files that it stands for now, or says why not.
    output:
        "labels": array<struct<label,score>>, the labels that thresholds give, best first.
        "scores": map<string,float>, the probability of every label.
        "full": the struct of the `tags` table, which also says why a text could not be scored.

    A null text gives null. A text that can't be scored (empty, not valid Unicode, ...) gives null too,
    but for "full", whose `error` tells; so does a row whose own labels can't be asked (none, one of them
    twice, ...). The model is resolved here, once, and loaded once by each Python worker. To Spark the
    function is non-deterministic: reading two fields of its result does not run the model twice.
    Raises LabelSetError, ConfigError, ModelNotFoundError, CheckpointError.
    """
    call = _prepare(labels, model, output, device, precision)
    expected = ("text",) if labels is not None else ("text", "labels")

    def classify(*columns: Column | str) -> Column:
        if len(columns) != len(expected):
            raise ConfigError(
                f"this function takes {len(expected)} column(s), {' and '.join(expected)}, found {len(columns)}; "
                "labels are given either to gliclass_udf, for all rows, or as a column, for each"
            )
        text, *own = [F.col(column) if isinstance(column, str) else column for column in columns]
        function = call(SparkSession.active())
        # As bytes, because Spark's strings may hold invalid UTF-8, which pandas would stop at.
        return F.when(text.isNotNull(), function(text.cast("string").cast("binary"), *own))

    return classify


def register_gliclass(
    spark: SparkSession,
    name: str,
    labels: LabelSet | Sequence[str] | Tree | None = None,
    *,
    model: str = "embedded",
    output: Output = "labels",
    device: str | None = None,
    precision: Precision = "auto",
) -> None:
    """Make `SELECT name(text) FROM ...` work in this session, or without labels `SELECT name(text, labels)`.

    Arguments and results are gliclass_udf's. Spark takes no SQL function inside explode(): give its labels a name
    in a subquery, and explode that.
    """
    if not name.isidentifier() or not name.isascii():
        raise ConfigError(f"{name!r} can't be the name of a SQL function; use letters, digits and _")
    function = _prepare(labels, model, output, device, precision)(spark)
    inner = f"__gliclass_{name}"
    spark.udf.register(inner, function)
    more_parameters, more_arguments = (", labels ARRAY<STRING>", ", labels") if labels is None else ("", "")
    # A SQL function around it: it gives null for null, and hands over bytes, as gliclass_udf does.
    spark.sql(
        f"CREATE OR REPLACE TEMPORARY FUNCTION {name}(text STRING{more_parameters}) "
        f"RETURNS {_TYPES[output].simpleString()} "
        f"RETURN CASE WHEN text IS NOT NULL THEN {inner}(CAST(text AS BINARY){more_arguments}) END"
    )


def _prepare(
    labels: LabelSet | Sequence[str] | Tree | None, model: str, output: Output, device: str | None, precision: Precision
) -> Callable[[SparkSession], Any]:
    """Check everything now; what needs a session is made when there is one."""
    label_set = None if labels is None else LabelSet.coerce(labels)
    if output not in _TYPES:
        raise ConfigError(f"output {output!r} is unknown; use one of {', '.join(_TYPES)}")
    ref = resolve_model(model)

    def with_session(spark: SparkSession) -> Any:
        settings = WorkerSettings(ref, device, precision, threads_per_task(spark), gpu_sharing(spark))
        if label_set is None:
            return _of_own_labels(settings, output)
        return _of_one_label_set(_shared(spark, label_set.canonical_json), settings, output)

    return with_session


def _shared(spark: SparkSession, text: str) -> Callable[[], str]:
    """Gives `text` on the workers: by broadcast where the session has one, else inside the function itself."""
    context = getattr(spark, "_sc", None)
    if context is None:  # Spark Connect
        return lambda: text
    broadcast = context.broadcast(text)
    return lambda: str(broadcast.value)


def _of_one_label_set(label_set_json: Callable[[], str], settings: WorkerSettings, output: Output) -> Any:
    def classify(batches: Iterator[pd.Series]) -> Iterator[Any]:
        from gliclass_spark.spark.worker import scoring

        for _, results, _ in scoring.classify(batches, pd.Series.tolist, label_set_json(), settings):
            yield _column([(found, results.label_set) for found in results.classifications()], output, settings.model)

    return _pandas_udf(classify, Iterator[pd.Series], output)


def _of_own_labels(settings: WorkerSettings, output: Output) -> Any:
    def classify(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[Any]:
        from gliclass_spark.spark.worker import scoring

        asked = ((texts.tolist(), [_listed(own) for own in labels]) for texts, labels in batches)
        for answers in scoring.classify_each(asked, settings):
            yield _column([(given.classification, given.label_set) for given in answers], output, settings.model)

    return _pandas_udf(classify, Iterator[tuple[pd.Series, pd.Series]], output)


def _listed(labels: Any) -> list[str] | None:
    """A cell of an array column, which comes as a NumPy array."""
    return None if labels is None else list(labels)


def _pandas_udf(classify: Any, batches: Any, output: Output) -> Any:
    # Annotations are read when the function is made, so they name the types themselves.
    returned: Any = pd.DataFrame if output == "full" else pd.Series
    classify.__annotations__ = {"batches": batches, "return": Iterator[returned]}
    as_udf: Any = pandas_udf  # its stubs know no struct as a result
    return as_udf(classify, returnType=_TYPES[output]).asNondeterministic()


def _column(found: list[tuple[Classification, LabelSet | None]], output: Output, model: ModelRef) -> Any:
    if output == "full":
        from gliclass_spark.spark.worker import scoring

        records = [scoring.tag_record(item, label_set, model) for item, label_set in found]
        return pd.DataFrame(records, columns=TAG_FIELDS.names)
    return pd.Series([_value(item, output) for item, _ in found], dtype=object)


def _value(found: Classification, output: Output) -> Any:
    if found.error:
        return None
    if output == "scores":
        return found.scores
    return [{"label": scored.label, "score": scored.score} for scored in found.labels]
