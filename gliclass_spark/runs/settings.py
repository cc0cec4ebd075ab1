"""Settings hashes: SHA-256 of all that a job's results depend on, apart from the data."""

from __future__ import annotations

import hashlib
import json
from datetime import date

from gliclass_spark.config.pipeline import Pipeline, Retag


def tag_settings(pipeline: Pipeline, model_digest: str | None, retag: Retag) -> str:
    """Return the hash of the settings that tags depend on: the model among them, but for `--retag none`."""
    return _hash(
        **pipeline.source.selection(),
        label_set=pipeline.label_set.hash,
        model=model_digest if retag != "none" else None,
        exploration=pipeline.exploration,
    )


def shadow_settings(pipeline: Pipeline, model_digest: str, max_documents: int) -> str:
    """Return the hash of the settings that the tags of a shadow run depend on."""
    selection, label_set = pipeline.source.selection(), pipeline.label_set.hash
    return _hash(**selection, label_set=label_set, model=model_digest, max_documents=max_documents)


def filter_settings(pipeline: Pipeline, run_date: date | None = None) -> str:
    """Return the hash of the settings that the filter's decisions depend on. run_date: for rules that use it.

    The source's path is none of them: the identity of its commits is compared instead.
    """
    documents = {**pipeline.source.selection(), "columns": pipeline.source.columns}
    return _hash(**documents, **_decision_settings(pipeline, run_date))


def route_settings(pipeline: Pipeline, run_date: date | None = None) -> str:
    """Return the hash of the settings that routes depend on. run_date: for rules that use it."""
    return _hash(**_decision_settings(pipeline, run_date))


def _decision_settings(pipeline: Pipeline, run_date: date | None) -> dict[str, object]:
    settings: dict[str, object] = {"label_set": pipeline.label_set.hash, "rules": pipeline.rules.hash}
    return settings if run_date is None else {**settings, "run_date": run_date}


def _hash(**settings: object) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
