"""Pipeline files, valid and invalid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError, GliclassSparkError

DOCUMENT: dict[str, Any] = {
    "name": "demo",
    "source": {"path": "../../lake/demo/documents", "id": "doc_id", "text": "text"},
    "label_set": ["machine learning", "web"],
    "tables": "../../lake/demo",
}
FULL = """
name: demo
source:
  path: ../../lake/demo/documents
  format: parquet
  id: doc_id
  text: text
  columns: [title]
label_set: ../labels/software.yaml
model: ./models/small
tables: ../../lake/demo
reject:
  - {reason: too_short, when: token_count < 20}
routes:
  - {route: machine_learning, when: "scores['machine learning'] >= 0.5"}
default_route: rest
max_error_ratio: 0.05
"""


def write(folder: Path, document: dict[str, Any] | str) -> Path:
    path = folder / "demo.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    return path


def merged(**changes: Any) -> dict[str, Any]:
    """Return DOCUMENT with changes; `source` is merged, and keys with the value ... are removed."""
    document = {**DOCUMENT, **changes, "source": {**DOCUMENT["source"], **changes.get("source", {})}}
    document["source"] = {key: value for key, value in document["source"].items() if value is not ...}
    return {key: value for key, value in document.items() if value is not ...}


def refusal(folder: Path, document: dict[str, Any] | str, kind: type[GliclassSparkError] = ConfigError) -> str:
    """Return the error message of a pipeline file, without the path that it starts with."""
    path = write(folder, document)
    with pytest.raises(GliclassSparkError) as caught:
        Pipeline.from_yaml(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path)).removeprefix(": ")
