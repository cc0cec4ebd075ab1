"""Errors that users can fix. Each message states what is wrong, which value, and how to fix it."""

from __future__ import annotations

from pydantic import ValidationError

from gliclass_spark.redaction import without_secrets

# A message repeats this much of a value, which may be a whole file.
_MAX_VALUE_CHARS = 200


class GliclassSparkError(Exception):
    """Base of all errors that a user can fix. The command line prints its message as one line.

    `exit_code` is the exit code of a job's process: 2 for wrong input, before anything runs; 1 for a run that
    started and was stopped with nothing committed.
    """

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        """Take the message without secrets: whatever prints, logs or stores it need not look for them."""
        super().__init__(without_secrets(message))


class ConfigError(GliclassSparkError):
    """A configuration file can't be read, or holds an invalid value."""


class LabelSetError(GliclassSparkError):
    """A label set is invalid: duplicate, empty or over-long labels, or bad thresholds."""


class RulesError(GliclassSparkError):
    """A rule can't be parsed, or names an unknown label or column."""


class ModelNotFoundError(GliclassSparkError):
    """There is no checkpoint at a model URI."""


class RegistryError(GliclassSparkError):
    """The model registry refuses a request."""


class RegistryUnreachableError(RegistryError):
    """The model registry is down or can't be reached."""


class CheckpointError(GliclassSparkError):
    """A checkpoint is damaged, unsafe, or of a kind that is not supported."""


class DeviceError(GliclassSparkError):
    """This machine lacks a device or a precision."""


class JavaError(GliclassSparkError):
    """Java is missing, or of a version that Spark does not support."""


class SparkStartError(GliclassSparkError):
    """Spark does not start: SPARK_HOME has another version, its jars can't be downloaded, a setting is invalid."""


class TableError(GliclassSparkError):
    """A table is missing, lacks a column, or holds values that a job can't process."""


class ErrorShareError(GliclassSparkError):
    """Too many rows could not be scored: the share of errors exceeds `max_error_ratio`."""

    exit_code = 1


class ManifestError(GliclassSparkError):
    """The counts of a run do not add up."""

    exit_code = 1


class JobError(GliclassSparkError):
    """Spark failed during a job: a full disk, a lost cluster, an unreadable table."""

    exit_code = 1


class SupersededError(GliclassSparkError):
    """A later run of the same pipeline took over, so this one stopped writing."""

    exit_code = 1


class ConflictError(GliclassSparkError):
    """Another writer kept changing a table, so that a job's commits conflicted."""

    exit_code = 1


class TrainingError(GliclassSparkError):
    """Training data is unusable, or a training diverged."""


class StackError(GliclassSparkError):
    """A server of `make stack` does not start, or rejects its clients."""


def describe_validation(error: ValidationError, source: str) -> str:
    """Return a pydantic error as one line: the source, the key, what is wrong, and the value.

    Only the first problem is described, since further ones are often its consequences; they are counted.
    """
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the document"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{source}: unknown key {key!r}; remove it, or check its spelling"
    if problem["type"] == "missing":
        return f"{source}: {key!r} is missing; add it"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if problem["type"] == "value_error":
        return f"{source}: {key}: {message}{more}"
    return f"{source}: {key}: {message}, found {repr(problem['input'])[:_MAX_VALUE_CHARS]}{more}"
