"""Tables of decided documents: creation, writing, and a check of what they hold afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql.types import StructType

from gliclass_spark.config.output import Output
from gliclass_spark.errors import ManifestError
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.spark.delta import table_creation, writes
from gliclass_spark.spark.delta.schema import TableSpec, decisions_spec
from gliclass_spark.spark.delta.table_layout import apply_output, check_columns, check_partitions
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs.decision_counts import (
    OutcomeCounts,
    by_table,
    count_by,
    count_current_rows,
    current_rows,
)
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun


@dataclass
class DecisionTables:
    """The tables that a job writes decided documents to. All their columns are the pipeline's.

    schemas: the columns of each. created: tables that are empty, since this job created them. replaced:
    tables whose columns change in another way than by new ones. extended: tables that lack columns. appended: whether
    `write` has appended rows alone, or written none.
    """

    job: Job
    schemas: Mapping[str, StructType]
    created: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    extended: set[str] = field(default_factory=set)
    appended: bool = False

    def prepare(self) -> None:
        """Create the tables. Where the columns of the documents changed, make the job decide about all of them.

        The columns change with the rows, in one commit: after a kill before it, the table still lacks them.
        """
        job, spark = self.job, self.job.run.spark
        last = last_success(job.earlier, job.manifest.job)
        columns_changed = last is not None and last.columns_hash not in (None, self.columns_hash)
        # A run that did not succeed may have added columns that the documents no longer have.
        may_drop = columns_changed or job.contested
        may_drop |= last is not None and last.columns_hash is None and job.base is None
        for name, expected in self.schemas.items():
            table = self._table(name)
            current = table_creation.current_schema(spark, table)
            if current is None:
                table_creation.create(spark, table, self._spec(name, expected))
                job.fence([name])
                # Before the fence, an earlier run that is alive may have written to it.
                if not job.contested:
                    self.created.add(name)
                continue
            current_types = {column.name.lower(): column.dataType.simpleString() for column in current}
            expected_types = {column.name.lower(): column.dataType.simpleString() for column in expected}
            missing = [column.name for column in expected if column.name.lower() not in current_types]
            retyped = [key for key, kind in expected_types.items() if current_types.get(key, kind) != kind]
            dropped = [key for key in current_types if key not in expected_types]
            # A route that is a destination again kept the columns of its last rows.
            is_behind = last is not None and name not in last.outputs
            is_replaced = bool(retyped or (dropped and (may_drop or is_behind)))
            if is_replaced or missing:
                table_creation.enable_features(spark, table, expected)
            if is_replaced:
                self.replaced.add(name)
                table_creation.drop_columns(spark, table, retyped + dropped)
            elif missing:
                self.extended.add(name)
                job.decide_all(f"{name} lacked {', '.join(missing)}: every document was decided about again")
        if columns_changed or self.replaced:
            job.decide_all("the documents' columns changed: every document was decided about again")

    @property
    def columns_hash(self) -> str:
        """The SHA-256 of the names and types of the columns, whatever their order."""
        columns = (column for schema in self.schemas.values() for column in schema)
        described = sorted({f"{column.name} {column.dataType.simpleString()}" for column in columns})
        return hashlib.sha256("\n".join(described).encode()).hexdigest()

    def write(
        self,
        decisions: Mapping[str, DataFrame],
        decided: OutcomeCounts,
        keys: DataFrame | None,
        *,
        only_new: bool,
    ) -> None:
        """Replace, in each table, the rows of the documents `keys` (None: of all documents) with its decisions.

        decided: the numbers of decisions. only_new: whether earlier runs decided about none of these documents; then
        the tables need not be read. A table that would not change gets no commit. Rows that replace none are appended:
        a MERGE would read the table twice to find that out.
        """
        contested, counts = self.job.contested, by_table(decided)
        held = set() if only_new and not contested else self._held(keys)
        self.appended = not (contested or held or self.replaced)
        if contested:  # an earlier run may write rows at this moment, which a MERGE sees
            held |= set(counts) - self.created
        for name, rows in decisions.items():
            if name in self.replaced:
                spec = self._spec(name, rows.schema)
                self.job.overwrite(name, table_creation.with_comments(rows, spec))
                if spec.cluster_by:
                    table_creation.cluster(rows.sparkSession, self._table(name), spec.cluster_by)
            elif name not in held:
                if counts.get(name):
                    self.job.append(name, rows)
            elif keys is not None or name in self.extended or self._differs(name, rows):
                self.job.change(name, partial(writes.replace_rows, rows=rows, keys=keys))
        self._apply_output()

    def count_stored(self, decided: OutcomeCounts, keys: DataFrame | None) -> tuple[OutcomeCounts, dict[str, int]]:
        """Return the numbers of the stored rows of the documents `keys`, and of each table's rows.

        Raises ManifestError if rows were appended alone, and a table does not have as many more as were decided.
        """
        earlier = self._earlier_rows()
        if not self.appended or not self.schemas.keys() <= earlier.keys():
            return count_current_rows(self.job.run, self.schemas, keys)
        # By the numbers of rows that the tables' logs have: the cost of a run follows its new rows.
        new = by_table(decided)
        expected = {name: earlier[name] + new.get(name, 0) for name in self.schemas}
        counts = {name: self._row_count(name) for name in self.schemas}
        if counts != expected:
            run, job = self.job.run, self.job.manifest.job
            raise ManifestError(
                f"run {run.run_id!r}, {job}: expected rows by table {expected}, found {counts}; another writer changed "
                f"these tables: run {job} again with --full"
            )
        return decided, counts

    def _earlier_rows(self) -> dict[str, int]:
        """Return the number of rows of each table before this job, of those where it is known."""
        base = self.job.base.table_rows if self.job.base is not None else {}
        return {name: 0 if name in self.created else base[name] for name in self.created | base.keys()}

    def _row_count(self, name: str) -> int:
        """Return the number of rows of a table, which Delta knows without reading its files."""
        table, spark, base = self._table(name), self.job.run.spark, self.job.base
        if base is not None and table.latest(spark) == base.outputs.get(name):
            return base.table_rows[name]
        return table.row_count(spark, None)

    def _held(self, keys: DataFrame | None) -> set[str]:
        """Return the names of the tables that hold rows of the documents `keys`; None: those that may hold any rows."""
        existing = [name for name in self.schemas if name not in self.created | self.replaced]
        if keys is None or not existing:
            return set(existing)
        return set(count_by(current_rows(self.job.run, existing, keys).where("in_scope"), "table"))

    def _differs(self, name: str, rows: DataFrame) -> bool:
        """Return whether replacing all rows of the table would change it."""
        return writes.differs(rows.sparkSession, self._table(name), rows)

    def _apply_output(self) -> None:
        """Give tables of earlier runs the properties and the clustering of the pipeline's file as it is now."""
        if self.job.run.pipeline.output == Output():
            return
        for name, schema in self.schemas.items():
            if name not in self.created:
                apply_output(self.job.run.spark, self._table(name), self._spec(name, schema))

    def _table(self, name: str) -> TableRef:
        return self.job.run.lake.table(name)

    def _spec(self, name: str, schema: StructType) -> TableSpec:
        run = self.job.run
        return run.spec(decisions_spec(name, schema, run.pipeline.output))


def check_schemas(run: PipelineRun, schemas: Mapping[str, StructType]) -> None:
    """Raise TableError if Delta can't store a column, or if there is a folder of other files. Writes nothing.

    So does an `output` that the tables can't take.
    """
    for name, schema in schemas.items():
        table_creation.check_storable(schema, run.documents.name)
        table_creation.is_created(run.spark, run.lake.table(name))
        check_columns(schema, run.pipeline.output, run.documents.name)
    check_partitions(run.spark, map(run.lake.table, schemas), run.pipeline.output)
