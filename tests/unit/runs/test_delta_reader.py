"""Delta tables read by delta-rs."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from gliclass_spark.errors import TableError
from gliclass_spark.runs.delta_reader import delta_table, query


def test_a_feature_that_only_spark_reads_is_named_with_the_fix(tmp_path: Path) -> None:
    path = str(tmp_path / "kept")
    write_deltalake(path, pa.table({"doc_id": ["a"]}))
    first = Path(path, "_delta_log", f"{0:020}.json")
    actions = [json.loads(line) for line in first.read_text().splitlines()]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["typeWidening"]}
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {**protocol, "writerFeatures": ["typeWidening"]}
    first.write_text("".join(json.dumps(action) + "\n" for action in actions))
    with pytest.raises(TableError) as raised:
        query(delta_table(path), "select * from t")
    assert str(raised.value).endswith(
        "/kept/ can't be read: it has the table feature TypeWidening, which Spark reads and delta-rs does not; take it "
        "off with Spark: ALTER TABLE ... DROP FEATURE TypeWidening"
    )
