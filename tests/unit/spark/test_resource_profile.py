"""GPU resources of the tagging stage, and the setting for shared GPUs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gliclass_spark.errors import ConfigError
from gliclass_spark.spark.worker.resource_profile import gpu_sharing, tagging_profile

CLUSTER = {"spark.master": "yarn", "spark.executor.resource.gpu.amount": "1"}


def session(**conf: str) -> Any:
    return SimpleNamespace(conf=SimpleNamespace(get=lambda key, default: conf.get(key, default)))


@pytest.mark.parametrize("master", ["yarn", "spark://host:7077", "k8s://https://host:443", "local-cluster[2,1,1024]"])
def test_the_stage_requests_the_executors_gpus_if_tasks_do_not(master: str) -> None:
    profile = tagging_profile(session(**{**CLUSTER, "spark.master": master}))
    assert profile is not None
    assert {name: request.amount for name, request in profile.taskResources.items()} == {"gpu": 1.0}
    assert profile.executorResources == {}, "requests for executors need dynamic allocation"


@pytest.mark.parametrize(
    "changes",
    [
        {"spark.master": "local[4]"},
        {"spark.master": "local"},
        {"spark.master": ""},
        {"spark.executor.resource.gpu.amount": "0"},
        {"spark.task.resource.gpu.amount": "1"},
        {"spark.task.resource.gpu.amount": "0.25"},
    ],
)
def test_otherwise_the_stage_uses_the_sessions_settings(changes: dict[str, str]) -> None:
    assert tagging_profile(session(**{**CLUSTER, **changes})) is None
    assert tagging_profile(session(**{"spark.master": "yarn"})) is None


def test_sharing_defaults_to_a_warning() -> None:
    assert gpu_sharing(session()) == "warn"
    for value in ("refuse", "warn", "allow"):
        assert gpu_sharing(session(**{"spark.gliclass.gpuSharing": value})) == value


def test_an_unknown_value_of_sharing_is_refused() -> None:
    with pytest.raises(ConfigError, match="gpuSharing is 'never'; set it to one of refuse, warn, allow"):
        gpu_sharing(session(**{"spark.gliclass.gpuSharing": "never"}))
