"""Files beside the tables, wherever Spark's file systems reach: listed, written whole or not at all, moved, removed."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from pyspark.sql import SparkSession

from gliclass_spark.errors import JobError


def names(spark: SparkSession, path: str) -> list[str]:
    """The names in the folder, or the file's own; none if there is nothing at the path."""
    system, place = _place(spark, path)
    return [str(each.getPath().getName()) for each in system.listStatus(place)] if system.exists(place) else []


def read_text(spark: SparkSession, path: str) -> str | None:
    """What the file says; None if there is none."""
    if not names(spark, path):
        return None
    return str(spark.read.text(path, wholetext=True).collect()[0][0])


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Put the text there: under a temporary name first, so that the file is whole whenever it is there."""
    aside = beside(path)
    system, place = _place(spark, aside)
    out = system.create(place)
    out.write(bytearray(text.encode()))
    out.close()
    move(spark, aside, path)


def move(spark: SparkSession, path: str, target: str) -> None:
    """Give a file or folder another name; what has that name is removed. Raises JobError."""
    system, place = _place(spark, path)
    goal = _place(spark, target)[1]
    system.delete(goal, True)
    if not system.rename(place, goal):
        raise JobError(f"{path} could not be moved to {target}; check who may write there, and run again")


def remove(spark: SparkSession, path: str) -> None:
    """Remove a file, or a folder if it is empty. Raises Py4JJavaError if it is not."""
    system, place = _place(spark, path)
    system.delete(place, False)


def beside(path: str) -> str:
    """A temporary name in the same folder, which readers pass over."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/_{uuid4().hex}-{name}"


def _place(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """The path's file system, and the path, in Hadoop's terms."""
    jvm: Any = spark._jvm
    place = jvm.org.apache.hadoop.fs.Path(path)
    return place.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()), place
