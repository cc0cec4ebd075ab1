"""JVMs for a handful of rows: to load Spark's classes, and to compile what runs a few times, is most of their work.

The classes come from an archive, which a JVM maps into its memory instead of reading and checking each of them.
It is made once and kept in pytest's cache; `pytest --cache-clear` has it made anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pyspark
from filelock import FileLock, Timeout

# The quick compiler alone. It comes with a fifth of the usual room for code: Spark's planning fills that, and what is
# swept out is compiled again and again. Without room for its classes a JVM collects the whole heap several times.
_QUICK = "-XX:+UseSerialGC -XX:NewRatio=1 -XX:MetaspaceSize=256m -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
# JVMs with other classes, spark-submit's launcher among them, leave the archive aside;
# their warnings about it are switched off.
_SILENT = "-Xlog:cds=off -Xlog:cds+dynamic=off"
VARIABLE = "JDK_JAVA_OPTIONS"

_SOME_OF_EVERYTHING = """
import sys
from gliclass_spark.spark.session import spark_session

conf, table = sys.argv[1:]
spark = spark_session(conf)
jvm = spark.sparkContext._gateway.proc
rows = spark.range(20).selectExpr("id", "cast(id as string) text", "map('a', 0.5f) scores", "array(id) labels")
rows.write.format("delta").option("delta.enableChangeDataFeed", "true").save(table)
spark.sql(
    f"merge into delta.`{table}` t using (select * from delta.`{table}` where id > 9) s on t.id = s.id + 5 "
    "when matched then update set text = 'changed' when not matched then insert *"
)
changes = spark.read.option("readChangeFeed", "true").option("startingVersion", 0).format("delta").load(table)
changes.groupBy("_change_type").count().collect()
rows.mapInArrow(lambda batches: batches, rows.schema).toPandas()
spark.stop()
jvm.stdin.close()
sys.exit(jvm.wait())
"""


def java_options(folder: Path, *, many: bool) -> str:
    """Return the options of every JVM, for `JDK_JAVA_OPTIONS`. The archive of classes is kept in `folder`.

    many: whether many JVMs will start. The archive saves each five seconds, and takes most of a minute to make: for a
    few it is used, but not made. While another process makes it, JVMs start without it.
    """
    archive = folder / f"spark-{pyspark.__version__}.jsa"
    if not many and not archive.exists():
        return _QUICK
    lock = FileLock(archive.with_suffix(".lock"))
    try:
        with lock.acquire(timeout=0):
            if not archive.exists() and not _make(archive):
                return _QUICK
    except Timeout:
        pass
    return f"{_QUICK} -XX:SharedArchiveFile={archive} {_SILENT}"


def _make(archive: Path) -> bool:
    """Make the archive, and return whether this Java can."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        partial, conf = Path(folder, "partial.jsa"), Path(folder, "conf.yaml")
        conf.write_text(f"spark.driver.extraJavaOptions: {_QUICK} -XX:ArchiveClassesAtExit={partial} {_SILENT}\n")
        program = [sys.executable, "-c", _SOME_OF_EVERYTHING, str(conf), str(Path(folder, "table"))]
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False)
        if done.returncode == 0 and partial.is_file():
            partial.rename(archive)
            return True
        output = f"{done.stdout}{done.stderr}"
        warnings.warn(f"no archive of Spark's classes, each JVM starts slower:\n{output}", stacklevel=3)
        return False
