"""When the tagging stage asks for GPUs of its own, and what is done about a GPU that is taken."""

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
def test_executors_with_gpus_that_tasks_do_not_ask_for_are_asked_for_by_the_stage(master: str) -> None:
    profile = tagging_profile(session(**{**CLUSTER, "spark.master": master}))
    assert profile is not None
    assert {name: asked.amount for name, asked in profile.taskResources.items()} == {"gpu": 1.0}
    assert profile.executorResources == {}, "asking for executors would need dynamic allocation"


@pytest.mark.parametrize(
    "changed",
    [
        {"spark.master": "local[4]"},
        {"spark.master": "local"},
        {"spark.master": ""},
        {"spark.executor.resource.gpu.amount": "0"},
        {"spark.task.resource.gpu.amount": "1"},
        {"spark.task.resource.gpu.amount": "0.25"},
    ],
)
def test_else_the_stage_has_what_the_session_says(changed: dict[str, str]) -> None:
    assert tagging_profile(session(**{**CLUSTER, **changed})) is None
    assert tagging_profile(session(**{"spark.master": "yarn"})) is None


def test_sharing_is_warned_about_unless_the_session_says_otherwise() -> None:
    assert gpu_sharing(session()) == "warn"
    for asked in ("refuse", "warn", "allow"):
        assert gpu_sharing(session(**{"spark.gliclass.gpuSharing": asked})) == asked


def test_an_unknown_word_for_sharing_is_refused() -> None:
    with pytest.raises(ConfigError, match="gpuSharing is 'never'; set it to one of refuse, warn, allow"):
        gpu_sharing(session(**{"spark.gliclass.gpuSharing": "never"}))
