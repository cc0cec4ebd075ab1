"""A task's device is the GPU that Spark gave it; one process at a time holds a model on a GPU."""

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
    """Spark's address becomes torch's number."""

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
            # A container's GPUs are counted anew in it, and so are its addresses.
            (["0"], "2,3", "cuda:0"),
        ],
    )
    def test_it_is_the_first_address_as_torch_counts_the_visible_gpus(
        self, addresses: list[str], visible: str | None, device: str
    ) -> None:
        assert gpu.task_device(addresses, visible) == device

    def test_an_address_that_torch_has_no_number_for_is_refused(self) -> None:
        with pytest.raises(DeviceError, match="the GPU 'GPU-5e1f', which is neither a number nor listed") as refused:
            gpu.task_device(["GPU-5e1f"], "GPU-aa")
        assert "let the discovery script print the GPUs' numbers" in str(refused.value)


HOLDER = """
import sys
from gliclass_spark.spark.worker import gpu
gpu.claim(sys.argv[1], "refuse")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def name() -> Iterator[str]:
    """A GPU that no machine has."""
    fake = f"test-{uuid.uuid4()}"
    yield fake
    gpu.release(fake)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def holder(name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the GPU."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


class TestClaim:
    """Two real processes and one GPU."""

    def test_refuse_says_what_which_and_how_to_mend_it(self, name: str, holder: subprocess.Popen[str]) -> None:
        with pytest.raises(DeviceError) as refused:
            gpu.claim(name, "refuse")
        message = str(refused.value)
        assert f"GPU {name} already holds the model of another process" in message
        assert "spark.task.resource.gpu.amount: 1" in message
        assert "spark.gliclass.gpuSharing: allow" in message

    def test_warn_says_the_same_in_the_log(
        self, name: str, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        gpu.claim(name, "warn")
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert f"GPU {name} already holds the model of another process" in record.message

    def test_allow_says_nothing(
        self, name: str, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        gpu.claim(name, "allow")
        assert caplog.records == []

    def test_a_process_that_was_killed_holds_nothing(self, name: str, holder: subprocess.Popen[str]) -> None:
        holder.kill()
        holder.wait()
        gpu.claim(name, "refuse")

    @pytest.mark.parametrize("sharing", ["refuse", "warn", "allow"])
    def test_whoever_comes_first_holds_it_whatever_it_thinks_of_sharing(
        self, name: str, sharing: gpu.GpuSharing
    ) -> None:
        gpu.claim(name, sharing)
        assert claimed_elsewhere(name) == "refused"

    def test_a_process_may_load_a_second_model_on_its_own_gpu(self, name: str) -> None:
        gpu.claim(name, "refuse")
        gpu.claim(name, "refuse")

    def test_another_gpu_is_free(self, name: str, holder: subprocess.Popen[str]) -> None:
        other = f"{name}-other"
        gpu.claim(other, "refuse")
        gpu.release(other)

    def test_what_is_released_is_free(self, name: str) -> None:
        gpu.claim(name, "refuse")
        gpu.release(name)
        assert claimed_elsewhere(name) == "claimed"
        gpu.release(name)

    def test_other_users_can_open_the_lock_whatever_the_umask(self, name: str, tmp_path: Path) -> None:
        before = os.umask(0o077)
        try:
            gpu.claim(name, "refuse")
        finally:
            os.umask(before)
        [lock] = tmp_path.iterdir()
        assert lock.stat().st_mode & 0o777 == 0o644

    def test_a_link_in_the_locks_place_is_not_followed(
        self, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        victim = tmp_path / "victim"
        (tmp_path / f"gliclass-spark-{name}.lock").symlink_to(victim)
        with pytest.raises(DeviceError, match=r"can't be told: .* can't be opened"):
            gpu.claim(name, "refuse")
        gpu.claim(name, "warn")
        assert "remove that file" in caplog.text
        assert not victim.exists()

    def test_a_name_can_not_leave_the_folder(self, tmp_path: Path) -> None:
        gpu.claim("../../x/y", "refuse")
        gpu.release("../../x/y")
        assert [path.name for path in tmp_path.iterdir()] == ["gliclass-spark-------x-y.lock"]


def claimed_elsewhere(name: str) -> str:
    """What another process gets that asks for the GPU: "claimed" or "refused"."""
    program = (
        "import sys\n"
        "from gliclass_spark.errors import DeviceError\n"
        "from gliclass_spark.spark.worker import gpu\n"
        "try:\n    gpu.claim(sys.argv[1], 'refuse')\n    print('claimed')\n"
        "except DeviceError:\n    print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
    return done.stdout.strip()
