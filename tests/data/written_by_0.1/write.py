"""Write the lake, the registry and expected.json beside this file, with version 0.1.0: see README.md."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WORK = Path("/tmp/written_by_0.1")  # noqa: S108 - the source's path stands in `runs`: the same on every machine
os.environ["GLICLASS_SPARK_CACHE"] = str(WORK / "cache")

import torch  # noqa: E402
from delta.tables import DeltaTable  # noqa: E402
from deltalake import DeltaTable as DeltaFiles  # noqa: E402
from deltalake import QueryBuilder  # noqa: E402
from gliclass_spark.history import manifests  # noqa: E402
from gliclass_spark.model.modeling import GLiClassModel  # noqa: E402
from gliclass_spark.registry import Registry  # noqa: E402
from gliclass_spark.spark.feedback import ingest  # noqa: E402
from gliclass_spark.spark.snapshot import snapshot  # noqa: E402
from gliclass_spark.spark.steps import STEPS, Run  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors  # noqa: E402
from transformers import AutoConfig, PreTrainedTokenizerFast  # noqa: E402

from gliclass_spark.config import Pipeline  # noqa: E402
from gliclass_spark.inference.engine import Engine  # noqa: E402
from gliclass_spark.model import checkpoint  # noqa: E402
from gliclass_spark.model.configuration import GLiClassConfig  # noqa: E402
from gliclass_spark.spark.session import spark_session  # noqa: E402

DOCUMENTS = {
    "torch": "Tensors and neural networks on the GPU, with automatic differentiation.",
    "xgboost": "Gradient boosted trees for training classifiers and regressors.",
    "postgres": "A driver for PostgreSQL: connections, transactions and prepared statements.",
    "sqlite": "A file holds the whole database; SQL queries run in the process itself.",
    "vectors": "Stores embeddings of a neural network in a database, and finds the nearest ones.",
    "django": "A web framework: requests, templates, forms and an admin site.",
    "flask": "Routes the requests of a small web site to Python functions.",
    "poem": "The moon went down behind the hill, and all the boats were still.",
    "sale": "Buy now! Our best offer ever: 50 % off all subscriptions, only this week.",
    "pond": "A pond.",
    "blank": "   ",
    "null": None,
}
COLUMNS = "package string, description string, language string"
# What expected.json has of a row: those of these columns that its table has.
SHOWN = (
    *("doc_id", "package", "description", "language", "reason", "route", "label", "verdict", "reward", "source"),
    *("chosen", "score", "propensity", "labels", "scores", "explored", "propensities", "token_count", "chunk_count"),
    *("error", "run_id", "deleted_at"),
)
# What it has of a row of `runs`.
FACTS = (
    *("status", "sequence", "whole", "rows_in", "documents", "tagged", "retagged", "tombstoned", "kept", "rejected"),
    *("quarantined", "waiting", "routed", "routed_documents", "errors", "label_counts", "score_histograms"),
    *("model_loads", "message", "label_set_hash", "rules_hash", "settings_hash", "model_digest"),
)
TEXTS, LABELS = ["a lake of data", "buy now"], ["spam", "lake"]


def write_lake(spark: SparkSession, folder: Path) -> dict[str, Any]:
    """Two runs over a table that changes between them, with signals after each. Gives what was written."""
    ours = shutil.ignore_patterns("documents", "tables")
    pipeline = Pipeline.from_yaml(shutil.copytree(HERE / "lake", folder, ignore=ours) / "pipeline.yaml")
    source = str(folder / "documents")
    _add(spark, source, DOCUMENTS)
    _run(spark, pipeline, "run-1", folder / "signals_1.jsonl")
    _add(spark, source, {"kafka": "A client for Kafka, which streams events into a database."})
    table = DeltaTable.forPath(spark, source)
    table.update("package = 'flask'", {"description": "'Trains a neural network behind a small web site.'"})
    table.delete("package = 'poem'")
    _run(spark, pipeline, "run-2", folder / "signals_2.jsonl")
    _tidy(spark, folder / "tables" / "runs", folder / "tables" / "staged")
    names = sorted(path.name for path in (folder / "tables").iterdir() if path.name != "runs")
    ended = [each for each in manifests(pipeline) if each.status != "running"]
    return {
        "tables": {name: rows(folder / "tables" / name) for name in names},
        "runs": {run: {each.job: facts(each) for each in ended if each.run_id == run} for run in ("run-1", "run-2")},
        "snapshot": snapshot(spark, pipeline, str(WORK / "snapshot"), 0.25).counts,
    }


def _add(spark: SparkSession, source: str, documents: dict[str, str | None]) -> None:
    frame = spark.createDataFrame([(name, text, "en") for name, text in documents.items()], COLUMNS).coalesce(1)
    frame.write.format("delta").mode("append").option("delta.enableChangeDataFeed", "true").save(source)


def _run(spark: SparkSession, pipeline: Pipeline, run_id: str, signals: Path) -> None:
    for step in STEPS.values():
        step(Run(spark, pipeline, run_id, device="cpu", precision="float32"))
    ingest(spark, pipeline, str(signals))


def _tidy(spark: SparkSession, *tables: Path) -> None:
    """Remove what no job reads any more: most of the folder's size."""
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    for table in tables:
        DeltaTable.forPath(spark, str(table)).optimize().executeCompaction()
        DeltaTable.forPath(spark, str(table)).vacuum(0)


