"""One family of errors. Each message says what is wrong, which value, and how to mend it."""

from __future__ import annotations

from pydantic import ValidationError


class GliclassSparkError(Exception):
    """Base of every error that a user can mend. The command line prints it as one line.

    `exit_code` is what a job's process returns: 2 for input that has to be mended before anything
    runs, 1 for a run that started and was stopped with nothing committed.
    """

    exit_code = 2


class ConfigError(GliclassSparkError):
    """A configuration file that can't be read, or that says something impossible."""


class LabelSetError(GliclassSparkError):
    """A label set that can't be asked: duplicate, empty or over-long labels, bad thresholds."""


class RulesError(GliclassSparkError):
    """A rule that can't be parsed, or that names an unknown label or column."""


class ModelNotFoundError(GliclassSparkError):
    """No checkpoint at the address that was given."""


class RegistryError(GliclassSparkError):
    """A model registry that refuses what it was asked."""


class RegistryUnreachableError(RegistryError):
    """A model registry that does not answer: what it holds is not known."""


class CheckpointError(GliclassSparkError):
    """A checkpoint that is damaged, unsafe, or asks for something that is not supported."""


class DeviceError(GliclassSparkError):
    """A device or a precision that this machine does not have."""


class JavaError(GliclassSparkError):
    """No Java, or one that Spark can't use."""


class TableError(GliclassSparkError):
    """A table that is missing, lacks a column, or holds what the job can't work on."""


class ErrorShareError(GliclassSparkError):
    """Too many rows could not be scored; the run was stopped and committed nothing."""

    exit_code = 1


class ManifestError(GliclassSparkError):
    """The counts of a run do not add up."""

    exit_code = 1


class JobError(GliclassSparkError):
    """Spark failed while a job was at work: a full disk, a lost cluster, a table that can't be read."""

    exit_code = 1


class SupersededError(GliclassSparkError):
    """A later run of the same pipeline took over; this one has stopped writing."""

    exit_code = 1


class ConflictError(GliclassSparkError):
    """Another writer kept changing a table that a job was writing."""

    exit_code = 1


class TrainingError(GliclassSparkError):
    """Training data that can't be learned from, or a training that diverged."""


class StackError(GliclassSparkError):
    """A server of `make stack` that does not start, or does not let its clients in."""


def describe_validation(error: ValidationError, source: str) -> str:
    """One line for a pydantic error: the source, the key, what is wrong with it, and its value.

    Only the first problem is told: the ones behind it are often its consequences.
    """
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"]) or "the document"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{source}: unknown key {key!r}; remove it, or check its spelling"
    if problem["type"] == "missing":
        return f"{source}: {key!r} is missing; add it"
    more = error.error_count() - 1
    also = f" (and {more} more)" if more else ""
    if problem["type"] == "value_error":
        return f"{source}: {key}: {message}{also}"
    return f"{source}: {key}: {message}, found {problem['input']!r}{also}"
