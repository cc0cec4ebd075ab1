"""Counts of decided documents: as decided, and as the tables hold them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun

# Numbers of rows by table and reason; the reason is None where the table has none.
OutcomeCounts = Mapping[tuple[str, str | None], int]


def count_by(rows: DataFrame, column: str) -> dict[str, int]:
    """Return how many rows there are of each value of the column, in the values' order."""
    # Sorted here: Spark would run two more jobs to sort a handful of rows.
    return dict(sorted((row[column], row["count"]) for row in rows.groupBy(column).count().collect()))


def by_table(counts: OutcomeCounts) -> dict[str, int]:
    """Return the numbers of rows by table, in the tables' order."""
    tables = sorted({table for table, _ in counts})
    return {name: sum(count for (table, _), count in counts.items() if table == name) for name in tables}


def current_rows(run: PipelineRun, names: Iterable[str], keys: DataFrame | None) -> DataFrame:
    """Return a row per table and document in it: doc_id, `table`, `reason` (null where the table has none), `in_scope`.

    in_scope: whether the document is one of `keys` (None: all are).
    """
    tables = []
    for name in names:
        rows = run.lake.read(run.spark, name)
        reason = F.col("reason") if "reason" in rows.columns else F.lit(None).cast("string")
        tables.append(rows.select(KEY, F.lit(name).alias("table"), reason.alias("reason")))
    current = reduce(DataFrame.union, tables)
    if keys is None:
        return current.withColumn("in_scope", F.lit(True))
    marked = current.join(keys.withColumn("in_scope", F.lit(True)), KEY, "left")
    return marked.withColumn("in_scope", F.coalesce("in_scope", F.lit(False)))


def count_current_rows(
    run: PipelineRun, names: Iterable[str], keys: DataFrame | None
) -> tuple[OutcomeCounts, dict[str, int]]:
    """Return the numbers of the tables' rows of the documents `keys` (None: of all), and of each table's rows."""
    rows = current_rows(run, names, keys).groupBy("table", "reason", "in_scope").count().collect()
    in_scope = {(row["table"], row["reason"]): row["count"] for row in rows if row["in_scope"]}
    return in_scope, {name: sum(row["count"] for row in rows if row["table"] == name) for name in names}
