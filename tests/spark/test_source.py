"""Source documents as people have them: files cut short, in other encodings and dialects, ids of every type."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.config.pipeline import Pipeline, Source
from gliclass_spark.errors import ErrorShareError, TableError
from gliclass_spark.spark.jobs import STEPS, PipelineRun
from gliclass_spark.spark.source import Documents, with_content
from gliclass_spark.spark.source_files import SOURCE_ERROR
from gliclass_spark.spark.spark_errors import reporting_spark_errors

MAIL = "id string, text string, language string"
UMLAUTS = "Grüße aus Köln"


class Lines:
    """`lines(name, text)` writes a file; `lines.read(name, ...)` returns the documents of it, by doc_id."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder

    def __call__(self, name: str, text: str, encoding: str = "utf-8") -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(text.encode(encoding))

    def parquet(self, name: str, **columns: Any) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), self.folder / name)

    def documents(self, name: str, **source: Any) -> Documents:
        suffix = Path(name).suffix.removeprefix(".").replace("jsonl", "json")
        defaults = {"path": str(self.folder / name), "format": suffix or "parquet", "id": "id", "text": "text"}
        return Documents(self.spark, Source(**{**defaults, **source}))

    def read(self, name: str, **source: Any) -> dict[str, Any]:
        documents = self.documents(name, **source)
        frame = documents.read()
        documents.check_ids(frame)
        rows = frame.collect()
        # Spark reads only the columns that a query names: each query must see the same rows.
        assert frame.count() == len(rows) == len(content_hashes(frame, documents.source.text))
        return {row["doc_id"]: row[documents.source.text] for row in rows}

    def errors(self, name: str, **source: Any) -> dict[str, tuple[str, str] | None]:
        rows = self.documents(name, **source).read().collect()
        return {row["doc_id"]: row[SOURCE_ERROR] and tuple(row[SOURCE_ERROR]) for row in rows}

    def refusal(self, name: str, **source: Any) -> str:
        with pytest.raises(TableError) as raised:
            self.read(name, **source)
        assert "\n" not in str(raised.value)
        return str(raised.value)


@pytest.fixture
def lines(spark: SparkSession, tmp_path: Path) -> Lines:
    return Lines(spark, tmp_path)


def content_hashes(frame: DataFrame, text: str = "text") -> dict[str, str]:
    return {row["doc_id"]: row["content_hash"] for row in with_content(frame, text).collect()}


def test_a_json_line_that_is_no_json_is_a_row_with_its_place(lines: Lines) -> None:
    cut = '{"id": "2", "te'
    lines("mail.jsonl", f'{{"id": "1", "text": "a"}}\n{cut}\n{{"id": "3", "text": "c"}}\n{cut}\n')
    read = lines.read("mail.jsonl")
    first, second = sorted(set(read) - {"1", "3"})
    assert read == {"1": "a", "3": "c", first: cut, second: cut}
    # The id follows from the record, so that it is the same in every run.
    assert (first, second) == ("corrupt:mail.jsonl:f1dcc00fc82bf054", "corrupt:mail.jsonl:f1dcc00fc82bf054#2")
    message = f"file:{lines.folder}/mail.jsonl: not a JSON object: {cut}"
    error = ("unreadable_row", message)
    assert lines.errors("mail.jsonl") == {"1": None, "3": None, first: error, second: error}


def test_a_json_line_in_another_encoding_is_undecodable_text(lines: Lines) -> None:
    lines("mail.jsonl", f'{{"id": "1", "text": "a"}}\n{{"id": "2", "text": "{UMLAUTS}"}}\n', "latin-1")
    [(corrupt, error)] = [pair for pair in lines.errors("mail.jsonl").items() if pair[1]]
    assert (corrupt[:19], error and error[0]) == ("corrupt:mail.jsonl:", "undecodable_text")
    assert lines.read("mail.jsonl", encoding="ISO-8859-1") == {"1": "a", "2": UMLAUTS}


