"""Promise 7: no code from data. Checkpoints, rules and names can neither run code nor leave their place."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from gliclass_spark.checkpoints.files import CONFIG, INDEX, WEIGHTS
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.rules import Route, Rules
from gliclass_spark.errors import CheckpointError, GliclassSparkError, ModelNotFoundError, RulesError

PACKAGE = Path(__file__).parents[2] / "gliclass_spark"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the path of a file that exists once code from a checkpoint has run."""
    return tmp_path / "ran"


@pytest.fixture
def folder(tiny_model: str, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint, to be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "checkpoint"))


def load(model: str | Path) -> None:
    from gliclass_spark.inference.engine import Engine

    Engine.from_pretrained(str(model), device="cpu", precision="float32")


def check_rule(when: str) -> None:
    Rules(routes=(Route(route="name", when=when),)).check(("doc_id", "text"), ("spam",), "pipeline.yaml")


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_the_payload_runs_when_it_is_unpickled(ran: Path) -> None:
    pickle.loads(pickle.dumps(Payload(ran)))  # noqa: S301 - shows that the tests below can fail
    assert ran.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_promise_7_no_code_from_data_in_pickled_weights(folder: Path, ran: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Payload(ran)))
    load(folder)  # ignores them while there are safetensors
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"{name} but no {WEIGHTS}: pickled weights can run code"):
        load(folder)
    (folder / name).rename(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="is damaged"):
        load(folder)
    assert not ran.exists()


@pytest.mark.parametrize("part", [None, "encoder_config"])
def test_promise_7_no_code_from_data_in_the_configuration_of_a_model(folder: Path, ran: Path, part: str | None) -> None:
    (folder / "payload.py").write_text(f"open({str(ran)!r}, 'w')\nclass Model: pass\n", encoding="utf-8")
    code = {"auto_map": {"AutoConfig": "payload.Model", "AutoModel": "payload.Model"}}
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    edit(folder / CONFIG, **(code if part is None else {part: {**config[part], **code}}))
    with pytest.raises(CheckpointError, match="code from a checkpoint is never run"):
        load(folder)
    assert not ran.exists()


def test_promise_7_no_code_from_data_in_the_configuration_of_a_tokenizer(folder: Path, ran: Path) -> None:
    (folder / "payload.py").write_text(f"open({str(ran)!r}, 'w')\nclass Tokenizer: pass\n", encoding="utf-8")
    edit(
        folder / "tokenizer_config.json",
        tokenizer_class="Tokenizer",
        auto_map={"AutoTokenizer": ["payload.Tokenizer", "payload.Tokenizer"]},
    )
    load(folder)
    assert not ran.exists()


@pytest.mark.parametrize("part", [None, "encoder_config"])
@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_promise_7_no_code_from_data_in_the_implementation_that_a_model_names(
    folder: Path, part: str | None, key: str
) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    code = {key: "org/kernel@main"}
    edit(folder / CONFIG, **(code if part is None else {part: {**config[part], **code}}))
    with pytest.raises(CheckpointError, match=rf"needs code of its own \(({part}\.)?{key}\)"):
        load(folder)


def test_promise_7_no_code_from_data_because_trust_remote_code_is_never_mentioned() -> None:
    assert [path for path in PACKAGE.rglob("*.py") if "trust_remote_code" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    "call",
    [
        "java_method('java.lang.System', 'exit', 0)",
        "reflect('java.lang.System', 'exit', 0)",
        "a_registered_function(text)",
        "(select count(*) from other)",
    ],
)
def test_promise_7_no_code_from_data_in_rules(call: str) -> None:
    check_rule("text is null")
    with pytest.raises(RulesError):
        check_rule(f"{call} is null")


@pytest.mark.parametrize("name", ["../a", "a/b", "a`; DROP TABLE tags; --", "/etc/passwd", "a\n", ""])
def test_promise_7_no_code_from_data_and_names_can_not_leave_their_place(
    name: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(RulesError, match="a name has 1 to 63 of a-z, 0-9 and _"):
        Rules(routes=(Route(route=name, when="true"),))

    pipeline = {"source": {"path": "mail", "id": "id", "text": "body"}, "label_set": ["spam"], "tables": "lake"}
    (tmp_path / "pipeline.yaml").write_text(json.dumps({"name": name, **pipeline}), encoding="utf-8")
    with pytest.raises(GliclassSparkError, match="name: String should match pattern"):
        Pipeline.from_yaml(tmp_path / "pipeline.yaml")

    (folder / WEIGHTS).rename(tmp_path / "a")  # where "../a" would lead
    (folder / INDEX).write_text(json.dumps({"weight_map": {"weight": name}}), encoding="utf-8")
    with pytest.raises(CheckpointError, match="expected files beside it"):
        load(folder)


def test_every_test_that_the_threat_model_names_exists() -> None:
    tests = Path(__file__).parents[1]
    page = (tests.parent / "docs" / "deployment" / "threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", page))
    existing = {
        name for path in tests.rglob("*.py") for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 15
    assert named - existing == set()


@pytest.mark.parametrize("uri", ["../../org/name", "org/name@../v1", "models:/../mail/3", "s3://bucket/../mail"])
def test_promise_7_no_code_from_data_and_model_uris_can_not_leave_their_place(uri: str) -> None:
    with pytest.raises((CheckpointError, ModelNotFoundError), match=r"no hub id|no registered model|out of its own"):
        load(uri)
