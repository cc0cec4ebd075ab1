"""Scoring in a worker: one engine per process, on the task's GPU; each batch gets its own results."""

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

NO_FOLDER = Path("/no/such/folder")
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
    """The batches come back in order, each with its results."""

    def test_each_batch_comes_back_with_its_results(self, settings: WorkerSettings) -> None:
        scored = list(scoring.classify(iter(BATCHES), list, LABELS.canonical_json, settings))
        assert [batch for batch, _, _ in scored] == BATCHES
        codes = [[error and error.code for error in results.errors] for _, results, _ in scored]
        assert codes == [[None, "null_text"], ["undecodable_text"], [], [None, None, "empty_text"]]
        expected = Engine.from_pretrained(settings.model, device="cpu", precision="float32").scores(["spam"], LABELS)
        np.testing.assert_allclose(scored[3][1].scores[:1], expected, atol=1e-5)

    def test_promise_6_a_process_loads_its_model_once_and_reports_the_load(self, settings: WorkerSettings) -> None:
        loads = [
            report.loads
            for _ in range(2)
            for _, _, report in scoring.classify(iter(BATCHES), list, LABELS.canonical_json, settings)
        ]
        assert loads == [1, 0, 0, 0, 0, 0, 0, 0]

    def test_a_report_has_the_usage_of_its_batch(self, settings: WorkerSettings) -> None:
        reports = [report for _, _, report in scoring.classify(iter(BATCHES), list, LABELS.canonical_json, settings)]
        assert [(report.usage.texts, report.usage.errors) for report in reports] == [(2, 1), (1, 1), (0, 0), (3, 1)]

    def test_without_a_batch_no_model_is_loaded(self, settings: WorkerSettings) -> None:
        assert list(scoring.classify(iter([]), list, LABELS.canonical_json, settings)) == []
        assert scoring._engines == {}

    def test_weights_other_than_the_drivers_are_refused(self, settings: WorkerSettings) -> None:
        changed = replace(settings, model=replace(settings.model, digest="0" * 64))
        with pytest.raises(CheckpointError, match=r"has the digest \w+ on this machine, expected 0000"):
            next(scoring.classify(iter(BATCHES), list, LABELS.canonical_json, changed))


class TestDevice:
    """The GPU that Spark assigned to the task. Needs no GPU: the engine is a fake."""

    @pytest.fixture(autouse=True)
    def _machine_with_gpus(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        monkeypatch.setattr(scoring, "resolve_model", lambda uri, digest, registry: ModelRef(uri, NO_FOLDER, digest))
        monkeypatch.setattr(scoring, "choose_device", lambda name: torch.device(name or "cpu"))
        monkeypatch.setattr(scoring, "_gpu_uuid", str)
        fake = SimpleNamespace(from_pretrained=lambda model, device, precision: FakeEngine(device))
        monkeypatch.setattr(scoring, "Engine", fake)
        yield
        for name in list(gpu._held):
            gpu.release(name)

    @pytest.fixture
    def settings(self) -> WorkerSettings:
        return WorkerSettings(ModelRef("some/model", NO_FOLDER, "d1"), None, "float32", 1, "refuse")

    def test_a_task_uses_the_gpu_that_spark_assigned_to_it(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assign(monkeypatch, "3")
        assert load(settings) == ("cuda:3", 1)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
        assert load(settings) == ("cuda:1", 1)

    def test_a_configured_device_overrides_the_assigned_gpu(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assign(monkeypatch, "3")
        assert load(replace(settings, device="cpu")) == ("cpu", 1)

    def test_a_task_without_a_gpu_uses_the_default_device(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert load(settings) == ("cpu", 1)
        assign(monkeypatch)
        assert load(settings) == ("cpu", 0)

    def test_the_next_task_on_the_same_gpu_reuses_the_model(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assign(monkeypatch, "0")
        assert [load(settings) for _ in range(3)] == [("cuda:0", 1), ("cuda:0", 0), ("cuda:0", 0)]

    def test_a_worker_that_changes_its_gpu_releases_the_previous_one(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assign(monkeypatch, "0")
        load(settings)
        assign(monkeypatch, "1")
        assert load(settings) == ("cuda:1", 1)
        assert set(gpu._held) == {"cuda:1"}
        assert [str(engine.device) for engine in scoring._engines.values()] == ["cuda:1"]

    def test_a_gpu_is_kept_while_another_model_of_the_worker_is_on_it(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assign(monkeypatch, "0")
        load(settings)
        load(replace(settings, precision="bfloat16"))
        assign(monkeypatch, "1")
        load(settings)
        assert set(gpu._held) == {"cuda:0", "cuda:1"}

    def test_a_gpu_of_another_process_is_refused_before_the_model_is_loaded(
        self, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assign(monkeypatch, "0")
        load(settings)
        # The lock belongs to the open file: dropping our record of it simulates another process.
        monkeypatch.setattr(gpu, "_held", {})
        monkeypatch.setattr(scoring, "_engines", {})
        with pytest.raises(DeviceError, match="GPU cuda:0 already holds the model of another process"):
            load(settings)
        assert scoring._engines == {}
        assert load(replace(settings, gpu_sharing="warn")) == ("cuda:0", 1)


class FakeEngine:
    """The part of an engine that the worker uses."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


def load(settings: WorkerSettings) -> tuple[str, int]:
    engine, loads = scoring._engine(settings)
    return str(engine.device), loads


def assign(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Assign these GPUs to the current task, as Spark does."""
    monkeypatch.setattr(TaskContext, "_taskContext", None)  # the next one created becomes the current one
    TaskContext()._resources = {"gpu": ResourceInformation("gpu", list(addresses))} if addresses else {}
