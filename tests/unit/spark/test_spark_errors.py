"""Errors of Spark become one line: TableError for a wrong input, JobError with the root cause for the rest."""

from __future__ import annotations

import pytest
from pyspark.errors import PySparkException

from gliclass_spark.errors import GliclassSparkError, JobError, TableError
from gliclass_spark.spark.spark_errors import reporting_spark_errors, root_cause

READ_ERROR = "An error occurred while calling o152.collectToPython.\n: org.apache.spark.SparkException: "
READ_ERROR += "[FAILED_READ_FILE.{}] Encountered error while reading file file:///lake/b.parquet. {} SQLSTATE: KD001\n"
CALL = "An error occurred while calling o58.sql"
FRAMES = "\tat java.base/java.net.URLClassLoader.findClass(URLClassLoader.java:445)\n\t... 22 more\n"
MISMATCH = "Data type mismatches when reading Parquet column [a id]. Expected Spark type int, actual Parquet type INT64"


def reported(text: str) -> GliclassSparkError:
    with pytest.raises(GliclassSparkError) as raised, reporting_spark_errors("tag of pipeline 'mail'"):
        raise PySparkException(text)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            f"{CALL}.\n: java.lang.RuntimeException: java.lang.ClassNotFoundException: "
            f"Class org.apache.hadoop.fs.s3a.S3AFileSystem not found\n{FRAMES}Caused by: java.lang."
            f"ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found\n{FRAMES}",
            ["no driver for this store (org.apache.hadoop.fs.s3a.S3AFileSystem)", "spark.jars"],
        ),
        (
            'o.load.\n: org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "gs"\n',
            ["no driver for gs://", "docs/deployment/storage.md"],
        ),
        ("java.net.UnknownHostException: nohost", ["host 'nohost' is unknown", "check the address"]),
        (READ_ERROR.format("NO_HINT", "") + FRAMES, ["file:///lake/b.parquet can't be read", "cut short"]),
        (READ_ERROR.format("CANNOT_READ_FILE_FOOTER", "Could not read footer."), ["file:///lake/b.parquet can't be"]),
        (
            READ_ERROR.format("PARQUET_COLUMN_DATA_TYPE_MISMATCH", MISMATCH),
            ["column 'a id' is INT64 in file:///lake/b.parquet, and int in other files"],
        ),
        ("[USER_RAISED_EXCEPTION] the id 9.1e15 is too large SQLSTATE: P0001", ["'mail': the id 9.1e15 is too large"]),
        (
            "[REQUIRES_SINGLE_PART_NAMESPACE] spark_catalog requires a single-part namespace, but got identifier "
            "`main`.`mail`.`tags`.",
            ["no catalog 'main'", "spark.sql.catalog.main"],
        ),
        ("[CATALOG_NOT_FOUND] The catalog `main` not found.", ["no catalog 'main'", "spark.sql.catalog.main"]),
    ],
)
def test_a_wrong_input_is_named_with_its_fix(text: str, parts: list[str]) -> None:
    error = reported(text)
    assert (type(error), error.exit_code) == (TableError, 2)
    assert str(error).startswith("tag of pipeline 'mail': ")
    for part in parts:
        assert part in str(error)
    assert "SQLSTATE" not in str(error)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (
            "org.apache.hadoop.security.AccessControlException: Permission denied: user=ada, access=WRITE, "
            'inode="/lake/tags/_delta_log":hdfs:supergroup:drwxr-xr-x\n' + FRAMES,
            "the right to write /lake/tags/_delta_log",
        ),
        (
            "org.apache.hadoop.security.AccessControlException: Permission denied: user=ada, access=READ_EXECUTE, "
            'inode="/lake/mail":hdfs:supergroup:drwxr-x---',
            "the right to read /lake/mail",
        ),
        (
            "java.nio.file.AccessDeniedException: s3a://bucket/tags/_delta_log: getFileStatus on "
            "s3a://bucket/tags/_delta_log: S3Exception: null (Service: S3, Status Code: 403, Request ID: 1)",
            "the right to read s3a://bucket/tags/_delta_log",
        ),
        (
            "java.nio.file.AccessDeniedException: tags/part-0.parquet: Writing Object on tags/part-0.parquet: "
            "S3Exception: Access Denied (Service: S3, Status Code: 403)",
            "the right to write tags/part-0.parquet",
        ),
        (
            'java.nio.file.AccessDeniedException: Operation failed: "This request is not authorized to perform this '
            'operation using this permission.", 403, PUT, https://a.dfs.core.windows.net/lake/tags?timeout=90, rId: 1',
            "the right to write https://a.dfs.core.windows.net/lake/tags",
        ),
        (
            "GoogleJsonResponseException: 403 Forbidden\nGET https://storage.googleapis.com/storage/v1/b/lake/o/tags?f=1",
            "the right to read https://storage.googleapis.com/storage/v1/b/lake/o/tags",
        ),
        (
            "[INSUFFICIENT_PERMISSIONS] Insufficient privileges:\nUser does not have USE SCHEMA on Schema 'main.mail'. "
            "SQLSTATE: 42501",
            "the right USE SCHEMA on Schema 'main.mail'",
        ),
        (
            "PERMISSION_DENIED: User does not have MODIFY on Table 'main.mail.tags'.",
            "the right MODIFY on Table 'main.mail.tags'",
        ),
        (
            "[INSUFFICIENT_PERMISSIONS] Insufficient privileges:\nTable `main`.`mail`.`raw`",
            "a right on Table `main`.`mail`.`raw`",
        ),
        (
            "java.io.IOException: Mkdirs failed to create file:/lake/tags/_temporary/0 (exists=false, cwd=file:/home)",
            "the right to write file:/lake/tags/_temporary/0",
        ),
        (
            "java.io.FileNotFoundException: /lake/my tags/part-0.parquet (Permission denied)\n"
            "\tat java.base/java.io.FileOutputStream.open0(Native Method)\n" + FRAMES,
            "the right to write /lake/my tags/part-0.parquet",
        ),
        (
            "java.io.FileNotFoundException: /lake/mail/part-0.parquet (Permission denied)\n"
            "\tat java.base/java.io.FileInputStream.open0(Native Method)\n" + FRAMES,
            "the right to read /lake/mail/part-0.parquet",
        ),
        (
            "DeltaIOException: [DELTA_CANNOT_CREATE_LOG_PATH] Cannot create file:/lake/runs/_delta_log",
            "the right to write file:/lake/runs/_delta_log",
        ),
    ],
)
def test_a_right_that_is_missing_is_named_with_what_it_is_for(text: str, right: str) -> None:
    error = reported(text)
    assert type(error) is TableError
    assert error.exit_code == 2
    assert str(error) == (
        f"tag of pipeline 'mail': {right} is missing; grant it to the user or role that runs Spark's jobs"
    )


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            f"{CALL}.\n: java.lang.Error: boom SQLSTATE: 42000\n",
            "java.lang.Error: boom",
        ),
        (
            f"{CALL}. Trace:\npy4j.Py4JException: no such method\n",
            "py4j.Py4JException: no such method",
        ),
        (f"a job failed\nCaused by: a: b\n{FRAMES}Caused by: java.io.IOException: No space left on device\n", None),
        (
            'thrown from the worker: Traceback (most recent call last):\n  File "x.py", line 5, in <lambda>\n    f()\n'
            "CheckpointError: the files have the digest 1\n SQLSTATE: 38000",
            "CheckpointError: the files have the digest 1",
        ),
        (READ_ERROR.format("NO_HINT", "") + "Caused by: java.net.SocketException: Connection reset\n", None),
    ],
)
def test_any_other_error_has_its_root_cause(text: str, cause: str | None) -> None:
    cause = cause or text.strip().splitlines()[-1].removeprefix("Caused by: ")
    error = reported(text)
    assert (type(error), error.exit_code) == (JobError, 1)
    assert str(error).startswith(f"tag of pipeline 'mail' failed: {cause}; no table is left half-written")
    assert root_cause(PySparkException(text)) == cause


def test_a_jvm_that_is_gone_is_named() -> None:
    with pytest.raises(JobError, match="Spark's Java process ended"), reporting_spark_errors("a job"):
        raise ConnectionRefusedError(111, "Connection refused")
