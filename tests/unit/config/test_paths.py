"""Paths in pipeline files: relative to the file, and a source that no table overlaps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pipeline_files import DOCUMENT, FULL, merged, refusal, write

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.rules import RESERVED_TABLES


def test_a_relative_path_is_resolved_from_the_file_and_not_from_the_working_directory(
    pipelines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(pipelines, FULL)
    monkeypatch.chdir(tmp_path / "conf")
    pipeline = Pipeline.from_yaml("pipelines/demo.yaml")
    assert pipeline.source.path == f"{tmp_path}/lake/demo/documents"
    assert pipeline.tables == f"{tmp_path}/lake/demo"
    assert pipeline.model == f"{tmp_path}/conf/pipelines/models/small"
    assert pipeline.label_set.names == ("machine learning", "web")


@pytest.mark.parametrize(
    "folder",
    ["/lake/x", "s3a://bucket/x", "abfss://c@a.dfs.core.windows.net/x", "hdfs://host/x", "dbfs:/x", "file:/x/y"],
)
def test_absolute_paths_and_uris_stay_as_they_are(pipelines: Path, folder: str) -> None:
    document = merged(source={"path": f"{folder}/documents"}, tables=f"{folder}/out", model=f"{folder}/model")
    pipeline = Pipeline.from_yaml(write(pipelines, document))
    assert pipeline.source.path == f"{folder}/documents"
    assert pipeline.tables == f"{folder}/out"
    assert pipeline.model == f"{folder}/model"


def test_symbolic_links_are_not_followed(pipelines: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tmp_path / "conf")
    write(pipelines, DOCUMENT)
    pipeline = Pipeline.from_yaml(tmp_path / "current" / "pipelines" / "demo.yaml")
    assert pipeline.tables == f"{tmp_path}/lake/demo"


@pytest.mark.parametrize("model", ["embedded", "gliclass-base", "knowledgator/gliclass-modern-base-v2.0-init"])
def test_a_model_uri_other_than_a_folder_stays_as_it_is(pipelines: Path, model: str) -> None:
    assert Pipeline.from_yaml(write(pipelines, merged(model=model))).model == model


def test_a_model_folder_without_a_leading_dot_is_refused_with_the_fix(pipelines: Path) -> None:
    assert refusal(pipelines, merged(model="checkpoints/gliclass/small")) == (
        "model: 'checkpoints/gliclass/small' is neither 'embedded' nor a hub id; begin the path of a folder with ./"
    )


@pytest.mark.parametrize("path", ["~/lake", "~"])
def test_a_home_folder_is_refused(pipelines: Path, path: str) -> None:
    message = f"{path!r} starts with ~, which differs from machine to machine; write the full path"
    assert refusal(pipelines, merged(tables=path)) == f"tables: {message}"
    assert refusal(pipelines, merged(model=path)) == f"model: {message}"
    assert refusal(pipelines, merged(source={"path": path})) == f"source.path: {message}"


@pytest.mark.parametrize("path", ["", " ", "lake ", "la\nke"])
def test_an_empty_path_or_one_with_stray_white_space_is_refused(pipelines: Path, path: str) -> None:
    assert refusal(pipelines, merged(tables=path)) == (
        f"tables: {path!r} is empty, or holds spaces at its ends or control characters; correct it"
    )


@pytest.mark.parametrize("table", [*sorted(RESERVED_TABLES - {"documents"}), "web", "unrouted"])
@pytest.mark.parametrize("inside", ["", "/", "/part/deep", "/../{table}"])
def test_a_source_inside_a_table_that_the_jobs_write_is_refused(
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
def test_a_source_that_contains_the_tables_or_is_one_in_another_spelling_is_refused(
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
def test_a_source_next_to_the_tables_is_accepted(pipelines: Path, source: str, tables: str) -> None:
    Pipeline.from_yaml(write(pipelines, merged(source={"path": source}, tables=tables)))


@pytest.mark.parametrize(
    "source",
    [
        "../../lake/*",
        "../../lake/demo/*",
        "../../*/demo/kept",
        "../../l?ke/demo/k[a-f]pt/part-*.parquet",
        "../../lake/demo/{documents,kept}",
        "../../{lake/demo/kept,elsewhere}/part",
        "../../{la,x}ke/{d{e,x}mo,y}",
        "../../lake/d\\emo",
        "../../lake/demo/[^x]ept",
    ],
)
def test_a_pattern_that_matches_a_table_is_refused(pipelines: Path, source: str) -> None:
    message = refusal(pipelines, merged(source={"path": source, "format": "parquet"}))
    assert "overlap; choose another path or other tables" in message


@pytest.mark.parametrize(
    "source", ["../../lake/docs-*", "../../lake/demo/documents/*/*.parquet", "../../lake/other/*", "../../lake/{a,b}"]
)
def test_a_pattern_that_matches_no_table_is_accepted(pipelines: Path, source: str) -> None:
    Pipeline.from_yaml(write(pipelines, merged(source={"path": source, "format": "parquet"})))


@pytest.mark.parametrize("source", ["../../linked", "../../linked/kept", "../../link*/kept", "../../x/../linked/kept"])
def test_a_link_to_a_table_is_refused(pipelines: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "lake" / "demo").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "lake" / "demo")
    message = refusal(pipelines, merged(source={"path": source, "format": "parquet"}))
    assert "overlap; choose another path or other tables" in message


def test_tables_behind_a_link_to_the_source_are_refused(pipelines: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    message = refusal(pipelines, merged(source={"path": "../../real/kept"}, tables="../../linked"))
    assert "overlap; choose another path or other tables" in message


@pytest.mark.parametrize(
    ("source", "tables"),
    [("s3://bucket/demo/kept", "s3a://bucket/demo"), ("abfs://c@a.net/*/kept", "abfss://c@a.net/demo")],
)
def test_two_schemes_of_one_store_are_one_place(pipelines: Path, source: str, tables: str) -> None:
    message = refusal(pipelines, merged(source={"path": source}, tables=tables))
    assert "overlap; choose another path or other tables" in message


def test_a_pattern_that_stands_for_very_many_is_refused_at_once(pipelines: Path) -> None:
    message = refusal(pipelines, merged(source={"path": "/lake/" + "{a,b}" * 40}))
    assert message.endswith("stands for more than 1000 patterns; write a shorter one")
