"""One engine for one process, on the GPU that Spark gave to the task; batches keep their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pyspark import TaskContext
from pyspark.resource import ResourceInformation

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError, DeviceError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.worker import gpu, scoring
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

LABELS = LabelSet.of("spam", "ham")
BATCHES: list[list[str | bytes | None]] = [["a lake", None], [b"ham \xff"], [], [b"spam", "eggs", b""]]


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_engines", {})
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)


@pytest.fixture
def settings(tiny_model: str) -> WorkerSettings:
    return WorkerSettings(resolve_model(tiny_model), "cpu", "float32", 1)


class TestClassify:
    """Batches in, the same batches out, each with its results."""

    def test_each_batch_comes_back_with_its_results(self, settings: WorkerSettings) -> None:
        found = list(scoring.classify(iter(BATCHES), list, LABELS.canonical_json, settings))
        assert [batch for batch, _, _ in found] == BATCHES
        codes = [[error and error.code for error in results.errors] for _, results, _ in found]
        assert codes == [[None, "null_text"], ["undecodable_text"], [], [None, None, "empty_text"]]
        expected = Engine.from_pretrained(settings.model, device="cpu", precision="float32").scores(["spam"], LABELS)
        np.testing.assert_allclose(found[3][1].scores[:1], expected, atol=1e-5)

    def test_a_process_loads_its_model_once_and_says_when(self, settings: WorkerSettings) -> None:
        loads = [
            report.loads
            for _ in range(2)
            for _, _, report in scoring.classify(iter(BATCHES), list, LABELS.canonical_json, settings)
        ]
        assert loads == [1, 0, 0, 0, 0, 0, 0, 0]

    def test_reports_are_what_the_engine_used(self, settings: WorkerSettings) -> None:
        reports = [report for _, _, report in scoring.classify(iter(BATCHES), list, LABELS.canonical_json, settings)]
        assert [(report.usage.texts, report.usage.errors) for report in reports] == [(2, 1), (1, 1), (0, 0), (3, 1)]

    def test_without_a_batch_no_model_is_loaded(self, settings: WorkerSettings) -> None:
        assert list(scoring.classify(iter([]), list, LABELS.canonical_json, settings)) == []
        assert scoring._engines == {}

    def test_other_weights_than_the_drivers_are_refused(self, settings: WorkerSettings) -> None:
        other = replace(settings, model=replace(settings.model, digest="0" * 64))
        with pytest.raises(CheckpointError, match=r"has the digest \w+ on this machine, expected 0000"):
            next(scoring.classify(iter(BATCHES), list, LABELS.canonical_json, other))


class TestDevice:
    """Which GPU, by what Spark gave to the task. No GPU is needed: the engine is a stand-in."""

    @pytest.fixture(autouse=True)
    def _machine_with_gpus(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        monkeypatch.setattr(scoring, "resolve_model", lambda uri, digest: ModelRef(uri, Path("/nowhere"), digest))
        monkeypatch.setattr(scoring, "choose_device", lambda name: torch.device(name or "cpu"))
        monkeypatch.setattr(scoring, "_name", str)
        stand_in = SimpleNamespace(from_pretrained=lambda model, device, precision: Loaded(device))
        monkeypatch.setattr(scoring, "Engine", stand_in)
        yield
        for held in list(gpu._held):
            gpu.release(held)

    @pytest.fixture
    def settings(self) -> WorkerSettings:
        return WorkerSettings(ModelRef("some/model", Path("/nowhere"), "d1"), None, "float32", 1, "refuse")

    def test_a_task_works_on_the_gpu_that_spark_gave_it(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given(monkeypatch, "3")
        assert loaded(settings) == ("cuda:3", 1)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
        assert loaded(settings) == ("cuda:1", 1)

    def test_a_device_that_is_named_is_taken_whatever_spark_gave(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given(monkeypatch, "3")
        assert loaded(replace(settings, device="cpu")) == ("cpu", 1)

    def test_a_task_without_a_gpu_takes_what_is_there(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert loaded(settings) == ("cpu", 1)
        given(monkeypatch)
        assert loaded(settings) == ("cpu", 0)

    def test_the_next_task_on_the_same_gpu_finds_the_model_loaded(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given(monkeypatch, "0")
        assert [loaded(settings) for _ in range(3)] == [("cuda:0", 1), ("cuda:0", 0), ("cuda:0", 0)]

    def test_a_worker_that_is_given_another_gpu_leaves_the_one_that_it_had(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given(monkeypatch, "0")
        loaded(settings)
        given(monkeypatch, "1")
        assert loaded(settings) == ("cuda:1", 1)
        assert set(gpu._held) == {"cuda:1"}
        assert [str(engine.device) for engine in scoring._engines.values()] == ["cuda:1"]

    def test_a_gpu_is_kept_while_another_of_the_workers_models_is_on_it(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given(monkeypatch, "0")
        loaded(settings)
        loaded(replace(settings, precision="bfloat16"))
        given(monkeypatch, "1")
        loaded(settings)
        assert set(gpu._held) == {"cuda:0", "cuda:1"}

    def test_a_gpu_that_another_process_holds_is_refused_before_the_model_is_loaded(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given(monkeypatch, "0")
        loaded(settings)
        # The lock is the open file's, so forgetting that it is ours makes it another's.
        monkeypatch.setattr(gpu, "_held", {})
        monkeypatch.setattr(scoring, "_engines", {})
        with pytest.raises(DeviceError, match="GPU cuda:0 already holds the model of another process"):
            loaded(settings)
        assert scoring._engines == {}
        assert loaded(replace(settings, gpu_sharing="warn")) == ("cuda:0", 1)


class Loaded:
    """What the worker sees of an engine."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


def loaded(settings: WorkerSettings) -> tuple[str, int]:
    engine, loads = scoring._engine(settings)
    return str(engine.device), loads


def given(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Spark gives these GPUs to the running task."""
    monkeypatch.setattr(TaskContext, "_taskContext", None)  # making one makes it the process's
    TaskContext()._resources = {"gpu": ResourceInformation("gpu", list(addresses))} if addresses else {}
