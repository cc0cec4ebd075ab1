"""Commands of the registry that are killed after each of their writes, and repeated; and two at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gliclass_spark.checkpoints.registry import ModelVersion, Registry, server
from gliclass_spark.cli.app import main
from gliclass_spark.errors import ModelNotFoundError, RegistryError

WRITES = ("create_", "set_", "delete_", "log_")


class Killed(BaseException):
    """The end of the process: nothing handles it, and nothing reaches the registry after it."""


class MortalClient:
    """MLflow's client in a process that is killed after its writes number `allowed`."""

    def __init__(self, client: Any, allowed: int) -> None:
        self._client = client
        self._allowed = allowed

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name.startswith(WRITES):
                self._allowed -= 1
            if self._allowed < 0:
                raise Killed
            return method(*args, **kwargs)

        return call


@contextmanager
def killed_after(writes: int) -> Iterator[Callable[[], bool]]:
    """Kill the registry's user after these writes; the function returns whether that happened."""
    killed = False
    connect = server.connect
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(server, "connect", lambda *args: MortalClient(connect(*args), writes))
        try:
            yield lambda: killed
        except Killed:
            killed = True


@pytest.fixture(scope="module")
def template(registry_database: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with four versions of "mail": the third was promoted after the second, the fourth challenges it."""
    database = Path(shutil.copy(registry_database, tmp_path_factory.mktemp("four_versions")))
    registry = Registry(f"sqlite:///{database}")
    for number in range(1, 5):
        folder = shutil.copytree(tiny_model, database.parent / str(number))
        (folder / "label_set.yaml").write_text(f"name: version_{number}\n")
        with registry.run("mail", "register", {}) as tracked:
            registry.register("mail", folder, tracked.run_id)
    for number in ("2", "3"):
        registry.promote("mail", number)
    registry.set_challenger("mail", "4")
    return database


@pytest.fixture
def copy(template: Path, tmp_path: Path) -> Callable[[], str]:
    """Returns the URI of a copy of that registry."""

    def of() -> str:
        return f"sqlite:///{shutil.copy(template, tmp_path)}"

    return of


def aliases(uri: str) -> dict[str, int]:
    return {alias: version.number for version in Registry(uri).versions("mail") for alias in version.aliases}


Act = Callable[[Registry], ModelVersion]
AFTER_PROMOTION = {"champion": 4, "previous": 3}
AFTER_ROLLBACK = {"champion": 3, "previous": 4}


def promote(registry: Registry) -> ModelVersion:
    return registry.promote("mail")


def rollback(registry: Registry) -> ModelVersion:
    return registry.rollback("mail")


def rollback_to_2(registry: Registry) -> ModelVersion:
    return registry.rollback("mail", "2")


@pytest.mark.parametrize("writes", range(5))
def test_a_killed_promotion_is_completed_by_repeating_it(copy: Callable[[], str], writes: int) -> None:
    uri = copy()
    with killed_after(writes) as killed:
        promote(Registry(uri))
    assert killed() == (writes < 4)
    assert aliases(uri)["champion"] == (3 if writes < 3 else 4)
    assert promote(Registry(uri)).number == 4
    assert aliases(uri) == AFTER_PROMOTION


@pytest.mark.parametrize("writes", range(5))
def test_a_killed_promotion_can_be_rolled_back(copy: Callable[[], str], writes: int) -> None:
    uri = copy()
    with killed_after(writes):
        promote(Registry(uri))
    assert rollback(Registry(uri)).number == (3 if writes else 2)
    holders = aliases(uri)
    holders.pop("challenger", None)
    assert holders == (AFTER_ROLLBACK if writes else {"champion": 2, "previous": 3})  # nothing of it was written


@pytest.mark.parametrize(
    ("act", "expected"), [(rollback, AFTER_ROLLBACK), (rollback_to_2, {"champion": 2, "previous": 4})]
)
@pytest.mark.parametrize("writes", range(4))
def test_a_killed_rollback_is_completed_by_repeating_it(
    copy: Callable[[], str], act: Act, expected: dict[str, int], writes: int
) -> None:
    uri = copy()
    promote(Registry(uri))
    with killed_after(writes) as killed:
        act(Registry(uri))
    assert killed() == (writes < 3)
    for _ in range(2):  # the second time as if it had been killed before it could report
        assert act(Registry(uri)).number == expected["champion"]
        assert aliases(uri) == expected
    # The version that was rolled back is not forgotten, and can be promoted again.
    assert Registry(uri).promote("mail", "4").number == 4


def test_a_killed_registration_is_completed_by_repeating_it(
    registry_database: Path, tiny_model: str, tmp_path: Path
) -> None:
    writes, killed = 0, True
    while killed:
        database = tmp_path / str(writes) / "mlflow.db"
        database.parent.mkdir()
        shutil.copy(registry_database, database)
        command = ["register", "mail", tiny_model, "--registry", f"sqlite:///{database}"]
        with killed_after(writes) as was_killed:
            assert main(command) == 0
        killed = was_killed()
        assert main(command) == 0
        versions = Registry(f"sqlite:///{database}").versions("mail")
        assert [(version.number, version.aliases) for version in versions] == [(1, ("champion",))], writes
        writes += 1
    assert writes > 8


def test_a_checkpoint_with_another_label_set_is_another_version(
    registry: Registry, tiny_model: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "calibrated")
    assert main(["register", "mail", tiny_model]) == 0
    (folder / "label_set.yaml").write_text("name: mail\n")
    for _ in range(2):
        assert main(["register", "mail", str(folder)]) == 0
    assert [version.aliases for version in registry.versions("mail")] == [("champion",), ()]


@pytest.mark.parametrize("damage", [lambda file: file.unlink(), lambda file: file.write_bytes(b"damaged")])
def test_a_checkpoint_whose_registered_files_are_lost_or_damaged_is_registered_again(
    registry: Registry, tiny_model: str, damage: Callable[[Path], None]
) -> None:
    assert main(["register", "mail", tiny_model]) == 0
    [version] = registry.versions("mail")
    damage(Path(version.source.removeprefix("file://"), "model.safetensors"))
    for _ in range(2):
        assert main(["register", "mail", tiny_model]) == 0
    assert [version.aliases for version in registry.versions("mail")] == [("champion",), ()]


def test_a_rollback_without_a_recorded_promotion_goes_to_the_previous_version(copy: Callable[[], str]) -> None:
    """As of aliases that an earlier build of this package, or MLflow's own page, has moved."""
    uri = copy()
    client = Registry(uri)._client
    for alias, number in (("previous", "1"), ("champion", "4")):
        client.set_registered_model_alias("mail", alias, number)
    assert rollback(Registry(uri)).number == 1
    assert aliases(uri) == {"champion": 1, "previous": 4, "challenger": 4}


def test_a_promotion_needs_a_challenger_or_a_number(copy: Callable[[], str]) -> None:
    registry = Registry(copy())
    registry.rollback("mail")
    registry._client.delete_registered_model_alias("mail", "challenger")
    with pytest.raises(ModelNotFoundError, match=r"'mail' in sqlite.* has no challenger; give the number"):
        registry.promote("mail")
    with pytest.raises(RegistryError, match=r"a promotion moves the alias 'previous'; give the version's number, or"):
        registry.promote("mail", "previous")


# Two processes that have imported MLflow and the command already.
_REGISTER_AT_ONCE = """
import sys
from multiprocessing import get_context

import mlflow
from gliclass_spark.cli.app import main
from gliclass_spark.model import checkpoint

def register(model):
    sys.exit(main(["register", "mail", model, "--registry", sys.argv[1]]))

fork = get_context("fork")
processes = [fork.Process(target=register, args=(model,)) for model in sys.argv[2:]]
for process in processes:
    process.start()
for process in processes:
    process.join()
print([process.exitcode for process in processes])
"""


@pytest.mark.long
def test_two_first_uses_of_a_new_registry_at_once_both_succeed(
    tiny_model: str, other_tiny_model: str, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    command = [sys.executable, "-c", _REGISTER_AT_ONCE, uri, tiny_model, other_tiny_model]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **server.QUIET}, check=False)
    assert done.stdout.splitlines()[-1:] == ["[0, 0]"], done.stderr
    assert [(version.number, version.aliases) for version in Registry(uri).versions("mail")] == [
        (1, ("champion",)),
        (2, ()),
    ]