def rows(table: Path) -> list[dict[str, Any]]:
    """What a table says, in the order of its documents."""
    result = QueryBuilder().register("t", DeltaFiles(str(table))).execute("select * from t").read_all()
    shown = [{name: _plain(name, row[name]) for name in SHOWN if name in row} for row in _dicts(result)]
    return sorted(shown, key=lambda row: (row["doc_id"], row.get("label", "")))


def _dicts(result: Any) -> list[dict[str, Any]]:
    import pyarrow as pa

    dicts: list[dict[str, Any]] = pa.table(result).to_pylist(maps_as_pydicts="strict")
    return dicts


def _plain(name: str, value: Any) -> Any:
    if name == "deleted_at":
        return value is not None
    if name == "error":
        return value and value["code"]
    if isinstance(value, dict):
        return {key: round(each, 4) for key, each in sorted(value.items())}
    return round(value, 4) if isinstance(value, float) else value


def facts(manifest: Any) -> dict[str, Any]:
    """What a run's job says that is the same whenever it runs."""
    known = {name: value for name, value in asdict(manifest).items() if name in FACTS}
    read = {name: [each.since, each.until] for name, each in manifest.inputs.items()}
    return {**known, "inputs": read, "outputs": {name: each.until for name, each in manifest.outputs.items()}}


def write_registry(folder: Path) -> dict[str, Any]:
    """Two versions of a model, promoted one after the other. Gives what was written."""
    database = folder / "mlflow.db"
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
    folder.mkdir(parents=True)
    registry = Registry()
    for seed in (1, 2):
        with registry.run("mail", f"seed {seed}", {"seed": seed}) as tracked:
            tracked.metrics({"macro_f1": 0.5 + seed / 10})
            tags = {"macro_f1": str(0.5 + seed / 10)}
            version = registry.register("mail", write_checkpoint(WORK / f"seed-{seed}", seed), tracked.run_id, tags)
        registry.challenge("mail", version)
        registry.promote("mail")
    with closing(sqlite3.connect(database)) as connection:
        dump = "\n".join(connection.iterdump())
    for place in (str(folder), str(Path.cwd())):  # MLflow's own experiment, which is empty, is in the current folder
        dump = dump.replace(place, "@ROOT@")
    (folder / "mlflow.sql").write_text(dump + "\n")
    versions = {
        str(each.number): {
            "digest": each.digest,
            "aliases": list(each.aliases),
            "tags": dict(each.tags),
            "scores": Engine.from_pretrained(each.address, device="cpu", precision="float32")
            .scores(TEXTS, LABELS)
            .astype(float)
            .round(4)
            .tolist(),
        }
        for each in registry.versions("mail")
    }
    database.unlink()
    return {"name": "mail", "texts": TEXTS, "labels": LABELS, "versions": versions}


def write_checkpoint(folder: Path, seed: int) -> Path:
    """A GLiClass with random weights, which reads letters."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    backend = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special)
    tokenizer.add_tokens(["<<LABEL>>", "<<SEP>>"], special_tokens=True)
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    shape |= {"vocab_size": len(tokenizer), "max_position_embeddings": 96, "pad_token_id": 0}
    torch.manual_seed(seed)
    model = GLiClassModel(
        GLiClassConfig(
            encoder_config=AutoConfig.for_model("bert", **shape),
            class_token_index=tokenizer.convert_tokens_to_ids("<<LABEL>>"),
            text_token_index=tokenizer.convert_tokens_to_ids("<<SEP>>"),
            vocab_size=len(tokenizer),
            hidden_size=8,
            pooling_strategy="avg",
            prompt_first=True,
        )
    )
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return checkpoint.save(model.eval(), tokenizer, folder)


def take_over(written: Path, ours: Path, *names: str) -> None:
    """Replace parts of this folder by what was written, without checksums and empty folders."""
    for name in names:
        shutil.rmtree(ours / name, ignore_errors=True)
        if (written / name).is_dir():
            shutil.copytree(written / name, ours / name, ignore=shutil.ignore_patterns("*.crc"))
        else:
            shutil.copy(written / name, ours / name)
    for folder in sorted(ours.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


if __name__ == "__main__":
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    (WORK / "spark.yaml").write_text("spark.master: local[1]\nspark.sql.shuffle.partitions: 1\n")
    expected = {
        "lake": write_lake(spark_session(WORK / "spark.yaml"), WORK / "lake"),
        "registry": write_registry(WORK / "registry"),
    }
    take_over(WORK / "lake", HERE / "lake", "documents", "tables")
    (HERE / "registry").mkdir(exist_ok=True)
    take_over(WORK / "registry", HERE / "registry", "mlartifacts", "mlflow.sql")
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
