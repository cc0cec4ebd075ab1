"""Model URIs: valid ones are kept, invalid ones are refused where they are written."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.model_uri import hub_model, stored_model
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError, ModelNotFoundError

SECRETS = st.text(string.ascii_letters + string.digits + "/+=._-~ ", min_size=1).map(lambda text: f"SeCrEt{text}")
INVALID = [
    ("s3://key:secret@bucket/mail", "s3://***@bucket/mail holds credentials, which would appear in logs and tables"),
    ("s3://key:sec/ret@bucket/mail", "s3://***@bucket/mail holds credentials"),
    ("s3://key:/secret@bucket/mail", "s3://***@bucket/mail holds credentials"),
    ("s3:/key:secret@bucket/mail", "s3://***@bucket/mail holds credentials"),
    ("s3://key@bucket/mail", "s3://***@bucket/mail holds credentials"),
    ("https://token@host/mail", "https://***@host/mail holds credentials"),
    ("sftp://user:secret@host/mail", "sftp://***@host/mail holds credentials"),
    ("https://host/mail?sig=secret", "https://host/mail?*** has a query, which may hold a token"),
    ("s3://bucket/../mail", "'s3://bucket/../mail' leads out of its own folder; write it without '..'"),
    ("file:///lake/..", "'file:///lake/..' leads out of its own folder"),
    ("file:/lake/..\\mail", "leads out of its own folder"),
    ("zip://mail::s3://bucket/models.zip", "chains several stores; give the folder of the model itself"),
    ("s3://bucket/ma\nil", "holds spaces at its ends or control characters; correct it"),
    ("s3://bucket/mail ", "holds spaces at its ends or control characters; correct it"),
    ("models:/mail", "is no registered model; write models:/NAME@champion or models:/NAME/3"),
    ("org/name@", "is neither 'embedded' nor a hub id; begin the path of a folder with ./"),
    ("org/name@v1@v2", "is neither 'embedded' nor a hub id"),
    ("org/name@../v1", "is neither 'embedded' nor a hub id"),
    ("org/..", "is neither 'embedded' nor a hub id"),
    ("org/name/model", "is neither 'embedded' nor a hub id"),
    ("", "is neither 'embedded' nor a hub id"),
    ("~/mail", "starts with ~, which differs from machine to machine; write the full path"),
]


def pipeline(folder: Path, model: str) -> Pipeline:
    document = {"name": "mail", "source": {"path": "mail", "id": "id", "text": "body"}, "label_set": ["spam"]}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({**document, "tables": "lake", "model": model}))
    return Pipeline.from_yaml(folder / "pipeline.yaml")


class TestPipelineFile:
    @pytest.mark.parametrize(
        "model",
        [
            "embedded",
            "org/name",
            "name",
            "org/name@v1.2",
            "org/name@feature/x",
            f"org/name@{'a' * 40}",
            "s3://bucket/models/mail v1 [é] 100%@2",
            "s3://bucket",
            "gs://bucket/mail",
            "abfss://container@account.dfs.core.windows.net/mail",
            "hdfs://user@host:8020/mail",
            "hdfs:///mail",
            "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/lake/mail",
            "file:///lake/mail",
            "file:/lake@2/mail",
            "dbfs:/mail",
            "models:/mail@champion",
            "models:/mail/3",
        ],
    )
    def test_a_valid_uri_stays_as_it_is(self, tmp_path: Path, model: str) -> None:
        assert pipeline(tmp_path, model).model == model

    @pytest.mark.parametrize(("model", "message"), INVALID)
    def test_an_invalid_uri_is_refused_when_the_file_is_read(self, tmp_path: Path, model: str, message: str) -> None:
        with pytest.raises(ConfigError) as refused:
            pipeline(tmp_path, model)
        assert message in str(refused.value)
        assert "secret" not in str(refused.value)

    def test_a_folder_is_resolved_from_the_file(self, tmp_path: Path) -> None:
        assert pipeline(tmp_path, "./models/mail@2").model == f"{tmp_path}/models/mail@2"


@pytest.mark.parametrize("model", [model for model, message in INVALID if "hub id" not in message and "~" not in model])
def test_an_invalid_uri_is_refused_by_resolve_model(model: str) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        resolve_model(model)
    assert "secret" not in str(refused.value)


@given(SECRETS, st.sampled_from(["s3", "gs", "https", "hdfs", "abfss", "sftp"]), st.sampled_from(["", "/a@b", "?x=1"]))
def test_a_secret_before_the_host_is_never_repeated(secret: str, scheme: str, suffix: str) -> None:
    with pytest.raises(ValueError, match="holds credentials") as refused:
        stored_model(f"{scheme}://key:{secret}@bucket/mail{suffix}")
    assert "SeCrEt" not in str(refused.value)


@given(SECRETS)
def test_a_secret_in_a_query_is_never_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="has a query") as refused:
        stored_model(f"https://host/mail?sig={secret}")
    assert "SeCrEt" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/mail/", "s3://bucket/mail"),
        ("file:/lake/mail", "file:///lake/mail"),
        ("hdfs:/mail", "hdfs:///mail"),
        ("memory://mail", "memory://mail"),
    ],
)
def test_the_uri_of_a_stored_folder_is_normalized(uri: str, expected: str) -> None:
    assert stored_model(uri) == expected


def test_a_hub_id_is_a_repository_and_a_revision() -> None:
    assert hub_model("org/name") == ("org/name", None)
    assert hub_model("org/name@refs/pr/1") == ("org/name", "refs/pr/1")
