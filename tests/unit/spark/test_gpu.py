"""Devices of tasks, and claims to GPUs: one process at a time has a model on a GPU."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from gliclass_spark.errors import DeviceError
from gliclass_spark.spark.worker import gpu


class TestTaskDevice:
    """Spark's GPU address to torch's device."""

    @pytest.mark.parametrize(
        ("addresses", "visible", "device"),
        [
            (["0"], None, "cuda:0"),
            (["3"], None, "cuda:3"),
            (["2", "3"], None, "cuda:2"),
            (["3"], "", "cuda:3"),
            (["3"], "2,3", "cuda:1"),
            (["3"], " 3 , 2", "cuda:0"),
            (["GPU-5e1f"], "GPU-aa, GPU-5e1f", "cuda:1"),
            # A container numbers its GPUs from 0, and so do its addresses.
            (["0"], "2,3", "cuda:0"),
        ],
    )
    def test_it_is_the_first_address_numbered_among_the_visible_gpus(
        self, addresses: list[str], visible: str | None, device: str
    ) -> None:
        assert gpu.task_device(addresses, visible) == device

    def test_an_address_that_is_neither_visible_nor_a_number_is_refused(self) -> None:
        with pytest.raises(DeviceError, match="the GPU 'GPU-5e1f' to this task, which is neither a") as error:
            gpu.task_device(["GPU-5e1f"], "GPU-aa")
        assert "let the discovery script print the GPUs' numbers" in str(error.value)


HOLDER = """
import sys
from gliclass_spark.spark.worker import gpu
gpu.claim(sys.argv[1], "refuse")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def name() -> Iterator[str]:
    """Return the name of a GPU that does not exist."""
    unique = f"test-{uuid.uuid4()}"
    yield unique
    gpu.release(unique)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def holder(name: str) -> Iterator[subprocess.Popen[str]]:
    """Start another process that has claimed the GPU."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


class TestClaim:
    """Claims of two processes to one GPU."""

    def test_refuse_raises_with_the_gpu_and_the_fix(self, name: str, holder: subprocess.Popen[str]) -> None:
        with pytest.raises(DeviceError) as error:
            gpu.claim(name, "refuse")
        message = str(error.value)
        assert f"GPU {name} already holds the model of another process" in message
        assert "spark.task.resource.gpu.amount: 1" in message
        assert "spark.gliclass.gpuSharing: allow" in message

    def test_warn_logs_the_same_message(
        self, name: str, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        gpu.claim(name, "warn")
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert f"GPU {name} already holds the model of another process" in record.getMessage()

    def test_allow_logs_nothing(
        self, name: str, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        gpu.claim(name, "allow")
        assert caplog.records == []

    def test_a_killed_process_holds_no_claim(self, name: str, holder: subprocess.Popen[str]) -> None:
        holder.kill()
        holder.wait()
        gpu.claim(name, "refuse")

    @pytest.mark.parametrize("sharing", ["refuse", "warn", "allow"])
    def test_the_first_process_holds_the_claim_with_every_setting(self, name: str, sharing: gpu.GpuSharing) -> None:
        gpu.claim(name, sharing)
        assert claim_in_another_process(name) == "refused"

    def test_a_process_can_claim_its_gpu_twice(self, name: str) -> None:
        gpu.claim(name, "refuse")
        gpu.claim(name, "refuse")

    def test_another_gpu_is_free(self, name: str, holder: subprocess.Popen[str]) -> None:
        other = f"{name}-other"
        gpu.claim(other, "refuse")
        gpu.release(other)

    def test_a_released_gpu_is_free(self, name: str) -> None:
        gpu.claim(name, "refuse")
        gpu.release(name)
        assert claim_in_another_process(name) == "claimed"
        gpu.release(name)

    def test_other_users_can_open_the_lock_despite_the_umask(self, name: str, tmp_path: Path) -> None:
        umask = os.umask(0o077)
        try:
            gpu.claim(name, "refuse")
        finally:
            os.umask(umask)
        [lock] = tmp_path.iterdir()
        assert lock.stat().st_mode & 0o777 == 0o644

    def test_a_symlink_instead_of_the_lock_is_not_followed(
        self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        victim = tmp_path / "victim"
        (tmp_path / f"gliclass-spark-{name}.lock").symlink_to(victim)
        with pytest.raises(DeviceError, match=r"can't check whether .* can't be opened"):
            gpu.claim(name, "refuse")
        gpu.claim(name, "warn")
        assert "remove that file" in caplog.text
        assert not victim.exists()

    def test_promise_7_a_gpus_name_can_not_leave_the_folder(self, tmp_path: Path) -> None:
        gpu.claim("../../x/y", "refuse")
        gpu.release("../../x/y")
        assert [path.name for path in tmp_path.iterdir()] == ["gliclass-spark-------x-y.lock"]


def claim_in_another_process(name: str) -> str:
    """Claim the GPU in another process, and return "claimed" or "refused"."""
    program = (
        "import sys\n"
        "from gliclass_spark.errors import DeviceError\n"
        "from gliclass_spark.spark.worker import gpu\n"
        "try:\n    gpu.claim(sys.argv[1], 'refuse')\n    print('claimed')\n"
        "except DeviceError:\n    print('refused')\n"
    )
    process = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
    return process.stdout.strip()
