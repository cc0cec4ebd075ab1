"""Operations of a history on its pipeline: settings, runs, runs that are killed or overtaken, maintenance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from delta.tables import DeltaMergeBuilder, DeltaTable, DeltaTableBuilder
from history_source import Insert
from history_world import ALTERNATIVES, Operation, World
from pyspark.sql import SparkSession
from pyspark.sql.readwriter import DataFrameWriter

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import GliclassSparkError, SupersededError
from gliclass_spark.runs.empty_run import finish_empty_run
from gliclass_spark.spark.delta.runs_table import Runs
from gliclass_spark.spark.jobs import STEPS, PipelineRun
from gliclass_spark.spark.jobs.maintain import maintain

JOBS = (("tag",), ("tag", "filter"), ("filter",), ("route",))
_FULL = "no space left on device"


class Killed(BaseException):
    """Ends a run as a kill does: the run records nothing."""


def run_jobs(run: PipelineRun, jobs: tuple[str, ...] = ("tag", "filter", "route")) -> None:
    for job in jobs:
        STEPS[job](run)


@contextmanager
def at_write(point: int | str, do: Callable[[], None]) -> Iterator[None]:
    """Call `do` at a write of the block: point 0 is before the first write, 1 after it, 2 before the second...

    Claims of a job and the records of their ends count as writes, too. The name of a job is the point before its end
    is recorded.
    """
    state = {"point": 0, "done": False}

    def reached(*, ending: str | None = None) -> None:
        if state["done"]:
            return
        if point in (state["point"], ending):
            state["done"] = True
            do()
        state["point"] += 1

    def patched(original: Callable[..., Any], is_write: Callable[..., bool]) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            if not is_write(*args):
                return original(*args, **kwargs)
            reached(ending=args[1].job if original is finish else None)
            result = original(*args, **kwargs)
            reached()
            return result

        return method

    def is_any(*_: Any) -> bool:
        return True

    def is_not_runs(_: DataFrameWriter, path: str, *__: Any) -> bool:
        return not path.endswith("/runs")

    def is_alter(_: SparkSession, statement: str, *__: Any) -> bool:
        return statement.startswith("ALTER")

    finish = Runs.finish
    writes: tuple[tuple[Any, str, Callable[..., bool]], ...] = (
        (DataFrameWriter, "save", is_not_runs),
        (DeltaMergeBuilder, "execute", is_any),
        (DeltaTable, "delete", is_any),
        (DeltaTableBuilder, "execute", is_any),
        (SparkSession, "sql", is_alter),
        (Runs, "claim", is_any),
        (Runs, "finish", is_any),
    )
    with ExitStack() as patches:
        for owner, name, is_write in writes:
            patches.enter_context(mock.patch.object(owner, name, patched(getattr(owner, name), is_write)))
        yield


@dataclass(frozen=True)
class Set:
    """Take the setting's alternative that is this many after the present one."""

    name: str
    by: int

    def apply(self, world: World) -> None:
        present = getattr(world.settings, self.name)
        setattr(world.settings, self.name, (present + self.by) % len(ALTERNATIVES[self.name]))


@dataclass(frozen=True)
class Maintain:
    """Compact the pipeline's tables, and vacuum what they hold no more."""

    vacuum: bool

    def apply(self, world: World) -> None:
        run = world.run("maintain")
        for name in ("tags", "kept", "rejected", "quarantined") if self.vacuum else ():
            if run.lake.exists(world.spark, name):
                path, duration = f"{run.pipeline.tables}/{name}", "delta.deletedFileRetentionDuration"
                world.spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ({duration} = 'interval 0 seconds')")
        list(maintain(world.spark, run.pipeline))


@dataclass(frozen=True)
class Run:
    """A whole run, without Spark if it has nothing to do. The tables are compared after it."""

    def apply(self, world: World) -> None:
        run = world.run()
        digest = resolve_model(run.pipeline.model).digest
        if finish_empty_run(run.pipeline, run.pipeline.steps, run.run_id, digest, run.retag) is None:
            run_jobs(run)
        world.last = run


@dataclass(frozen=True)
class Full:
    """A run that reads every document, or scores every one."""

    retag: bool

    def apply(self, world: World) -> None:
        run_jobs(world.run(retag="all") if self.retag else world.run(full=True))


@dataclass(frozen=True)
class Jobs:
    """Some jobs alone: the others of that run are never started. They may be refused, as the later jobs' input is."""

    which: int

    def apply(self, world: World) -> None:
        try:
            run_jobs(world.run(), JOBS[self.which])
        except GliclassSparkError:
            if "tag" in JOBS[self.which]:
                raise


@dataclass(frozen=True)
class Again:
    """Another attempt of the last run, with the present settings, under its id."""

    def apply(self, world: World) -> None:
        run_jobs(world.run(f"run-{world.runs}"))


@dataclass(frozen=True)
class Refused:
    """Two documents get one id, and a run is refused; then one of them goes."""

    def apply(self, world: World) -> None:
        Insert(1, 0).apply(world)
        again = str(world.documents - 1)
        world.documents -= 1
        Insert(1, 2).apply(world)
        with pytest.raises(GliclassSparkError, match="repeat"):
            run_jobs(world.run())
        world.table.delete(f"id = '{again}' AND {world.text} LIKE 'spam%'")


@dataclass(frozen=True)
class During:
    """Something happens at a write of a run, which then is killed, fails, or continues.

    If it continues and finds that another run has superseded it, that one's tables are compared.
    """

    point: int | str
    operations: tuple[Operation, ...]
    end: str

    def apply(self, world: World) -> None:
        errors: list[Exception] = []

        def do() -> None:
            try:
                for operation in self.operations:
                    operation.apply(world)
            except Exception as error:  # the run would report another one
                errors.append(error)
                raise
            if self.end == "killed":
                raise Killed
            if self.end == "fails":
                raise OSError(_FULL)

        run, superseded = world.run(), False
        try:
            with at_write(self.point, do):
                run_jobs(run)
        except Killed:
            pass
        except OSError as error:
            if str(error) != _FULL:
                raise
        except SupersededError:
            superseded = True
        except GliclassSparkError:
            if self.end == "continues" and not self.operations:
                raise
        if errors:
            raise errors[0]
        if not superseded:
            world.last = None
