"""GLiClass as a flavour of MLflow models: log one with its labels, load it with `mlflow.pyfunc` anywhere."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gliclass_spark import __version__
from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.files import checkpoint_files
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.registry.versions import LABEL_SET_FILE
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import GliclassSparkError
from gliclass_spark.labels import LabelSet, Tree

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.models.model import ModelInfo

    from gliclass_spark.inference.engine import Engine

FLAVOR = "gliclass"
TEXT = "text"
_EXAMPLE = {TEXT: ["Where is my parcel?", "Please find attached invoice 42."]}


def log_model(
    model: str,
    labels: LabelSet | Sequence[str] | Tree,
    *,
    name: str = "model",
    registered_model_name: str | None = None,
    registry: str | None = None,
) -> ModelInfo:
    """Log a checkpoint with its labels in MLflow's active run, or a new one, and return MLflow's `ModelInfo`.

    model: a model URI, as `Engine.from_pretrained` takes it. name: of the logged model.
    registered_model_name: also register it as a new version, which pipelines load, too: "model: models:/NAME/1".
    registry: the tracking URI of a model models:/... that is logged again.

    Raises MlflowException, as every `log_model` does: also for labels, and for a model, that can't be used.
    """
    import mlflow
    from mlflow.models import Model

    import gliclass_spark.mlflow as flavor

    info: ModelInfo = Model.log(
        None,
        flavor,
        name=name,
        registered_model_name=registered_model_name,
        model=model,
        labels=labels,
        registry=registry,
    )
    if registered_model_name is not None:
        folder = Path(mlflow.artifacts.download_artifacts(info.model_uri))
        uri = mlflow.get_tracking_uri()
        Registry(uri).record_digests(registered_model_name, str(info.registered_model_version), folder)
    return info


def save_model(
    model: str,
    path: str | Path,
    labels: LabelSet | Sequence[str] | Tree,
    *,
    mlflow_model: Model | None = None,
    registry: str | None = None,
) -> None:
    """Save a checkpoint with its labels as an MLflow model: safetensors, YAML and JSON files, no pickle.

    path: a folder that does not exist, or is empty. Others as `log_model`.
    """
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model
    from mlflow.models.utils import _save_example

    folder = Path(path)
    if folder.is_dir() and any(folder.iterdir()):
        raise MlflowException.invalid_parameter_value(f"path {folder} is not empty; give a folder that does not exist")
    try:
        label_set = LabelSet.coerce(labels)
        ref = resolve_model(model, registry=registry)
    except GliclassSparkError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from error
    folder.mkdir(parents=True, exist_ok=True)
    if model == embedded_files.NAME:  # its files are in two packages
        from gliclass_spark.model.checkpoint import load, save

        checkpoint = load(ref)
        save(checkpoint.model, checkpoint.tokenizer, folder)
    else:
        for file in checkpoint_files(ref.folder):
            (folder / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(ref.folder / file, folder / file)
    (folder / LABEL_SET_FILE).write_text(label_set.to_yaml(), encoding="utf-8")

    mlflow_model = mlflow_model or Model()
    mlflow_model.signature = signature()
    _save_example(mlflow_model, _example(), str(folder))
    mlflow_model.add_flavor(FLAVOR, model=model, digest=ref.digest, gliclass_spark_version=__version__)
    (folder / "requirements.txt").write_text(f"gliclass-spark[registry]=={__version__}\n", encoding="utf-8")
    environment = (
        f"python: {platform.python_version()}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    )
    (folder / "python_env.yaml").write_text(environment, encoding="utf-8")
    pyfunc.add_to_model(mlflow_model, loader_module="gliclass_spark.mlflow", python_env="python_env.yaml")
    mlflow_model.save(str(folder / "MLmodel"))


def signature() -> ModelSignature:
    """Return the signature: `text` in; `labels`, best first, the `scores` of all labels and `error` out."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Map, Schema

    inputs = Schema([ColSpec(DataType.string, TEXT, required=False)])
    outputs = Schema(
        [
            ColSpec(Array(DataType.string), "labels"),
            ColSpec(Map(DataType.double), "scores"),
            ColSpec(DataType.string, "error"),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


class TextClassifier:
    """What `mlflow.pyfunc.load_model` returns inside its wrapper: a model with its labels."""

    def __init__(self, engine: Engine, label_set: LabelSet) -> None:
        self.engine = engine
        self.label_set = label_set

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row for each text, in order: `labels`, `scores`, and `error`, the message or "".

        model_input: a frame with a column `text`, or with one column. Raises MlflowException for any other.
        """
        import pandas as pd
        from mlflow.exceptions import MlflowException

        columns = list(model_input.columns)
        if TEXT not in columns and len(columns) != 1:
            # MLflow leaves out what the signature does not name, and so everything of a list or of another column.
            given = f"found {columns}" if columns else "and MLflow leaves out all others"
            raise MlflowException.invalid_parameter_value(
                f"the input must have a column {TEXT!r}, {given}; give the texts as "
                f"pandas.DataFrame({{{TEXT!r}: texts}})"
            )
        column = model_input[TEXT if TEXT in columns else columns[0]]
        texts = [text if isinstance(text, str) else None for text in column]
        rows = self.engine.classify(texts, self.label_set)
        return pd.DataFrame(
            {
                "labels": [[scored.label for scored in row.labels] for row in rows],
                "scores": [row.scores for row in rows],
                # MLflow's Spark UDF makes the text "None" of a null.
                "error": [row.error.message if row.error else "" for row in rows],
            }
        )


def _load_pyfunc(path: str) -> TextClassifier:
    """Load the model in a folder that `save_model` wrote; MLflow calls it by this name."""
    from gliclass_spark.inference.engine import Engine

    return TextClassifier(Engine.from_pretrained(path), LabelSet.from_yaml(Path(path, LABEL_SET_FILE)))


def _example() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(_EXAMPLE)
