"""Documents into the tables of their decisions, and the look at where they stand then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial, reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.spark.delta import tables
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.pipeline_run import Job, PipelineRun


def write_decisions(work: Job, wanted: Mapping[str, DataFrame], keys: DataFrame | None) -> None:
    """Make each table hold exactly its `wanted` rows of the documents `keys`; None: of all documents.

    A table that this would not change gets no commit, unless a run may be alive that the commit has to
    lock out.
    """
    if work.contested:
        changing = set(wanted)
    elif keys is None:
        path = work.run.lake.path
        changing = {name for name, rows in wanted.items() if tables.differs(work.run.spark, path(name), rows)}
    else:
        named = [rows.select(F.lit(name).alias("table")) for name, rows in wanted.items()]
        held = current_rows(work.run, wanted, keys).where("in_scope").select("table")
        changing = {row["table"] for row in reduce(DataFrame.union, named, held).distinct().collect()}
    for name, rows in wanted.items():
        if name in changing:
            work.commit(name, partial(tables.replace_rows, rows, keys))


def current_rows(run: PipelineRun, names: Iterable[str], keys: DataFrame | None) -> DataFrame:
    """One row for each document in each of the tables: doc_id, `table`, `reason` (null where there is none),
    and whether it is `in_scope`, one of `keys` (None: all are).
    """
    parts = []
    for name in names:
        rows = run.lake.read(run.spark, name)
        reason = F.col("reason") if "reason" in rows.columns else F.lit(None).cast("string")
        parts.append(rows.select(KEY, F.lit(name).alias("table"), reason.alias("reason")))
    everything = reduce(DataFrame.union, parts)
    if keys is None:
        return everything.withColumn("in_scope", F.lit(True))
    marked = everything.join(keys.withColumn("in_scope", F.lit(True)), KEY, "left")
    return marked.withColumn("in_scope", F.coalesce("in_scope", F.lit(False)))
