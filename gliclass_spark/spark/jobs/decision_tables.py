"""Tables of decided documents: creation, writing, and counts of their current rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial, reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.spark.delta import table_creation, writes
from gliclass_spark.spark.delta.schema import KEY, TableSpec
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun


def check_tables(run: PipelineRun, specs: Mapping[str, TableSpec]) -> None:
    """Raise TableError if a table has a column of another type, or is no Delta table. Writes nothing."""
    for name, spec in specs.items():
        table_creation.missing_columns(run.spark, run.lake.path(name), spec.schema)


def ensure_tables(job: Job, specs: Mapping[str, TableSpec]) -> None:
    """Create the tables of a job's decisions. If one lacked a column, all documents are decided again to fill it."""
    for name, spec in specs.items():
        added = table_creation.ensure(job.run.spark, job.run.lake.path(name), spec)
        if added:
            job.base = None
            job.notes.append(f"{name} lacked {', '.join(added)}: every document was decided about again")


def write_decisions(job: Job, decisions: Mapping[str, DataFrame], keys: DataFrame | None) -> None:
    """Replace, in each table, the rows of the documents `keys` (None: of all documents) with its decisions.

    A table that would not change gets no commit, unless another run may be alive, which the commit locks out.
    """
    run = job.run
    if job.contested:
        changing = set(decisions)
    elif keys is None:
        changing = {name for name, rows in decisions.items() if writes.differs(run.spark, run.lake.path(name), rows)}
    else:
        written_to = [rows.select(F.lit(name).alias("table")) for name, rows in decisions.items()]
        held_by = current_rows(run, decisions, keys).where("in_scope").select("table")
        changing = {row["table"] for row in reduce(DataFrame.union, written_to, held_by).distinct().collect()}
    for name, rows in decisions.items():
        if name in changing:
            job.commit(name, partial(writes.replace_rows, rows, keys))


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
