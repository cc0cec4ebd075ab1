"""Parameters of the Spark ML transformer: defaults, validation, setters and getters; no Spark session is needed."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from pyspark.sql.types import ArrayType, IntegerType, StringType, StructType

from gliclass_spark import Label, LabelSet, gliclass_udf
from gliclass_spark.spark.transformer import GLiClassTransformer
from gliclass_spark.spark.udf_arguments import OUTPUT_TYPES

TEXTS = StructType().add("id", IntegerType()).add("Body", StringType())


def test_the_defaults_are_documented() -> None:
    transformer = GLiClassTransformer()
    values = {
        param.name: transformer.getOrDefault(param) for param in transformer.params if transformer.isDefined(param)
    }
    assert values == {
        "inputCol": "text",
        "outputCol": "labels",
        "model": "embedded",
        "output": "labels",
        "precision": "auto",
    }
    assert all(param.doc for param in transformer.params)
    assert "threshold: the score, in [0, 1], from which a label is assigned" in transformer.explainParams()


def test_every_parameter_has_a_setter_and_a_getter() -> None:
    values: dict[str, Any] = {
        "inputCol": "body",
        "outputCol": "topics",
        "labels": ["spam", "ham"],
        "labelsCol": "candidates",
        "model": "./folder",
        "output": "best",
        "threshold": 0.25,
        "multiLabel": False,
        "topK": 2,
        "device": "cuda:1",
        "precision": "float32",
    }
    by_constructor, by_setters = GLiClassTransformer(**values), GLiClassTransformer()
    for name, value in values.items():
        setter = getattr(by_setters, f"set{name[0].upper()}{name[1:]}")
        assert setter(value) is by_setters
        for transformer in (by_constructor, by_setters):
            assert getattr(transformer, f"get{name[0].upper()}{name[1:]}")() == value
    assert set(values) == {param.name for param in by_setters.params} - {"modelDigest"}
    assert by_setters.setParams(topK=3).getTopK() == 3
    assert by_setters.getOutput() == "best"


def test_the_parameters_are_those_of_the_function() -> None:
    spark_ml = {
        re.sub("[A-Z]", lambda match: f"_{match[0].lower()}", param.name) for param in GLiClassTransformer().params
    }
    # A registry's URI may hold a password, which `save` would write: the environment has it.
    own = {"input_col", "output_col", "labels_col", "model_digest"}
    assert spark_ml - own == set(inspect.signature(gliclass_udf).parameters) - {"registry"}


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"threshold": 1.5}, ValueError, "threshold must be a number from 0 to 1, found 1.5; give"),
        ({"threshold": "0.5"}, TypeError, 'param value given for param "threshold". threshold must be a number from 0'),
        ({"topK": 0}, ValueError, "topK must be a whole number from 1 on, found 0; give"),
        ({"multiLabel": "no"}, TypeError, "multiLabel must be True or False, found 'no'; give"),
        ({"output": "label"}, ValueError, "output 'label' is unknown; use one of labels, best, scores, full"),
        ({"device": "gpu"}, ValueError, "device 'gpu' is unknown; use \"cpu\""),
        ({"precision": "half"}, ValueError, "precision 'half' is unknown; use one of auto"),
        ({"model": 5}, TypeError, "model must be a model URI, found 5; give"),
        ({"model": ""}, ValueError, "model must be a model URI, found ''; give"),
        ({"inputCol": 5}, TypeError, 'Invalid param value given for param "inputCol"'),
        ({"labels": "spam"}, TypeError, "found the text 'spam'; for one label write ['spam']"),
        ({"labels": ["spam", "spam"]}, ValueError, "label 'spam' appears twice; remove one"),
        ({"labels": []}, ValueError, "holds no label; name at least one"),
    ],
)
def test_a_wrong_value_is_refused_when_it_is_set(values: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        GLiClassTransformer(**values)
    with pytest.raises(kind, match=re.escape(message)):
        GLiClassTransformer().setParams(**values)


def test_positional_arguments_and_unknown_parameters_are_refused() -> None:
    with pytest.raises(TypeError, match="forces keyword arguments"):
        GLiClassTransformer("text")  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument 'input'"):
        GLiClassTransformer(input="text")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("spam", "ham"), ["spam", "ham"]),
        (np.array(["spam", "ham"]), ["spam", "ham"]),
        (LabelSet.of("spam"), ["spam"]),
        (LabelSet.of("spam", name="mail"), LabelSet.of("spam", name="mail")),
        ([Label(name="spam", threshold=0.9)], LabelSet.of(Label(name="spam", threshold=0.9))),
        ({"mail": ["spam", "ham"]}, LabelSet.of({"mail": ["spam", "ham"]})),
    ],
)
def test_labels_are_names_or_a_label_set(labels: Any, expected: Any) -> None:
    transformer = GLiClassTransformer(labels=labels)
    assert transformer.getLabels() == expected
    # What Spark saves is what it sets when it loads.
    again = GLiClassTransformer()
    again.set(again.labels, transformer.getOrDefault(transformer.labels))
    assert again.getLabels() == expected


def test_another_model_drops_the_digest() -> None:
    transformer = GLiClassTransformer(labels=["spam"])
    transformer.set(transformer.modelDigest, "0" * 64)
    assert transformer.copy({transformer.topK: 1}).getModelDigest() == "0" * 64
    assert transformer.copy({transformer.model: "./other"}).getModelDigest() is None
    assert transformer.getModelDigest() == "0" * 64
    assert transformer.setModel("./other").getModelDigest() is None


@pytest.mark.parametrize("output", OUTPUT_TYPES)
def test_the_schema_has_a_column_more(output: Any) -> None:
    transformer = GLiClassTransformer(inputCol="body", outputCol="topics", output=output)
    assert transformer.transformSchema(TEXTS) == StructType([*TEXTS.fields]).add("topics", OUTPUT_TYPES[output])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"inputCol": "text"}, "inputCol 'text' is not among the columns id, Body; call setInputCol with one of them"),
        ({"inputCol": "id"}, "inputCol 'id' must be a string, found int; cast it, or call setInputCol"),
        ({"inputCol": "Body", "outputCol": "ID"}, "outputCol 'ID' exists already; call setOutputCol with another name"),
    ],
)
def test_a_schema_that_does_not_fit_is_refused(columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        GLiClassTransformer(**columns).transformSchema(TEXTS)


def test_a_schema_of_lists_is_refused() -> None:
    with pytest.raises(ValueError, match=r"inputCol 'text' must be a string, found array<string>"):
        GLiClassTransformer().transformSchema(StructType().add("text", ArrayType(StringType())))
