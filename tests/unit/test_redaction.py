"""Secrets in texts: cut out of messages wherever they are printed, and refused where they are written."""

from __future__ import annotations

import pickle
import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, GliclassSparkError, JobError
from gliclass_spark.redaction import without_secrets

WITH_SECRETS = {
    "s3a://AKIA:SECRET@bucket/docs": "s3a://***@bucket/docs",
    "s3a://AKIA:SEC/RET@bucket/docs": "s3a://***@bucket/docs",
    "s3:/AKIA:SECRET@bucket/docs": "s3:/***@bucket/docs",
    "https://SECRET@host/docs": "https://***@host/docs",
    "postgresql://user:SECRET@db:5432/mlflow": "postgresql://***@db:5432/mlflow",
    "wasbs://c@acct.blob.core.windows.net/docs?sv=1&sig=SECRET": "wasbs://c@acct.blob.core.windows.net/docs?***",
    "https://b.s3.amazonaws.com/m?X-Amz-Signature=SECRET": "https://b.s3.amazonaws.com/m?***",
    "jdbc:postgresql://host/db?user=a&password=SECRET": "jdbc:postgresql://host/db?***",
    "/data/docs?sig=SECRET": "/data/docs?sig=***",
}
TEXTS = {
    "403 Forbidden for url: https://h/m?X-Amz-Signature=SECRET, then 's3a://k:SECRET@b/x'": (
        "403 Forbidden for url: https://h/m?***, then 's3a://***@b/x'"
    ),
    "fs.s3a.secret.key=SECRET AWSAccessKeyId=SECRET&Signature=SECRET": (
        "fs.s3a.secret.key=*** AWSAccessKeyId=***&Signature=***"
    ),
    "X-Amz-Security-Token=SECRET; client_secret=SECRET, password=SECRET": (
        "X-Amz-Security-Token=***; client_secret=***, password=***"
    ),
    "Authorization: Bearer SECRETSECRETSECRET": "Authorization: Bearer ***",
}
HARMLESS = [
    "s3a://bucket/part-0?.parquet and s3a://bucket/year=2026/{a,b}/*.json",
    "abfss://container@account.dfs.core.windows.net/lake",
    "hdfs://user@host:8020/lake",
    "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/lake/mail",
    "file:///lake/a:b@c",
    "config.json has eos_token='[SEP]' and pad_token_id=3; token_count=3",
    "reject rule 'r': \"token = 'x'\" is not one SQL expression, see '?'",
    "write models:/NAME@champion or models:/NAME/3, or dbfs:/mail@2",
    "the user a@b.c gave 1:2@3",
]
SECRETS = st.text(string.ascii_letters + string.digits + "/+=._-~", min_size=1).map(lambda text: f"SeCrEt{text}")


def write(folder: Path, **changes: object) -> Path:
    source = {"path": "docs", "id": "id", "text": "body"}
    document = {"name": "mail", "source": source, "label_set": ["spam"], "tables": "lake", **changes}
    (folder / "file.yaml").write_text(yaml.safe_dump(document))
    return folder / "file.yaml"


@pytest.mark.parametrize(("text", "expected"), [*WITH_SECRETS.items(), *TEXTS.items()])
def test_secrets_are_cut_out(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
    assert without_secrets(expected) == expected


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_secrets(text) == text


@given(SECRETS, st.sampled_from(["s3a", "gs", "https", "hdfs", "abfss"]), st.text("ab :\n'", max_size=5))
def test_no_credentials_in_a_uri_survive_anywhere_in_a_text(secret: str, scheme: str, around: str) -> None:
    text = f"{around} {scheme}://key:{secret}@bucket/docs{around} https://host/docs?sig={secret} {around}"
    assert "SeCrEt" not in without_secrets(text)


@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
def test_an_error_of_ours_never_holds_one_whatever_prints_it(text: str, expected: str) -> None:
    error = JobError(f"tag failed: {text}")
    assert str(error) == f"tag failed: {expected}"
    assert (str(pickle.loads(pickle.dumps(error))), error.args) == (str(error), (str(error),))  # noqa: S301
    assert str(GliclassSparkError()) == ""


@pytest.mark.parametrize("key", ["source.path", "tables", "model"])
@pytest.mark.parametrize("uri", WITH_SECRETS)
def test_a_pipeline_with_one_is_refused_where_it_is_written(tmp_path: Path, key: str, uri: str) -> None:
    changes = {"source": {"path": uri, "id": "id", "text": "body"}} if key == "source.path" else {key: uri}
    with pytest.raises(ConfigError) as refused:
        Pipeline.from_yaml(write(tmp_path, **changes))
    assert f"file.yaml: {key}: " in str(refused.value)
    assert "SEC" not in str(refused.value)
    if key != "model":
        assert " holds credentials or a signature, which would appear in logs and pages; " in str(refused.value)


@pytest.mark.parametrize("key", ["registry", "golden", "work", "pipeline"])
def test_a_retraining_with_one_is_refused_where_it_is_written(tmp_path: Path, key: str) -> None:
    write(tmp_path)
    document = {"pipeline": "file.yaml", "golden": "golden", "work": "work", key: "postgresql://user:SECRET@db/mlflow"}
    (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError) as refused:
        RetrainConfig.from_yaml(tmp_path / "retrain.yaml")
    assert "SECRET" not in str(refused.value)
