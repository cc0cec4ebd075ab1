"""GLiClass as an MLflow model: logged, registered, and loaded by `mlflow.pyfunc` and by pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from docs_blocks import DOCS, blocks
from mlflow.exceptions import MlflowException

import gliclass_spark.mlflow
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet

LABELS = LabelSet.of("parcel", "invoice", name="mail")
TEXTS = ["Where is my parcel?", None, "Invoice 42", " "]


@pytest.fixture
def tracked(registry: Registry, tmp_path: Path) -> Registry:
    mlflow.set_tracking_uri(registry.uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("mail", (tmp_path / "artifacts").as_uri()))
    return registry


def test_a_registered_model_is_loaded_by_pyfunc_and_by_pipelines(tracked: Registry, tiny_model: str) -> None:
    info = gliclass_spark.mlflow.log_model(tiny_model, LABELS, registered_model_name="mail")
    assert info.registered_model_version == 1
    loaded = mlflow.pyfunc.load_model("models:/mail/1")
    predicted = loaded.predict(pd.DataFrame({"text": TEXTS}))
    expected = Engine.from_pretrained(tiny_model).classify(TEXTS, LABELS)
    assert list(predicted["labels"]) == [[label.label for label in row.labels] for row in expected]
    assert list(predicted["scores"]) == [row.scores for row in expected]
    messages = [row.error.message if row.error else "" for row in expected]
    assert list(predicted["error"]) == messages
    assert list(map(bool, messages)) == [False, True, False, True]
    assert resolve_model("models:/mail/1").digest == resolve_model(tiny_model).digest


def test_the_code_of_models_md_runs(tracked: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    [code, *_] = [block.text for block in blocks(DOCS / "models.md") if "mlflow.pyfunc.load_model" in block.text]
    exec(code, {})  # noqa: S102 - our own documentation
    assert "[parcel]" in capsys.readouterr().out


def test_the_files_have_a_signature_an_example_and_no_pickle(tiny_model: str, tmp_path: Path) -> None:
    gliclass_spark.mlflow.save_model(tiny_model, tmp_path / "model", LABELS)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert [column.name for column in loaded.metadata.get_input_schema()] == ["text"]
    assert [column.name for column in loaded.metadata.get_output_schema()] == ["labels", "scores", "error"]
    example = loaded.metadata.load_input_example(str(tmp_path / "model"))
    assert list(loaded.predict(example).columns) == ["labels", "scores", "error"]
    suffixes = {path.suffix for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert suffixes <= {"", ".json", ".safetensors", ".yaml", ".txt"}
    assert loaded.metadata.flavors["python_function"]["loader_module"] == "gliclass_spark.mlflow"
    assert loaded.metadata.flavors["gliclass"]["digest"] == resolve_model(tiny_model).digest


def test_a_frame_without_a_column_of_texts_is_refused(tiny_model: str, tmp_path: Path) -> None:
    gliclass_spark.mlflow.save_model(tiny_model, tmp_path / "model", LABELS)
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    for others in (["Where is my parcel?"], "Where is my parcel?", pd.DataFrame({"body": TEXTS})):
        with pytest.raises(MlflowException, match=r"a column 'text', and MLflow leaves out all others; give the texts"):
            loaded.predict(others)
    model = gliclass_spark.mlflow.TextClassifier(Engine.from_pretrained(tiny_model), LABELS)
    assert len(model.predict(pd.DataFrame({"body": TEXTS}))) == len(TEXTS)
    with pytest.raises(MlflowException, match=r"'text', found \['a', 'b'\]; give the texts as pandas.DataFrame"):
        model.predict(pd.DataFrame({"a": TEXTS, "b": TEXTS}))


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [
        ("embedded", ["a", "a"], "label 'a' appears twice"),
        ("embedded", "spam", r"write \['spam'\]"),
        ("/no/such/folder", ["a"], "'/no/such/folder' is not a folder"),
    ],
)
def test_what_can_not_be_saved_is_refused_with_nothing_written(
    model: str, labels: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(MlflowException, match=message):
        gliclass_spark.mlflow.save_model(model, tmp_path / "new", labels)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(MlflowException, match="is not empty"):
        gliclass_spark.mlflow.save_model("embedded", tmp_path, LABELS)