@pytest.mark.parametrize("encoding", ["windows-1252", "UTF-16LE"])
def test_json_is_read_in_the_encoding_that_the_source_names(lines: Lines, encoding: str) -> None:
    lines("mail.jsonl", f'{{"id": "1", "text": "{UMLAUTS} €"}}\r\n{{"id": "2", "text": "b"}}\r\n', encoding)
    assert lines.read("mail.jsonl", encoding=encoding) == {"1": f"{UMLAUTS} €", "2": "b"}


def test_an_array_over_several_lines_is_refused_with_the_way_to_read_it(lines: Lines) -> None:
    lines("mail.json", json.dumps([{"id": "1", "text": "a"}, {"id": "2", "text": "b"}], indent=2))
    assert "no line of it is a JSON object; if its files hold an array" in lines.refusal("mail.json")
    assert lines.read("mail.json", multiline=True) == {"1": "a", "2": "b"}


def test_csv_records_of_another_length_are_rows_with_their_place(lines: Lines) -> None:
    lines("mail.csv", 'id,text,from\n1,a,x\n2,b,c,d\n3\n4,"d\nd",y\n')
    read = lines.read("mail.csv")
    assert [text for id_, text in sorted(read.items()) if id_.startswith("corrupt:")] == ["3", "2,b,c,d"]
    assert {id_: text for id_, text in read.items() if not id_.startswith("corrupt:")} == {"1": "a", "4": "d\nd"}
    messages = [error[1] for error in lines.errors("mail.csv").values() if error]
    assert f"file:{lines.folder}/mail.csv: not a CSV record of 3 fields: 2,b,c,d" in messages


def test_csv_bytes_in_another_encoding_are_undecodable_text(lines: Lines) -> None:
    lines("mail/a.csv", f"id,text\n1,{UMLAUTS}\n2,b\nü,c\nö,c\n", "latin-1")
    lines("mail/b.csv", "id,text\n5,mojibake \ufffd that is in the file itself\n")
    errors = lines.errors("mail", format="csv")
    codes = {id_: error and error[0] for id_, error in errors.items() if not id_.startswith("corrupt:")}
    assert codes == {"1": "undecodable_text", "2": None, "5": None}
    assert len(errors) == 5  # the ids of the other two are damaged, too, and would be one
    lines("cp1252.csv", f"id,text\n1,{UMLAUTS} €\n", "cp1252")
    assert lines.read("cp1252.csv", encoding="windows-1252") == {"1": f"{UMLAUTS} €"}


def test_a_row_that_was_repaired_has_another_content_hash(lines: Lines) -> None:
    lines("mail.csv", "id,text\n1,\ufffd\n")
    good = content_hashes(lines.documents("mail.csv").read())
    lines("mail.csv", "id,text\n1,ü\n", "latin-1")
    damaged = content_hashes(lines.documents("mail.csv").read())
    assert good.keys() == damaged.keys() == {"1"}
    assert good != damaged


def test_csv_dialects(lines: Lines) -> None:
    lines("mail.csv", "id;text\n1;a, b\n")
    assert "set source.delimiter" in lines.refusal("mail.csv")
    assert lines.read("mail.csv", delimiter=";") == {"1": "a, b"}
    lines("bare.csv", "1\ta\n2\tb\n")
    assert lines.read("bare.csv", delimiter="\t", header=False, id="_c0", text="_c1") == {"1": "a", "2": "b"}


