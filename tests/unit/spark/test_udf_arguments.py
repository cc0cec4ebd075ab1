"""Functions of a text column refuse wrong arguments when they are made; no Spark session is needed."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from pyspark.sql import functions as F  # noqa: N812

from gliclass_spark import Label, LabelSet, gliclass_udf, register_gliclass
from gliclass_spark.errors import ConfigError, GliclassSparkError, LabelSetError
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.spark.udf_arguments import OUTPUT_TYPES, PRECISIONS, LabelOptions, Output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.5}, "threshold must be a number from 0 to 1, found 1.5; give the score"),
        ({"threshold": "0.3"}, "threshold must be a number from 0 to 1, found '0.3'"),
        ({"threshold": True}, "threshold must be a number from 0 to 1, found True"),
        ({"threshold": float("nan")}, "threshold must be a number from 0 to 1, found nan"),
        ({"multi_label": "no"}, "multi_label must be True or False, found 'no'; give False for labels of which"),
        ({"top_k": 0}, "top_k must be a whole number from 1 on, found 0; give the number of labels"),
        ({"top_k": 1.0}, "top_k must be a whole number from 1 on, found 1.0"),
        ({"output": "label"}, "output 'label' is unknown; use one of labels, best, scores, full"),
        ({"output": ["best"]}, r"output \['best'\] is unknown"),
        ({"device": "gpu"}, 'device \'gpu\' is unknown; use "cpu", "cuda" or "cuda:0"'),
        ({"precision": "float16"}, "precision 'float16' is unknown; use one of auto, float32, bfloat16, int8"),
        ({"model": None}, "model must be a model URI, found None; give a text"),
        ({"labels": "spam"}, r"found the text 'spam'; for one label write \['spam'\]"),
        ({"labels": 5}, r"labels must be a list of names, a tree or a LabelSet, found 5; write them as"),
        ({"labels": F}, "labels must be a list of names, a tree or a LabelSet, found <module"),
        ({"labels": ["spam", "spam"]}, "label 'spam' appears twice; remove one"),
        ({"labels": []}, "holds no label; name at least one"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_name_and_the_fix(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GliclassSparkError, match=message) as caught:
        gliclass_udf(**{"labels": ["spam", "ham"], **arguments})
    assert isinstance(caught.value, (ConfigError, LabelSetError))
    assert "\n" not in str(caught.value)


def test_a_function_takes_columns_or_their_names() -> None:
    with pytest.raises(ConfigError, match=r"text must be a column or its name, found 5; write F\.col or F\.lit"):
        gliclass_udf(["spam"])(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["f(x) AS SELECT 1; --", "", "naïve"])
def test_a_name_that_is_none_in_sql_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="can't be the name of a SQL function; use letters, digits and _"):
        register_gliclass(None, name, ["spam"])  # type: ignore[arg-type]
    without_session: Any = ("ai_classify", ["spam"])
    with pytest.raises(ConfigError, match=r"\['spam'\] can't be .*: register_gliclass\(spark, 'name', \.\.\.\)"):
        register_gliclass(*without_session)


def test_options_stand_in_place_of_the_label_sets() -> None:
    options = LabelOptions(threshold=np.float32(0.25), multi_label=False, top_k=np.int64(1))  # type: ignore[arg-type]
    label_set = options.label_set(LabelSet.of("spam", Label(name="ham", threshold=0.9), name="mail"))
    assert (label_set.name, label_set.thresholds, label_set.multi_label, label_set.top_k) == (
        "mail",
        (0.25, 0.9),
        False,
        1,
    )
    assert LabelSet.from_json(label_set.canonical_json).hash == label_set.hash


def test_without_options_a_label_set_is_itself() -> None:
    label_set = LabelSet.of("spam")
    assert LabelOptions().label_set(label_set) is label_set


def test_the_names_of_outputs_and_precisions_are_those_of_the_types() -> None:
    assert tuple(OUTPUT_TYPES) == get_args(Output)
    assert set(PRECISIONS) == {"auto", *get_args(ModelPrecision)}
