"""conf/spark/gpu.yaml and its discovery script, with a stand-in for nvidia-smi."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import ConfigError
from gliclass_spark.spark.session import on_one_machine

CONF = Path(__file__).parents[3] / "conf" / "spark"
SCRIPT = CONF / "discover_gpus.sh"


def discovered(folder: Path, nvidia_smi: str) -> subprocess.CompletedProcess[str]:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([SCRIPT], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("printed", "addresses"),
    [("0", ["0"]), ("0\\n1\\n10", ["0", "1", "10"]), ("", []), (" 0 \\n 1", ["0", "1"])],
)
def test_it_prints_the_numbers_of_nvidia_smi_as_spark_reads_them(
    printed: str, addresses: list[str], tmp_path: Path
) -> None:
    done = discovered(tmp_path, f"printf '{printed}\\n'")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": addresses}


def test_it_asks_for_the_numbers_alone(tmp_path: Path) -> None:
    done = discovered(tmp_path, 'test "$*" = "--query-gpu=index --format=csv,noheader" && echo 7')
    assert json.loads(done.stdout)["addresses"] == ["7"]


def test_what_is_no_number_is_no_gpu(tmp_path: Path) -> None:
    done = discovered(tmp_path, """printf '%s\\n' 'No devices were found' '"$(touch gone)' '1"],"x":["' 2""")
    assert json.loads(done.stdout) == {"name": "gpu", "addresses": ["2"]}


def test_a_failure_of_nvidia_smi_is_a_failure(tmp_path: Path) -> None:
    done = discovered(tmp_path, "echo 0; echo 'driver not loaded' >&2; exit 9")
    assert done.returncode == 9
    assert done.stdout == ""
    assert "driver not loaded" in done.stderr


def test_gpu_yaml_names_the_script_by_its_whole_path() -> None:
    settings = read_conf(CONF / "gpu.yaml")
    assert settings["spark.executor.resource.gpu.discoveryScript"] == str(SCRIPT)
    assert os.access(SCRIPT, os.X_OK)
    assert settings["spark.executor.resource.gpu.amount"] == settings["spark.task.resource.gpu.amount"] == "1"
    assert settings["spark.executor.cores"] == settings["spark.task.cpus"], "one slot for an executor's one GPU"


def test_a_discovery_script_is_found_from_the_folder_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    conf = tmp_path / "conf" / "a.yaml"
    conf.write_text(
        "spark.executor.resource.gpu.discoveryScript: ../bin/gpus.sh\n"
        "spark.driver.resource.gpu.discoveryScript: /opt/gpus.sh\n"
    )
    monkeypatch.chdir(tmp_path)
    assert read_conf("conf/a.yaml") == {
        "spark.executor.resource.gpu.discoveryScript": str(tmp_path / "bin" / "gpus.sh"),
        "spark.driver.resource.gpu.discoveryScript": "/opt/gpus.sh",
    }


def test_gpus_for_tasks_on_one_machine_are_refused_because_spark_would_wait_for_ever(tmp_path: Path) -> None:
    conf = tmp_path / "a.yaml"
    conf.write_text("spark.master: local[2]\nspark.task.resource.gpu.amount: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: spark\.task\.resource\.gpu\.amount is set, but Spark on one"):
        on_one_machine(read_conf(conf), conf)
