"""A shadow run: another model tags the run's documents into a table of its own, and both are compared."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from delta_pipeline import pipeline_of, table_rows
from stored_tables import stored_rows

from gliclass_spark.cli.app import main
from gliclass_spark.errors import TableError
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.shadow_comparison import DIFFERENCE_BINS
from gliclass_spark.spark.jobs import PipelineRun
from gliclass_spark.spark.jobs.shadow import shadow

pytestmark = pytest.mark.long


def test_a_shadow_run_is_compared_with_the_run_and_touches_none_of_its_tables(
    delta_run: PipelineRun, tiny_model: str, tiny_bi_encoder: str
) -> None:
    before = {name: table_rows(delta_run, name) for name in ("tags", "kept", "odd", "unrouted")}
    found = shadow(delta_run, tiny_model)
    assert (found.run_id, found.model, found.documents, found.errors) == ("run-1", tiny_model, 4, 0)
    tags, shadow_tags = (
        {row["doc_id"]: row for row in stored_rows(delta_run.lake.path(name))} for name in ("tags", "shadow_tags")
    )
    assert (
        delta_run.lake.read(delta_run.spark, "shadow_tags").columns
        == delta_run.lake.read(delta_run.spark, "tags").columns
    )
    assert {row["model_digest"] for row in shadow_tags.values()} == {found.model_digest} != {found.tagged_by}
    assert {row["run_id"] for row in shadow_tags.values()} == {"run-1"}
    # By hand, from the two tables.
    pairs = [(tags[doc_id], shadow_tags[doc_id]) for doc_id in tags]
    assert found.same_labels == sum(set(old["labels"]) == set(new["labels"]) for old, new in pairs)
    for label in found.labels:
        assert label.tagged == sum(label.label in old["labels"] for old, _ in pairs)
        assert label.shadow == sum(label.label in new["labels"] for _, new in pairs)
        assert label.only_shadow == sum(label.label in set(new["labels"]) - set(old["labels"]) for old, new in pairs)
        differences = [new["scores"][label.label] - old["scores"][label.label] for old, new in pairs]
        assert label.mean_difference == pytest.approx(sum(differences) / 4, abs=1e-6)
    assert (len(found.differences), sum(found.differences)) == (DIFFERENCE_BINS, 8)
    assert len(found.examples) == 4 - found.same_labels
    assert all(example.text.startswith("document ") for example in found.examples)

    manifests = {row.job: row for row in recent_manifests(delta_run.pipeline) if row.status == "succeeded"}
    assert (manifests["shadow"].run_id, manifests["shadow"].rows_in, manifests["shadow"].tagged) == ("run-1", 4, 4)
    assert sum(manifests["shadow"].score_histograms["lake"]) == 4
    assert manifests["shadow"].model_digest == found.model_digest
    assert {name: table_rows(delta_run, name) for name in before} == before

    # Again: the same answer, and no other row. Another model: rows of its own.
    version = delta_run.lake.table("shadow_tags").latest(delta_run.spark).until
    assert shadow(delta_run, tiny_model) == found
    assert delta_run.lake.table("shadow_tags").latest(delta_run.spark).until == version
    same = shadow(replace(delta_run, full=True), tiny_bi_encoder, max_documents=3)
    assert (same.documents, same.same_labels, same.examples, same.decisions) == (3, 3, (), ())
    digests = Counter(row["model_digest"] for row in stored_rows(delta_run.lake.path("shadow_tags")))
    assert sorted(digests.values()) == [3, 4]


def test_decisions_that_a_model_would_change_are_counted(
    delta_run: PipelineRun, tiny_model: str, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    [spam] = [label for label in shadow(delta_run, tiny_model).labels if label.label == "spam"]
    tags = stored_rows(delta_run.lake.path("tags"))
    mean = sum(row["scores"]["spam"] for row in tags) / 4
    # All scores of a tiny model are about equal: between those of the two, the rule changes every decision.
    rises, limit = spam.mean_difference > 0, mean + spam.mean_difference / 2
    reject = [{"reason": "spam", "when": f"scores['spam'] {'>' if rises else '<'} {limit}"}]
    run = replace(delta_run, pipeline=pipeline_of(tmp_path, tiny_bi_encoder, reject=reject))
    decisions = {(change.before, change.now): change.documents for change in shadow(run, tiny_model).decisions}
    assert decisions == {("kept, to odd", "rejected: spam"): 2, ("kept, to unrouted", "rejected: spam"): 2}


def test_without_a_run_there_is_nothing_to_compare_with(
    delta_run: PipelineRun, tiny_model: str, tmp_path: Path
) -> None:
    other = delta_run.pipeline.model_copy(update={"tables": str(tmp_path / "none")})
    with pytest.raises(TableError, match="no run has scored documents with label set"):
        shadow(replace(delta_run, pipeline=other), tiny_model)


def test_the_command_writes_a_page_and_json(
    delta_run: PipelineRun, tiny_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, page = str(next(tmp_path.glob("pipeline-*.yaml"))), tmp_path / "shadow.html"
    shadow(delta_run, tiny_model)  # the command compares only
    capsys.readouterr()
    assert main(["shadow", pipeline, "--model", tiny_model, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["run_id"], document["documents"]) == ("run-1", 4)
    assert main(["shadow", pipeline, "--model", tiny_model, "--out", str(page)]) == 0
    assert f"{4 - document['same_labels']} of 4 documents would get other labels. Nothing" in capsys.readouterr().out
    assert "of 4 documents would get other labels</h1>" in page.read_text()
    assert main(["report", pipeline, "--out", str(tmp_path / "run.html")]) == 0
    assert "has tagged 4 documents of this run beside its model" in (tmp_path / "run.html").read_text()
    assert main(["shadow", pipeline]) == 2
    assert "which has no challenger; give the other model with --model" in capsys.readouterr().err
