"""One rule for the paths of a pipeline file, and a source that nothing is written over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pipeline_files import DOCUMENT, SHIPPED, merged, refusal, write

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.rules import RESERVED_TABLES


def test_a_relative_path_is_relative_to_the_file_and_not_to_the_process(
    pipelines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pipelines, SHIPPED)
    monkeypatch.chdir(tmp_path / "conf")
    pipeline = Pipeline.from_yaml("pipelines/demo.yaml")
    assert pipeline.source.path == f"{tmp_path}/lake/demo/documents"
    assert pipeline.tables == f"{tmp_path}/lake/demo"
    assert pipeline.model == f"{tmp_path}/conf/pipelines/models/small"
    assert pipeline.label_set.names == ("machine learning", "web")


@pytest.mark.parametrize(
    "address",
    ["/lake/x", "s3a://bucket/x", "abfss://c@a.dfs.core.windows.net/x", "hdfs://host/x", "dbfs:/x", "file:/x/y"],
)
def test_absolute_paths_and_addresses_are_left_alone(pipelines: Path, address: str) -> None:
    document = merged(source={"path": f"{address}/documents"}, tables=f"{address}/out", model=f"{address}/model")
    pipeline = Pipeline.from_yaml(write(pipelines, document))
    assert pipeline.source.path == f"{address}/documents"
    assert pipeline.tables == f"{address}/out"
    assert pipeline.model == f"{address}/model"


def test_a_link_in_a_path_stays_a_link(pipelines: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tmp_path / "conf")
    write(pipelines, DOCUMENT)
    pipeline = Pipeline.from_yaml(tmp_path / "current" / "pipelines" / "demo.yaml")
    assert pipeline.tables == f"{tmp_path}/lake/demo"


@pytest.mark.parametrize("model", ["embedded", "gliclass-base", "knowledgator/gliclass-modern-base-v2.0-init"])
def test_a_model_that_is_no_folder_stays_as_it_is(pipelines: Path, model: str) -> None:
    assert Pipeline.from_yaml(write(pipelines, merged(model=model))).model == model


def test_a_model_folder_without_a_dot_is_refused_with_the_mend(pipelines: Path) -> None:
    assert refusal(pipelines, merged(model="checkpoints/gliclass/small")) == (
        "model: 'checkpoints/gliclass/small' is neither 'embedded' nor a hub id; begin the path of a folder with ./"
    )


@pytest.mark.parametrize("path", ["~/lake", "~"])
def test_a_home_folder_is_refused(pipelines: Path, path: str) -> None:
    mend = f"{path!r} starts with ~, which differs from machine to machine; write the full path"
    assert refusal(pipelines, merged(tables=path)) == f"tables: {mend}"
    assert refusal(pipelines, merged(model=path)) == f"model: {mend}"
    assert refusal(pipelines, merged(source={"path": path})) == f"source.path: {mend}"


@pytest.mark.parametrize("path", ["", " ", "lake ", "la\nke"])
def test_an_empty_or_untidy_path_is_refused(pipelines: Path, path: str) -> None:
    assert refusal(pipelines, merged(tables=path)) == (
        f"tables: {path!r} is empty, or holds spaces at its ends or control characters; correct it"
    )


@pytest.mark.parametrize("table", [*sorted(RESERVED_TABLES - {"documents"}), "web", "unrouted"])
@pytest.mark.parametrize("inside", ["", "/", "/part/deep", "/../{table}"])
def test_a_source_in_a_table_that_is_written_is_refused(
    pipelines: Path, tmp_path: Path, table: str, inside: str
) -> None:
    routes = [{"route": "web", "when": "true"}]
    path = f"../../lake/demo/{table}{inside.format(table=table)}"
    message = refusal(pipelines, merged(source={"path": path}, routes=routes))
    resolved = os.path.normpath(f"{pipelines}/{path}")
    assert message == (
        f"the document: source.path {resolved!r} and the table {table!r}, which is written to "
        f"'{tmp_path}/lake/demo/{table}/', overlap; choose another path or other tables"
    )


@pytest.mark.parametrize(
    ("source", "tables"),
    [
        ("../../lake", "../../lake/demo"),
        ("../../lake/demo", "../../lake/demo"),
        ("file:/lake/demo/kept", "/lake/demo"),
        ("file:///lake/demo/kept", "file:/lake/demo"),
        ("s3a://bucket/demo/kept/", "s3a://bucket/demo/"),
        ("S3A://bucket/demo", "s3a://bucket/demo"),
    ],
)
def test_a_source_that_holds_the_tables_or_is_one_by_another_spelling_is_refused(
    pipelines: Path, source: str, tables: str
) -> None:
    message = refusal(pipelines, merged(source={"path": source}, tables=tables))
    assert "overlap; choose another path or other tables" in message


@pytest.mark.parametrize(
    ("source", "tables"),
    [
        ("../../lake/demo/documents", "../../lake/demo"),
        ("../../lake/demo/kept_before", "../../lake/demo"),
        ("s3a://bucket/demo/kept", "s3a://other/demo"),
        ("s3a://lake/demo/kept", "/lake/demo"),
    ],
)
def test_a_source_beside_the_tables_is_accepted(pipelines: Path, source: str, tables: str) -> None:
    Pipeline.from_yaml(write(pipelines, merged(source={"path": source}, tables=tables)))
