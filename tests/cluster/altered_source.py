"""Documents in a Delta table that others write, alter, restore, rename and put back while a pipeline reads it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from replaced_tables import create_again, forget_logs

from gliclass_spark.runs.delta_reader import delta_table

# Documents of the first version, and of each addition.
ROWS = 1000
_ADDED = 100
_TEXT = (
    "CASE WHEN n % 97 = 0 THEN NULL WHEN n % 89 = 0 THEN '  ' WHEN n % 7 = 0 THEN 'short' "
    "ELSE concat('document ', n, ' of a lake', repeat(' of data', CAST(n % 40 AS INT))) END"
)


class AlteredSource:
    """A table of the columns id, body, n, topic and meta, and others that come and go. Nothing changes body, id and n
    but their values: pipelines may name them.
    """

    def __init__(self, spark: SparkSession, path: Path, seed: int) -> None:
        self._spark = spark
        self._path = path
        self._random = random.Random(seed)  # noqa: S311 - not for cryptography
        self._rows = 0
        self._changes = 0
        self._topic = "topic"
        self._copy: tuple[Path, str] | None = None
        self._pending: list[tuple[str, Callable[[], None]]] = []
        table = DeltaTable.create(spark).location(str(path)).property("delta.columnMapping.mode", "name")
        table = table.property("delta.enableChangeDataFeed", "true").addColumns(self._documents(0).schema)
        table.execute()
        self._append(ROWS)

    def change(self) -> str:
        """Change the table in one of the ways below, each in its turn, in random order. Return which."""
        if not self._pending:
            self._pending = [
                ("documents added, updated and deleted", self._edit),
                ("ids updated", self._update_ids),
                ("an earlier version restored", self._restore),
                ("a column renamed", self._rename_column),
                ("a column added and filled", self._add_column),
                ("a column dropped", self._drop_column),
                ("a nested field added", self._add_nested_field),
                ("put back from a copy of its files", self._put_back),
                ("written without its change data feed", self._edit_without_feed),
                ("created again", self._create_again),
            ]
            self._random.shuffle(self._pending)
        name, change = self._pending.pop()
        self._changes += 1
        change()
        return name

    def _edit(self) -> None:
        number = self._changes
        self._append(_ADDED)
        self._table.update(f"n % 31 = {number % 31}", {"body": f"concat(body, ' changed {number} times')"})
        self._table.update(f"n % 37 = {number % 37}", {self._topic: f"'topic {number}'"})
        self._table.delete(f"n % 101 = {number % 101}")

    def _update_ids(self) -> None:
        self._table.update(f"n % 41 = {self._changes % 41}", {"id": f"concat(id, '-', {self._changes})"})

    def _restore(self) -> None:
        version = delta_table(str(self._path)).version()
        self._edit()
        self._table.restoreToVersion(max(version - self._random.randrange(3), 1)).collect()
        self._topic = next(name for name in self._table.toDF().columns if name.startswith("topic"))

    def _rename_column(self) -> None:
        renamed = f"topic_{self._changes}"
        self._alter(f"RENAME COLUMN {self._topic} TO {renamed}")
        self._topic = renamed

    def _add_column(self) -> None:
        self._alter(f"ADD COLUMN extra_{self._changes} BIGINT")
        self._table.update("n % 3 = 0", {f"extra_{self._changes}": "n"})

    def _drop_column(self) -> None:
        extra = [name for name in self._table.toDF().columns if name.startswith("extra")]
        if not extra:
            self._add_column()
        self._alter(f"DROP COLUMN {extra[0] if extra else f'extra_{self._changes}'}")

    def _add_nested_field(self) -> None:
        self._alter(f"ADD COLUMN meta.m{self._changes} STRING")
        self._edit()

    def _put_back(self) -> None:
        """Lose all changes since the last copy, and take the next one."""
        if self._copy is not None:
            copy, topic = self._copy
            shutil.rmtree(self._path)
            shutil.copytree(copy, self._path)
            forget_logs(self._spark)
            self._topic = topic
        self._edit()
        copy = self._path.with_name(f"{self._path.name}-copy-{self._changes}")
        shutil.copytree(self._path, copy)
        self._copy = copy, self._topic

    def _edit_without_feed(self) -> None:
        self._alter("SET TBLPROPERTIES (delta.enableChangeDataFeed = false)")
        self._edit()
        self._alter("SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")

    def _create_again(self) -> None:
        """Write the table anew, with most of its rows and with as many versions as it had."""
        versions = delta_table(str(self._path)).version()
        rows = self._table.toDF().where("n % 10 != 3").localCheckpoint()
        create_again(self._path, rows, empty_commits=versions - 1)

    @property
    def _table(self) -> DeltaTable:
        return DeltaTable.forPath(self._spark, str(self._path))

    def _append(self, count: int) -> None:
        writer = self._documents(count).write.format("delta").mode("append").option("mergeSchema", "true")
        writer.save(str(self._path))

    def _documents(self, count: int) -> DataFrame:
        first, self._rows = self._rows, self._rows + count
        rows = self._spark.range(first, first + count, 1, 2).withColumnRenamed("id", "n")
        return rows.selectExpr(
            "CAST(n AS STRING) AS id",
            f"{_TEXT} AS body",
            "n",
            f"concat('topic ', n % 5) AS {self._topic}",
            "named_struct('page', n % 9) AS meta",
        )

    def _alter(self, change: str) -> None:
        self._spark.sql(f"ALTER TABLE delta.`{self._path}` {change}")
