"""Files on any file system that Spark reaches: list, read, write atomically, move, remove."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from pyspark.sql import SparkSession

from gliclass_spark.config.paths import has_scheme
from gliclass_spark.errors import JobError


def is_on_local_disk(spark: SparkSession, path: str) -> bool:
    """Return whether the path has no scheme, and Hadoop resolves such paths to this machine's disk, not to HDFS."""
    if has_scheme(path):
        return False
    jvm: Any = spark._jvm
    return str(jvm.org.apache.hadoop.fs.FileSystem.getDefaultUri(_hadoop_conf(spark)).getScheme()) == "file"


def local_path(uri: str) -> str | None:
    """Return the path of a URI of Hadoop's `file` scheme, in which nothing is escaped; None for any other scheme."""
    return f"/{uri.removeprefix('file:').lstrip('/')}" if uri.startswith("file:") else None


def list_names(spark: SparkSession, path: str) -> list[str]:
    """Return the names in a folder, or the name of a file; an empty list if there is nothing at the path."""
    system, hadoop_path = _resolve(spark, path)
    if not system.exists(hadoop_path):
        return []
    return [str(status.getPath().getName()) for status in system.listStatus(hadoop_path)]


def read_text(spark: SparkSession, path: str) -> str | None:
    """Return the file's text; None if there is no file."""
    if not list_names(spark, path):
        return None
    return str(spark.read.text(path, wholetext=True).collect()[0][0])


def read_head(spark: SparkSession, path: str, limit: int) -> tuple[int, bytes] | None:
    """Return the size of the file and at most its first `limit` bytes; None if there is no file."""
    system, hadoop_path = _resolve(spark, path)
    if not system.exists(hadoop_path):
        return None
    size = int(system.getFileStatus(hadoop_path).getLen())
    stream = system.open(hadoop_path)
    try:
        jvm: Any = spark._jvm
        return size, bytes(jvm.org.apache.commons.io.IOUtils.toByteArray(stream, min(size, limit)))
    finally:
        stream.close()


def write_text(spark: SparkSession, path: str, text: str) -> None:
    """Write the file atomically: under a temporary name, then moved."""
    temporary = temporary_path(path)
    system, hadoop_path = _resolve(spark, temporary)
    stream = system.create(hadoop_path)
    stream.write(bytearray(text.encode()))
    stream.close()
    move(spark, temporary, path)


def move(spark: SparkSession, path: str, target: str) -> None:
    """Rename a file or folder; a file or folder at the target is removed first. Raises JobError if it fails."""
    system, hadoop_path = _resolve(spark, path)
    hadoop_target = _resolve(spark, target)[1]
    system.delete(hadoop_target, True)
    if not system.rename(hadoop_path, hadoop_target):
        raise JobError(f"{path} could not be moved to {target}; check who may write to that folder, and run again")


def remove(spark: SparkSession, path: str) -> None:
    """Remove a file or an empty folder. Raises Py4JJavaError if the folder is not empty."""
    system, hadoop_path = _resolve(spark, path)
    system.delete(hadoop_path, False)


def temporary_path(path: str) -> str:
    """Return a unique path in the same folder, with a leading underscore, which readers skip."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/_{uuid4().hex}-{name}"


def _resolve(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Return Hadoop's file system of the path, and Hadoop's Path."""
    jvm: Any = spark._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path.getFileSystem(_hadoop_conf(spark)), hadoop_path


def _hadoop_conf(spark: SparkSession) -> Any:
    return spark._jsparkSession.sessionState().newHadoopConf()
