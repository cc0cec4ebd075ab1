"""Label sets in the documentation: its YAML loads, its Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gliclass_spark.labels import Label, LabelSet

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_every_label_set_of_the_page_loads(tmp_path: Path) -> None:
    label_sets = []
    for number, block in enumerate(blocks("labels.md", "yaml")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, encoding="utf-8")
        label_sets.append(LabelSet.from_yaml(path))
    flat, single, nested, examples = label_sets
    assert (flat.top_k, flat.thresholds) == (2, (0.5, 0.6, 0.5))
    assert (single.multi_label, single.threshold, single.top_k) == (False, 0.0, 1)
    assert nested.names == (
        "mood.glad",
        "mood.angry",
        "topic.goods.parcel",
        "topic.goods.refund",
        "topic.money.invoice",
    )
    assert [example.labels for example in examples.examples][2:4] == [("invoice",), ("invoice", "spam")]


@pytest.mark.parametrize("page", ["labels.md", "from-gliclass.md"])
def test_python_blocks_run_in_order(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    for block in blocks(page, "python"):
        exec(block, namespace)  # noqa: S102 - it is our own page
    assert capsys.readouterr().out.count("\n") == len(blocks(page, "python"))


def test_the_page_has_every_field_of_label_sets_and_labels() -> None:
    page = (DOCS / "labels.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert rows == set(LabelSet.model_fields)
    assert all(f"`{name}`" in page for name in Label.model_fields)
