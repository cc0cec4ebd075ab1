"""Properties and layout of the tables that a pipeline writes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

_PROPERTY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")
_READERS = "readers without Spark, Airflow's checks among them, can't read such a table"
# Properties that would break what the jobs rely on, by a pattern of the name in lower case.
_REFUSED = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"delta\.enablechangedatafeed", "the jobs read each other's changes from it"),
        (r"delta\.appendonly", "the jobs update and delete rows"),
        (r"delta\.settransactionretentionduration", "Delta would forget which runs have written"),
        (r"delta\.constraints\..*", "a row that does not meet it would fail the job"),
        (r"delta\.columnmapping\..*", "the jobs set it where the names of columns need it"),
        (r"delta\.(feature\..*|minreaderversion|minwriterversion)", "the jobs set what they need"),
        (r"delta\.(enabletypewidening|checkpointpolicy|coordinatedcommits.*)", _READERS),
        (r"delta\.(enableicebergcompat.*|enableicebergwritercompat.*|universalformat\..*)", _READERS),
    )
)
_MAX_CLUSTER_COLUMNS = 4


def as_text(value: object) -> object:
    """Return a value as YAML has it as Spark's options and properties take it: text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


class Output(BaseModel):
    """Properties and layout of the tables that a pipeline writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    properties: dict[str, Annotated[str, BeforeValidator(as_text)]] = Field(default_factory=dict)
    """Table properties of all tables, such as `delta.logRetentionDuration: interval 60 days`, or your own, with a dot
    in the name. They are set on existing tables, too; a property that is taken out of the file stays set."""
    partition_by: tuple[str, ...] = ()
    """Columns of the documents that partition `kept`, `rejected`, `quarantined` and the routes' tables. For columns of
    few values. It can't be changed for tables that exist."""
    cluster_by: tuple[str, ...] = ()
    """At most four columns of these tables for liquid clustering. Default: `doc_id`."""

    @field_validator("properties")
    @classmethod
    def _are_compatible(cls, properties: dict[str, str]) -> dict[str, str]:
        for name in properties:
            if not _PROPERTY.fullmatch(name):
                raise ValueError(f"{name!r} is no property; write delta.NAME, or a name of your own with a dot")
            for pattern, reason in _REFUSED:
                if pattern.fullmatch(name.lower()):
                    raise ValueError(f"{name!r} is not for a pipeline's tables: {reason}; remove it")
        return properties

    @model_validator(mode="after")
    def _has_one_layout(self) -> Output:
        if self.partition_by and self.cluster_by:
            raise ValueError("has both 'partition_by' and 'cluster_by'; Delta takes one of them: remove the other")
        if len(self.cluster_by) > _MAX_CLUSTER_COLUMNS:
            raise ValueError(f"cluster_by has {len(self.cluster_by)} columns; Delta takes {_MAX_CLUSTER_COLUMNS}")
        for key in ("partition_by", "cluster_by"):
            folded = [name.lower() for name in getattr(self, key)]
            if repeated := next((name for name in folded if folded.count(name) > 1), None):
                raise ValueError(f"{key} names {repeated!r} twice; remove one")
        return self
