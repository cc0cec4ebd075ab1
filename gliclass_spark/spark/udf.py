"""UDFs that classify a text column, in the DataFrame API and in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import ArrayType, StringType

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import ConfigError, LabelSetError
from gliclass_spark.inference.results import Classification
from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.spark.delta.schema import TAG_FIELDS
from gliclass_spark.spark.session import broadcast_text, threads_per_task
from gliclass_spark.spark.udf_arguments import (
    OUTPUT_TYPES,
    LabelOptions,
    Output,
    check_device,
    check_model,
    check_output,
    check_precision,
)
from gliclass_spark.spark.worker.resource_profile import gpu_sharing
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

if TYPE_CHECKING:
    from gliclass_spark.inference.device import Precision


def gliclass_udf(
    labels: LabelSet | Sequence[str] | Tree | None = None,
    *,
    threshold: float | None = None,
    multi_label: bool | None = None,
    top_k: int | None = None,
    model: str | ModelRef = "embedded",
    output: Output = "labels",
    device: str | None = None,
    precision: Precision = "auto",
    registry: str | None = None,
) -> Callable[..., Column]:
    """Return a function of a text column: `df.withColumn("labels", gliclass_udf(["spam", "ham"])("text"))`.

    labels: names, a tree, or a LabelSet. Without them the function takes a second column, array<string>, with each
        row's own labels: `gliclass_udf()("text", "candidates")`.
    threshold: the score from which a label is assigned; None: the label set's, 0.5 for names. A label with a
        threshold of its own keeps it.
    multi_label: True: each label is scored independently. False: the labels exclude each other, and their scores sum
        to 1. None: the label set's, True for names.
    top_k: at most this many labels per text; None: the label set's, without a limit for names.
    model: a model URI: "embedded", a folder, a hub id (org/name@revision), a folder of an object store
        (s3://bucket/folder), or models:/NAME@champion. It is resolved here, once; the workers load the same files, or
        fail with both digests. Each Python worker loads the model once.
    output:
        "labels": array<struct<label,score>>, the labels whose score reaches their threshold, best first.
        "best": string, the first of these labels; null if no score reaches its threshold.
        "scores": map<string,float>, the probability in [0, 1] of every label.
        "full": the struct of the `tags` table, with the error of a text without scores.
    device: "cpu", "cuda", "cuda:1", ...; None: the GPU that Spark assigned to the task; without one, any visible GPU,
        else the processor.
    precision: "float32", "bfloat16", "int8" or "auto", see `Engine.from_pretrained`.
    registry: MLflow tracking URI of a models:/ model; None: the environment's.

    The result is named as the call, `gliclass(text)`, until it gets another name. It is null for a null text. It is
    also null for a text that can't be scored (empty, not valid Unicode, ...) or whose own labels are invalid (none, a
    duplicate, ...), except with "full", where `error` gives the reason. The function is marked non-deterministic, so
    that Spark does not run the model twice when a query reads two fields of the result. For the same reason Spark
    refuses it in an aggregate and in a join's condition: name its result with withColumn first, and aggregate or join
    by that column. `F.explode(function("text"))` gives a row for each label. Of the output "labels", the first is
    `F.get("labels", F.lit(0))`, which is null for a text without labels, where `labels[0]` is an error in ANSI mode.

    Raises LabelSetError, ConfigError, ModelNotFoundError, CheckpointError: here, before Spark runs anything.
    """
    options = LabelOptions(threshold, multi_label, top_k)
    function_for = _prepare(labels, options, model, output, device, precision, registry)
    parameters = ("text",) if labels is not None else ("text", "labels")

    def classify(*columns: Column | str) -> Column:
        if len(columns) != len(parameters):
            raise ConfigError(
                f"this function takes {len(parameters)} column(s), {' and '.join(parameters)}, not {len(columns)}; "
                "pass labels either to gliclass_udf, for all rows, or as a column, for each row"
            )
        for name, column in zip(parameters, columns, strict=True):
            if not isinstance(column, (Column, str)):
                raise ConfigError(f"{name} must be a column or its name, found {column!r}; write F.col or F.lit")
        text, *own_labels = [F.col(column) if isinstance(column, str) else column for column in columns]
        # Spark refuses the cast of a text, whose characters would be taken for labels.
        labels_of_row = [column.cast(ArrayType(StringType())) for column in own_labels]
        function = function_for(SparkSession.active())
        # As bytes: a Spark string may hold invalid UTF-8, on which the conversion to pandas fails.
        result = F.when(text.isNotNull(), function(text.cast("string").cast("binary"), *labels_of_row))
        return result.alias(f"gliclass({', '.join(map(_name, columns))})")

    return classify


def register_gliclass(
    spark: SparkSession,
    name: str,
    labels: LabelSet | Sequence[str] | Tree | None = None,
    *,
    threshold: float | None = None,
    multi_label: bool | None = None,
    top_k: int | None = None,
    model: str | ModelRef = "embedded",
    output: Output = "labels",
    device: str | None = None,
    precision: Precision = "auto",
    registry: str | None = None,
) -> None:
    """Register the SQL function `name(text)`, or without labels `name(text, labels)`, in this session.

    Arguments and results are those of gliclass_udf. A function as the warehouses have it, which returns one label, is

        register_gliclass(spark, "ai_classify", output="best")
        SELECT ai_classify(body, array('invoice', 'complaint')) FROM mail

    Spark accepts no SQL function of Python in explode(), in ORDER BY, in an aggregate, in a join's condition, in
    UPDATE, in DELETE and in the actions of MERGE. Name its result in a subquery, and use that. A row for each label is

        SELECT id, label, score FROM (SELECT id, NAME(text) AS labels FROM mail), LATERAL inline(labels)

    and a table is labelled in place by

        MERGE INTO mail AS t USING (SELECT id, get(NAME(text), 0).label AS label FROM mail) AS s ON t.id = s.id
        WHEN MATCHED THEN UPDATE SET label = s.label

    where get() is null for a text without labels, and [0] an error in ANSI mode. Raises what gliclass_udf raises.
    """
    if not str(name).isidentifier() or not name.isascii():  # a list, where the session was left out
        raise ConfigError(
            f"{name!r} can't be the name of a SQL function; use letters, digits and _: "
            "register_gliclass(spark, 'name', ...)"
        )
    options = LabelOptions(threshold, multi_label, top_k)
    function = _prepare(labels, options, model, output, device, precision, registry)(spark)
    inner = f"__gliclass_{name}"
    spark.udf.register(inner, function)
    more_parameters, more_arguments = (", labels ARRAY<STRING>", ", labels") if labels is None else ("", "")
    # The SQL function around it returns null for null and passes the text as bytes, as gliclass_udf does.
    spark.sql(
        f"CREATE OR REPLACE TEMPORARY FUNCTION {name}(text STRING{more_parameters}) "
        f"RETURNS {OUTPUT_TYPES[output].simpleString()} "
        f"RETURN CASE WHEN text IS NOT NULL THEN {inner}(CAST(text AS BINARY){more_arguments}) END"
    )


def _prepare(
    labels: LabelSet | Sequence[str] | Tree | None,
    options: LabelOptions,
    model: str | ModelRef,
    output: Output,
    device: str | None,
    precision: Precision,
    registry: str | None,
) -> Callable[[SparkSession], Any]:
    """Check the arguments, resolve the model, and return a function that creates the UDF for a session."""
    label_set = None if labels is None else options.label_set(labels)
    check_output(output)
    check_precision(precision)
    if device is not None:
        check_device(device)
    check_model(model)
    ref = model if isinstance(model, ModelRef) else resolve_model(model, registry=registry)

    def with_session(spark: SparkSession) -> Any:
        settings = WorkerSettings(ref, device, precision, threads_per_task(spark), gpu_sharing(spark))
        if label_set is None:
            return _udf_with_label_column(options, settings, output)
        return _udf_of_label_set(broadcast_text(spark, label_set.canonical_json), settings, output)

    return with_session


def _udf_of_label_set(label_set_json: Callable[[], str], settings: WorkerSettings, output: Output) -> Any:
    def classify(batches: Iterator[pd.Series]) -> Iterator[Any]:
        from gliclass_spark.spark.worker import scoring

        for _, results, _ in scoring.classify(batches, pd.Series.tolist, label_set_json(), settings):
            rows = [(classification, results.label_set) for classification in results.classifications()]
            yield _column(rows, output, settings.model)

    return _pandas_udf(classify, Iterator[pd.Series], output)


def _udf_with_label_column(options: LabelOptions, settings: WorkerSettings, output: Output) -> Any:
    def classify(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[Any]:
        from gliclass_spark.spark.worker import scoring

        lists = ((texts.tolist(), [_own_labels(cell, options) for cell in labels]) for texts, labels in batches)
        for results in scoring.classify_each(lists, settings):
            rows = [(result.classification, result.label_set) for result in results]
            yield _column(rows, output, settings.model)

    return _pandas_udf(classify, Iterator[tuple[pd.Series, pd.Series]], output)


def _name(column: Column | str) -> str:
    """Return the column's name, or its expression, as Spark shows it."""
    return column if isinstance(column, str) else str(column).removeprefix("Column<'").removesuffix("'>")


