"""`run` from Python refuses wrong arguments before Spark starts, and loads no drawing library."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gliclass_spark import Pipeline, run
from gliclass_spark.errors import ConfigError, GliclassSparkError, LabelSetError, RulesError

SETTINGS: dict[str, Any] = {
    "name": "mail",
    "source": {"path": "/data/mail", "id": "id", "text": "body"},
    "label_set": ["spam", "lake"],
    "tables": "/data/lake",
}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"name": "My Mail"}, ConfigError, "Pipeline: name: String should match pattern"),
        ({"label_set": []}, ConfigError, "Pipeline: label_set.labels: holds no label; name at least one"),
        ({"max_error_ratio": 2}, ConfigError, "Pipeline: max_error_ratio: Input should be less than or equal to 1"),
        ({"tabels": "/data"}, ConfigError, "Pipeline: unknown key 'tabels'; remove it, or check its spelling"),
        ({"source": {"path": "/data", "id": "id"}}, ConfigError, "Pipeline: 'source.text' is missing; add it"),
        ({"label_set": "no/such.yaml"}, LabelSetError, "no/such.yaml"),
        ({"reject": [{"reason": "bad", "when": "scores['ham'] > 0.5"}]}, RulesError, "'ham'"),
    ],
)
def test_a_pipeline_with_a_wrong_value_is_refused_in_one_line(
    changes: dict[str, Any], kind: type[GliclassSparkError], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        Pipeline(**{**SETTINGS, **changes})
    assert "\n" not in str(caught.value)


def test_relative_paths_begin_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.yaml").write_text("labels: [spam, lake]")
    source = {"path": "../documents", "id": "id", "text": "body"}
    pipeline = Pipeline(name="mail", source=source, label_set="labels.yaml", tables="lake", model="./model")  # type: ignore[arg-type]
    assert (pipeline.source.path, pipeline.tables) == (str(tmp_path.parent / "documents"), str(tmp_path / "lake"))
    assert pipeline.model == str(tmp_path / "model")
    assert pipeline.label_set.names == ("spam", "lake")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pipeline": SETTINGS}, "pipeline must be a Pipeline or the path of its file, found {'name': 'mail'"),
        ({"retag": "some"}, "retag 'some' is unknown; use one of changed, all, none"),
        ({"device": "gpu"}, "device 'gpu' is unknown; use"),
        ({"precision": "half"}, "precision 'half' is unknown; use one of"),
        ({"report": "/no/such/folder/run.html"}, "its folder does not exist; create it"),
        ({"spark": object()}, "run takes a classic Spark session, found one of Spark Connect"),
        ({"pipeline": "/no/such.yaml"}, "/no/such.yaml"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        run(**{"pipeline": Pipeline(**SETTINGS), **arguments})


def test_a_report_needs_tables_that_are_read_without_spark(tmp_path: Path) -> None:
    pipeline = Pipeline(**{**SETTINGS, "tables": {"schema": "main.mail"}})
    with pytest.raises(ConfigError, match="report needs a 'location' beside the schema in 'tables'"):
        run(pipeline, report=tmp_path / "run.html")


def test_importing_run_loads_neither_spark_nor_a_drawing_library() -> None:
    program = "import sys; from gliclass_spark import Pipeline, RunRecord, run; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"pyspark", "torch", "matplotlib", "jinja2", "pandas"}.isdisjoint(finished.stdout.split())
