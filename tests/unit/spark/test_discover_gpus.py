"""GPU discovery: conf/spark/gpu.yaml and its script, with a fake nvidia-smi."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from gliclass_spark.config.spark import read_conf
from gliclass_spark.errors import ConfigError
from gliclass_spark.spark.session import local_settings

CONF = Path(__file__).parents[3] / "conf" / "spark"
SCRIPT = CONF / "discover_gpus.sh"


def discover(folder: Path, nvidia_smi: str) -> subprocess.CompletedProcess[str]:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([SCRIPT], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize(
    ("printed", "addresses"),
    [("0", ["0"]), ("0\\n1\\n10", ["0", "1", "10"]), ("", []), (" 0 \\n 1", ["0", "1"])],
)
def test_it_prints_nvidia_smis_gpu_numbers_in_sparks_format(printed: str, addresses: list[str], tmp_path: Path) -> None:
    process = discover(tmp_path, f"printf '{printed}\\n'")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {"name": "gpu", "addresses": addresses}


def test_it_queries_only_the_gpu_numbers(tmp_path: Path) -> None:
    process = discover(tmp_path, 'test "$*" = "--query-gpu=index --format=csv,noheader" && echo 7')
    assert json.loads(process.stdout)["addresses"] == ["7"]


def test_output_that_is_not_a_number_is_ignored(tmp_path: Path) -> None:
    process = discover(tmp_path, """printf '%s\\n' 'No devices were found' '"$(touch injected)' '1"],"x":["' 2""")
    assert json.loads(process.stdout) == {"name": "gpu", "addresses": ["2"]}


def test_a_failure_of_nvidia_smi_is_passed_on(tmp_path: Path) -> None:
    process = discover(tmp_path, "echo 0; echo 'driver not loaded' >&2; exit 9")
    assert process.returncode == 9
    assert process.stdout == ""
    assert "driver not loaded" in process.stderr


def test_gpu_yaml_has_the_absolute_path_of_the_script() -> None:
    settings = read_conf(CONF / "gpu.yaml")
    assert settings["spark.executor.resource.gpu.discoveryScript"] == str(SCRIPT)
    assert os.access(SCRIPT, os.X_OK)
    assert settings["spark.executor.resource.gpu.amount"] == settings["spark.task.resource.gpu.amount"] == "1"
    assert settings["spark.executor.cores"] == settings["spark.task.cpus"], "one slot per executor with one GPU"


def test_a_discovery_scripts_path_is_relative_to_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_gpus_for_tasks_in_local_mode_are_refused(tmp_path: Path) -> None:
    conf = tmp_path / "a.yaml"
    conf.write_text("spark.master: local[2]\nspark.task.resource.gpu.amount: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: spark\.task\.resource\.gpu\.amount is set, but Spark on one"):
        local_settings(read_conf(conf), conf)
