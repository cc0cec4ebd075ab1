"""Fixtures of retrainings: a registered champion, and the files of a retraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pets_retraining import KINDS, LENIENT, WriteConfig, decisions, write_snapshot

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.config.retraining import RetrainConfig


@pytest.fixture
def champion(registry: Registry, tiny_label_cached_model: str) -> str:
    """The digest of the champion of the model "pets"."""
    with registry.run("pets", "first", {}) as tracked:
        version = registry.register("pets", Path(tiny_label_cached_model), tracked.run_id)
    return registry.promote("pets", str(version.number)).digest


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Writes a configuration with these keys, its golden set, and the snapshot of the retraining "r"."""

    def of(
        rows: list[dict[str, Any]] | None = None, golden: dict[str, str] | None = None, **keys: Any
    ) -> RetrainConfig:
        pipeline = {
            "name": "pets",
            "source": {"path": "documents", "id": "id", "text": "text"},
            "label_set": list(KINDS),
            "model": "models:/pets@champion",
            "tables": "lake",
        }
        (tmp_path / "pets.yaml").write_text(yaml.safe_dump(pipeline))
        truth = golden or {f"the golden {kind} {number}": kind for number in range(10) for kind in KINDS}
        pq.write_table(
            pa.table({"text": list(truth), "labels": [[label] for label in truth.values()]}),
            tmp_path / "golden.parquet",
        )
        document = {
            "pipeline": "pets.yaml",
            "golden": "golden.parquet",
            "work": "work",
            "min_decisions": 10,
            "supervised": {"steps": 3, "texts": 4, "max_weight": None},
            "ppo": {"steps": 3, "texts": 4},
            "gate": LENIENT,
            **keys,
        }
        (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(document))
        config = RetrainConfig.from_yaml(tmp_path / "retrain.yaml")
        write_snapshot(config, "r", rows if rows is not None else decisions())
        return config

    return of