def _own_labels(cell: Any, options: LabelOptions) -> LabelSet | list[str] | None:
    """Return the label set of a cell of an array column, a NumPy array in pandas; the names if they are invalid."""
    if cell is None:
        return None
    names = list(cell)
    try:
        return options.label_set(names)
    except LabelSetError:
        return names  # the engine gives this text the error


def _pandas_udf(classify: Any, batches: Any, output: Output) -> Any:
    # Spark reads the annotations of the function; those of this module are strings.
    returned: Any = pd.DataFrame if output == "full" else pd.Series
    classify.__annotations__ = {"batches": batches, "return": Iterator[returned]}
    as_udf: Any = pandas_udf  # its stubs do not cover struct results
    return as_udf(classify, returnType=OUTPUT_TYPES[output]).asNondeterministic()


def _column(rows: Sequence[tuple[Classification, LabelSet | None]], output: Output, model: ModelRef) -> Any:
    if output == "full":
        from gliclass_spark.spark.worker import scoring

        records = [scoring.tag_record(classification, label_set, model) for classification, label_set in rows]
        return pd.DataFrame(records, columns=TAG_FIELDS.names)
    return pd.Series([_value(classification, output) for classification, _ in rows], dtype=object)


def _value(classification: Classification, output: Output) -> Any:
    if classification.error:
        return None
    if output == "scores":
        return classification.scores
    if output == "best":
        return classification.labels[0].label if classification.labels else None
    return [{"label": scored.label, "score": scored.score} for scored in classification.labels]
