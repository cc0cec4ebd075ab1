"""The page of the configuration files, printed from the models that read them.

What a key means stands in meanings.yaml, for exactly the keys that there are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from gliclass_spark.config.pipeline import Pipeline, Source
from gliclass_spark.config.retraining import GateRules, Ppo, RetrainConfig, RewardWeights, Supervised
from gliclass_spark.config.rules import RejectRule, Route
from gliclass_spark.config.schedule import Alerts, RetrainSchedule, Schedule
from gliclass_spark.labels import Example, Label, LabelSet, RetrievedExample

MEANINGS = Path(__file__).with_name("meanings.yaml")
# What the reader fills in, and no file may.
_NO_KEYS: dict[type[BaseModel], set[str]] = {RetrainConfig: {"pipeline_file"}}
# Keys whose value may be a file, or short for a mapping.
_READ_FROM = {"label_set": "file, list or mapping", "pipeline": "file"}
_HEAD = """# Configuration

Three kinds of files: pipelines (`conf/pipelines`), label sets (`conf/labels`) and retrainings (`conf/retrain`). All are
YAML. An unknown key is an error, a key that is said twice is an error, and a message names file, key and mend. A
relative path is relative to the file that says it. Spark's settings are files as
[local.yaml](../../conf/spark/local.yaml) and [gpu.yaml](../../conf/spark/gpu.yaml), for the option `--conf`.
"""
SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("A pipeline", Pipeline, "One file of `conf/pipelines`, as [corpus.yaml](../../conf/pipelines/corpus.yaml)."),
    ("source", Source, "Where a pipeline's documents are."),
    ("reject", RejectRule, "A pipeline's list of reasons to reject a document. The first that matches counts."),
    ("routes", Route, "A pipeline's list of destinations of what is kept."),
    ("airflow, of a pipeline", Schedule, "When and how Airflow runs the pipeline."),
    ("alerts", Alerts, "Who is told when a run fails, or when its report warns. It is always logged as well."),
    (
        "A label set",
        LabelSet,
        "One file of `conf/labels`, as [software.yaml](../../conf/labels/software.yaml), or written in the pipeline.",
    ),
    ("labels", Label, "An entry of a label set's list. A bare text is a label with that name."),
    ("examples", Example, "A text whose labels are known, which the model reads beside the text."),
    ("retrieved", RetrievedExample, "A retrieved text, in the format of retrieval-augmented classification."),
    (
        "A retraining",
        RetrainConfig,
        "One file of `conf/retrain`, as [reviewed.yaml](../../conf/retrain/reviewed.yaml).",
    ),
    ("supervised", Supervised, "Learning from what is known about labels."),
    ("ppo", Ppo, "Learning from rewards, by proximal policy optimisation. `ppo: null` leaves it out."),
    ("reward", RewardWeights, "The parts of a text's reward where its labels are known."),
    ("gate", GateRules, "What a candidate must reach beside the champion."),
    ("airflow, of a retraining", RetrainSchedule, "When and how Airflow retrains: every Sunday, unless it says more."),
)


def page() -> str:
    """Every key of every file: type, default and meaning, in Markdown."""
    meanings = read_meanings()
    return "\n\n".join([_HEAD, *(_section(*each, meanings) for each in SECTIONS)]) + "\n"


def keys(model: type[BaseModel]) -> list[str]:
    """What a file may say there."""
    return [name for name in model.model_fields if name not in _NO_KEYS.get(model, set())]


def read_meanings() -> dict[str, dict[str, str]]:
    """For each model's name, what its keys mean. A model takes those that it does not state from its bases."""
    found: dict[str, dict[str, str]] = yaml.safe_load(MEANINGS.read_text(encoding="utf-8"))
    return {
        model.__name__: {
            key: text for base in reversed(model.__mro__) for key, text in found.get(base.__name__, {}).items()
        }
        for _, model, _ in SECTIONS
    }


def _section(title: str, model: type[BaseModel], said: str, meanings: dict[str, dict[str, str]]) -> str:
    missing = [key for key in keys(model) if key not in meanings[model.__name__]]
    if missing:
        raise LookupError(f"{MEANINGS.name} lacks the meaning of {model.__name__}.{missing[0]}; add it")
    level = "##" if title[0].isupper() else "###"
    schema = model.model_json_schema()
    rows = [
        f"| `{key}` | {_READ_FROM.get(key) or _kind(schema['properties'][key])} | {_default(model, key)} | "
        f"{meanings[model.__name__][key]} |"
        for key in keys(model)
    ]
    return "\n".join(
        [f"{level} {title}", "", said, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows]
    )


def _kind(schema: dict[str, Any]) -> str:
    """What a value may be, in words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"] if each.get("type") != "null")
    if schema.get("type") == "array":
        of = _kind(schema.get("items", {}))
        return f"list of {'mappings' if of == 'mapping' else 'texts' if of == 'text' else of}"
    if "$ref" in schema or "allOf" in schema:
        return "mapping"
    named = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return named.get(schema.get("type", ""), "mapping") + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    parts = [
        f"{words} {schema[key]:g}"
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
        )
        if schema.get(key) is not None and schema[key] != float("inf")
    ]
    return f", {' and '.join(parts)}" if parts else ""


def _default(model: type[BaseModel], key: str) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return "has to be given"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == ():
        return ""
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value, default=str)}`".replace('"', "")
