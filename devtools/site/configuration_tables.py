"""The page of the configuration files, printed from the pydantic models that read them.

The meaning of a key is the docstring below its field.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gliclass_spark.config.catalog import CatalogSchema
from gliclass_spark.config.output import Output
from gliclass_spark.config.pipeline import Pipeline, Source
from gliclass_spark.config.retraining import GateRules, Ppo, RetrainConfig, RewardWeights, Supervised
from gliclass_spark.config.rules import RejectRule, Route
from gliclass_spark.config.schedule import Alerts, RetrainSchedule, Schedule
from gliclass_spark.config.training import HeadFallback, SamplingConfig, TrainingConfig
from gliclass_spark.labels import Example, Label, LabelSet, RetrievedExample

# Fields that are no key of a file.
_NO_KEYS: dict[type[BaseModel], set[str]] = {RetrainConfig: {"pipeline_file"}}
# Keys whose value may also be a file, or a short form of a mapping.
_READ_FROM = {"label_set": "file, list or mapping", "tables": "folder or mapping", "pipeline": "file"}
_HEAD = """# Configuration

Four kinds of YAML files: pipelines (`conf/pipelines`), label sets (`conf/labels`), retrainings (`conf/retrain`) and
trainings (`conf/train`). Unknown and duplicate keys are errors; the message names the file, the key and the fix.
Relative paths are relative to the file. Spark's settings are files such as
[local.yaml](../../conf/spark/local.yaml) and [gpu.yaml](../../conf/spark/gpu.yaml), for the option `--conf`.
"""
SECTIONS: tuple[tuple[str, type[BaseModel], str], ...] = (
    ("A pipeline", Pipeline, "One file of `conf/pipelines`, such as [corpus.yaml](../../conf/pipelines/corpus.yaml)."),
    ("source", Source, "Where a pipeline's documents are."),
    (
        "tables",
        CatalogSchema,
        "The schema of the catalog that a pipeline's tables are in, unless they are in a folder.",
    ),
    ("output", Output, "Properties and layout of a pipeline's tables."),
    ("reject", RejectRule, "A pipeline's list of reject rules. The first that matches gives the reason."),
    ("routes", Route, "A pipeline's list of routes for kept documents."),
    ("airflow, of a pipeline", Schedule, "When and how Airflow runs the pipeline."),
    (
        "alerts",
        Alerts,
        "Who is alerted when a run fails or its report has warnings. Alerts are always logged.",
    ),
    (
        "A label set",
        LabelSet,
        "One file of `conf/labels`, such as [software.yaml](../../conf/labels/software.yaml), or in a pipeline file.",
    ),
    ("labels", Label, "An entry of a label set's list. A plain string is a label with that name."),
    ("examples", Example, "A text with known labels, in the model's input with each text."),
    ("retrieved", RetrievedExample, "A retrieved text, in the format of retrieval-augmented classification."),
    (
        "A retraining",
        RetrainConfig,
        "One file of `conf/retrain`, such as [reviewed.yaml](../../conf/retrain/reviewed.yaml).",
    ),
    ("supervised", Supervised, "Supervised training on labels known from feedback."),
    ("ppo", Ppo, "Training on rewards, by proximal policy optimisation. `ppo: null` leaves it out."),
    ("reward", RewardWeights, "Weights of the parts of the reward of a text with known labels."),
    ("gate", GateRules, "The limits that a candidate must meet, compared with the champion."),
    (
        "airflow, of a retraining",
        RetrainSchedule,
        "When and how Airflow retrains. Default: every Sunday.",
    ),
    (
        "A training",
        TrainingConfig,
        "One file of `conf/train`, for `train --config`, such as [few_shot.yaml](../../conf/train/few_shot.yaml).",
    ),
    ("sampling", SamplingConfig, "How batches are drawn from labelled sets."),
    (
        "head_fallback",
        HeadFallback,
        "Training of the head of a label-cached model alone, where another one has no clear gain on held-out examples.",
    ),
)


def page() -> str:
    """Return the page in Markdown: type, default and meaning of every key of every file."""
    return "\n\n".join([_HEAD, *(_section(*section) for section in SECTIONS)]) + "\n"


def keys(model: type[BaseModel]) -> list[str]:
    """Return the keys of the model's section in a file."""
    return [key for key in _fields(model) if key not in _NO_KEYS.get(model, set())]


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the model's fields by their keys in a file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each field of the model and its bases, on one line."""
    documented = {}
    aliases = {name: field.alias for name, field in model.model_fields.items() if field.alias is not None}
    for base in reversed(model.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        for statement, following in itertools.pairwise(_class_body(base)):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                    documented[aliases.get(name, name)] = " ".join(docstring.split())
    return documented


def _class_body(model: type[BaseModel]) -> list[ast.stmt]:
    [definition] = ast.parse(inspect.getsource(model)).body
    return definition.body if isinstance(definition, ast.ClassDef) else []


def _section(title: str, model: type[BaseModel], description: str) -> str:
    documented = meanings(model)
    missing = [key for key in keys(model) if key not in documented]
    if missing:
        raise LookupError(f"{model.__name__}.{missing[0]} has no docstring; add one below the field")
    level = "##" if title[0].isupper() else "###"
    schema = model.model_json_schema()
    rows = [
        f"| `{key}` | {_READ_FROM.get(key) or _kind(schema['properties'][key])} | {_default(model, key)} | "
        f"{documented[key]} |"
        for key in keys(model)
    ]
    return "\n".join(
        [f"{level} {title}", "", description, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows]
    )


def _kind(schema: dict[str, Any]) -> str:
    """Return the type of a value in words."""
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
    field = _fields(model)[key]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value == ():
        return ""
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{json.dumps(value, default=str)}`".replace('"', "")