def test_csv_files_with_other_headers_are_not_read_by_the_first_one(lines: Lines) -> None:
    lines("mail/a.csv", "id,text\n1,a\n")
    lines("mail/b.csv", "text,id\nb,2\n")
    documents = lines.documents("mail", format="csv")
    with pytest.raises(TableError, match=r"the header of \S+/mail/b.csv has other columns than the first file's"):
        documents.read()
    assert lines.read("mail", format="csv", options={"enforceSchema": True}) == {"1": "a", "b": "2"}
    # Names that Spark makes up can't be compared: pandas leaves that of its index empty.
    lines("pandas.csv", ",id,text\n0,1,a\n")
    assert lines.read("pandas.csv") == {"1": "a"}


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("empty.json", {}, "holds no json record"),
        ("empty.csv", {}, "holds no csv record"),
        ("none", {}, "there is no parquet at"),
        ("none", {"format": "delta"}, "there is no Delta table at"),
        ("empty.json", {"format": "delta"}, "empty.json is no Delta table; write source.format: json"),
        ("utf16.csv", {}, "which is not in UTF-8: set source.encoding"),
        ("utf16.csv", {"encoding": "nonsense"}, "check source.encoding, source.delimiter and source.options"),
        ("case.json", {}, "can't be read"),
        ("helper.json", {}, "the column '__gliclass_x' has the name of one that the jobs add"),
        ("feed.json", {}, "the column '_commit_version' has the name of one that the jobs add"),
        ("where.json", {"where": "language = 'en'"}, "the source has the columns id, text"),
        ("text.parquet", {}, "can't be read; it is damaged, cut short or of another format"),
        ("zero", {}, "zero/a.parquet can't be read"),
        ("cut", {}, "cut/b.parquet can't be read; it is damaged, cut short"),
        ("types", {}, "column 'id' is INT64 in"),
        ("nanos", {}, "nanos: 'seen' holds timestamps in nanoseconds"),
        ("doubles", {}, "the id 9.007199254740992E15 is a double too large to be exact"),
        ("any", {"path": "s3a://bucket/mail"}, "Spark has no driver for this store"),
        ("any", {"path": "gs://bucket/mail", "format": "delta"}, "Spark has no driver for"),
        ("any", {"path": "hdfs://nohost.invalid:8020/mail"}, "the host 'nohost.invalid' is unknown"),
        ("any", {"path": "https://nohost.invalid/mail.json", "format": "json"}, "a file system that Spark can't list"),
        ("any", {"path": None, "table": "nowhere.main.mail"}, "there is no catalog 'nowhere'"),
        ("any", {"path": None, "table": "nowhere.mail"}, "there is no table at table nowhere.mail"),
    ],
)
def test_a_wrong_input_is_one_line(lines: Lines, name: str, source: dict[str, Any], message: str) -> None:
    match name:
        case "empty.json" | "empty.csv":
            lines(name, "")
        case "utf16.csv":
            lines(name, "id,text\n1,a\n", "utf-16")
        case "case.json":
            lines(name, '{"id": "1", "text": "a", "ID": "2"}\n')
        case "helper.json":
            lines(name, '{"id": "1", "text": "a", "__gliclass_x": "2"}\n')
        case "feed.json":
            lines(name, '{"id": "1", "text": "a", "_commit_version": "2"}\n')
        case "where.json":
            lines(name, '{"id": "1", "text": "a"}\n')
        case "text.parquet":
            lines(name, "id,text\nthis is no Parquet file\n")
        case "zero":
            lines("zero/a.parquet", "")
        case "cut":
            lines.parquet("cut/a.parquet", id=["1"], text=["a"])
            half = (lines.folder / "cut/a.parquet").read_bytes()
            (lines.folder / "cut/b.parquet").write_bytes(half[: len(half) // 2])
        case "types":
            lines.parquet("types/a.parquet", id=pa.array([1], pa.int32()), text=["a"])
            lines.parquet("types/b.parquet", id=pa.array([2], pa.int64()), text=["b"])
        case "nanos":
            seen = pa.array([datetime.datetime(2026, 1, 1)], pa.timestamp("ns"))
            lines.parquet("nanos/a.parquet", id=["1"], text=["a"], seen=seen)
        case "doubles":
            lines.parquet("doubles/a.parquet", id=[1.0, 2.0**53], text=["a", "b"])
    if source.get("table"):
        source = {"format": ..., **source}
    settings = {"path": str(lines.folder / name), "id": "id", "text": "text"}
    settings["format"] = Path(name).suffix.removeprefix(".") or "parquet"
    settings = {key: value for key, value in {**settings, **source}.items() if value not in (None, ...)}
    documents = Documents(lines.spark, Source(**settings))
    with pytest.raises(TableError) as raised, reporting_spark_errors("a job"):
        documents.check_ids(documents.read() if documents.delta is None else documents.read(0))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "SQLSTATE" not in str(raised.value)


def test_ids_keep_the_looks_that_they_have_in_the_source(lines: Lines) -> None:
    lines.parquet("numbers/a.parquet", id=[12345678.0, 3.0, 2.5, -7.0], text=list("abcd"))
    assert lines.read("numbers") == {"12345678": "a", "3": "b", "2.5": "c", "-7": "d"}
    for name, text in (("007", "a"), ("7", "b")):
        lines.parquet(f"folders/id={name}/a.parquet", text=[text])
        lines(f"lines/id={name}/a.json", json.dumps({"text": text}))
    assert lines.read("folders") == lines.read("lines", format="json") == {"007": "a", "7": "b"}
    key = uuid.UUID("0198c5a4-8f00-7000-8000-0123456789ab")
    lines.parquet("bytes/a.parquet", id=[key.bytes, b"mail 1", b"\x00\xff"], text=list("abc"))
    assert lines.read("bytes") == {str(key): "a", "mail 1": "b", "00ff": "c"}


def test_a_number_that_is_missing_is_no_id(lines: Lines) -> None:
    lines.parquet("numbers/a.parquet", id=[1.0, None, float("nan")], text=list("abc"))
    assert "2 rows have no id" in lines.refusal("numbers")


def test_names_with_backquotes_dots_and_spaces_come_along(lines: Lines) -> None:
    lines("mail.json", '{"id": "1", "text": "a", "we`ird.x, y": 1}\n')
    assert lines.documents("mail.json").read().columns == ["doc_id", "id", "text", "we`ird.x, y"]


def test_names_are_found_in_any_case_also_in_a_session_that_minds_it(lines: Lines) -> None:
    lines("mail.json", '{"ID": "1", "Text": "a"}\n')
    lines("twice.json", '{"ID": "1", "id": "2", "text": "a"}\n')
    lines.spark.conf.set("spark.sql.caseSensitive", "true")
    try:
        assert lines.read("mail.json") == {"1": "a"}
        assert "the columns 'id' and 'ID' differ in case alone" in lines.refusal("twice.json")
        assert lines.read("twice.json", columns=()) == {"2": "a"}
    finally:
        lines.spark.conf.unset("spark.sql.caseSensitive")


def test_a_condition_selects_documents_and_keeps_records_that_can_not_be_read(lines: Lines) -> None:
    lines("mail.json", '{"id": "1", "text": "a", "n": 1}\n{"id": "2", "text": "b", "n": 2}\n{"id"\n')
    read = lines.read("mail.json", where="n > 1 and cast(id as int) < 9", columns=())
    assert [text for _, text in sorted(read.items())] == ["b", '{"id"']


def run_over(lines: Lines, records: list[str], model: str, max_error_ratio: float) -> PipelineRun:
    """Return a run over a file of these records."""
    lines("mail.json", "\n".join(records) + "\n")
    pipeline = Pipeline(
        name="mail",
        source=lines.documents("mail.json").source,
        label_set=["lake", "spam"],
        model=model,
        tables=str(lines.folder / "lake"),
        max_error_ratio=max_error_ratio,
    )
    return PipelineRun(lines.spark, pipeline, "run-1", device="cpu")


GOOD, CUT = '{"id": "1", "text": "a lake of data"}', '{"id": "9", "text": "cut o'


def test_promise_3_a_record_that_can_not_be_read_is_quarantined(lines: Lines, tiny_bi_encoder: str) -> None:
    run = run_over(lines, [GOOD, CUT], tiny_bi_encoder, max_error_ratio=0.5)
    tagged, filtered = STEPS["tag"](run), STEPS["filter"](run)
    assert (tagged.rows_in, tagged.errors) == (2, {"unreadable_row": 1})
    assert (filtered.rows_in, filtered.kept, filtered.rejected, filtered.quarantined) == (2, 1, {}, 1)
    [row] = run.lake.read(lines.spark, "quarantined").collect()
    doc_id = f"corrupt:mail.json:{hashlib.sha256(CUT.encode()).hexdigest()[:16]}"
    assert (row["doc_id"], row["text"], row["scores"]) == (doc_id, CUT, {})
    assert row["error"]["message"] == f"file:{lines.folder}/mail.json: not a JSON object: {CUT}"
    assert not [name for name in run.lake.read(lines.spark, "kept").columns if name.startswith("_")]


@pytest.mark.long
def test_too_many_records_that_can_not_be_read_stop_the_run_and_a_file_is_named(
    lines: Lines, tiny_bi_encoder: str
) -> None:
    run = run_over(lines, [GOOD, CUT], tiny_bi_encoder, max_error_ratio=0.1)
    counts = f"1 of 2 texts could not be scored (unreadable_row: 1, as in file:{lines.folder}/mail.json)"
    with pytest.raises(ErrorShareError, match=re.escape(counts)) as raised:
        STEPS["tag"](run)
    assert CUT not in str(raised.value)


@pytest.mark.long
def test_a_document_that_no_longer_meets_the_condition_leaves_every_table(lines: Lines, tiny_bi_encoder: str) -> None:
    path, spark = str(lines.folder / "mail"), lines.spark
    mail = spark.createDataFrame([("1", "a lake", "en"), ("2", "ein See", "de"), ("3", "a sea", "en")], MAIL)
    mail.write.format("delta").option("delta.enableChangeDataFeed", "true").save(path)
    source = Source(path=path, id="id", text="text", where="language = 'en'")
    settings = {"name": "mail", "label_set": ["lake", "spam"], "model": tiny_bi_encoder, "tables": path + "_lake"}

    def kept_after(run_id: str, source: Source) -> tuple[list[str], bool]:
        run = PipelineRun(spark, Pipeline(source=source, **settings), run_id, device="cpu")
        manifests = [STEPS[step](run) for step in ("tag", "filter")]
        rows = run.lake.read(spark, "kept").collect()
        return sorted(row["doc_id"] for row in rows), manifests[1].full_scan

    assert kept_after("run-1", source) == (["1", "3"], True)
    table = DeltaTable.forPath(spark, path)
    table.update("id = '1'", {"language": "'fr'"})
    table.update("id = '2'", {"language": "'en'"})
    assert kept_after("run-2", source) == (["2", "3"], False)
    # Another condition is another part of the source: all of it is read.
    everything = source.model_copy(update={"where": "language <> 'de'"})
    assert kept_after("run-3", everything) == (["1", "2", "3"], True)
    assert kept_after("run-4", source) == (["2", "3"], True)


def test_a_view_is_a_source_without_versions(lines: Lines, tmp_path: Path) -> None:
    lines.spark.createDataFrame([("1", "a"), ("2", "b")], "id string, text string").write.format("delta").save(
        str(tmp_path / "table")
    )
    lines.spark.read.format("delta").load(str(tmp_path / "table")).createOrReplaceTempView("`mail view`")
    documents = Documents(lines.spark, Source(table="`mail view`", id="id", text="text", where="id <> '1'"))
    assert documents.delta is None
    assert [row["doc_id"] for row in documents.read().collect()] == ["2"]
