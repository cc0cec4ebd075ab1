"""Checkpoints that the reference library wrote, and engines over them. No network, one thread."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

# torch and transformers are imported by the fixtures that need them: rules and labels are tested without.
if TYPE_CHECKING:
    from reference_models import Reference

    from gliclass_spark.checkpoints.registry import ModelVersion, Registry
    from gliclass_spark.inference.engine import Engine

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported
# Triton's kernels run in its interpreter, on a processor's tensors; with 0 they are compiled, for a GPU that is there.
os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session", autouse=True)
def _quiet_and_on_one_thread() -> None:
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()


@pytest.fixture(scope="session")
def reference() -> Iterator[Callable[..., Reference]]:
    """`reference(backbone, **config)`: a random model of the reference library and its folder. Not to be changed."""
    from reference_models import build, save

    made: dict[str, Reference] = {}
    with TemporaryDirectory() as root:

        def of(backbone: str = "bert", **changes: Any) -> Reference:
            key = f"{backbone} {sorted(changes.items())}"
            if key not in made:
                made[key] = save(build(backbone, **changes), Path(root, str(len(made))))
            return made[key]

        yield of


@pytest.fixture
def folder(reference: Callable[..., Reference]) -> Iterator[Path]:
    """A copy of a valid BERT checkpoint, to damage."""
    with TemporaryDirectory() as root:
        yield Path(shutil.copytree(reference().folder, Path(root, "checkpoint")))


@pytest.fixture(scope="session")
def engine(reference: Callable[..., Reference]) -> Callable[..., Engine]:
    """`engine(backbone, precision=..., max_batch_tokens=..., **config)`: on the CPU, float32 by default."""
    from gliclass_spark.checkpoints.uri import resolve_model
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.model import checkpoint

    @cache
    def loaded(backbone: str, precision: str, **changes: Any) -> checkpoint.Checkpoint:
        return checkpoint.load(resolve_model(str(reference(backbone, **changes).folder)))

    @cache
    def of(
        backbone: str = "bert", *, precision: str = "float32", max_batch_tokens: int | None = None, **changes: Any
    ) -> Engine:
        model = loaded(backbone, precision, **changes)  # not shared between precisions: an engine converts it
        return Engine(model, device="cpu", precision=precision, max_batch_tokens=max_batch_tokens)

    return of


@pytest.fixture
def registry(registry_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    from gliclass_spark.checkpoints.registry import Registry

    shutil.copy(registry_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("GLICLASS_SPARK_CACHE", str(tmp_path / "cache"))
    return Registry()


@pytest.fixture
def register(registry: Registry) -> Callable[..., ModelVersion]:
    """`register(folder)`: the folder as the next version of the model "mail"."""

    def of(folder: str | Path, **tags: str) -> ModelVersion:
        with registry.run("retraining", "retrain-1", {}) as tracked:
            return registry.register("mail", Path(folder), tracked.run_id, tags)

    return of


@pytest.fixture
def two_versions(
    registry: Registry, register: Callable[..., ModelVersion], tiny_model: str, other_tiny_model: str
) -> Registry:
    """Version 1 is the champion, version 2 its challenger."""
    register(tiny_model)
    registry.promote("mail", "1")
    registry.set_challenger("mail", register(other_tiny_model))
    return registry


@pytest.fixture
def pipelines(tmp_path: Path) -> Path:
    """A folder for pipeline files, with a label set in the folder beside it."""
    folder = tmp_path / "conf" / "pipelines"
    folder.mkdir(parents=True)
    (tmp_path / "conf" / "labels").mkdir()
    (tmp_path / "conf" / "labels" / "software.yaml").write_text("labels: [machine learning, web]\n", encoding="utf-8")
    return folder
