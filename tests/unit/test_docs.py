"""The documentation is about what is there: links, commands, keys, columns and errors that exist, and all of them."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from docs_blocks import DOCS, ROOT, RUN_PAGES, Block, blocks, pages

from devtools.site import benchmark_tables, configuration_tables, hooks, links
from gliclass_spark import errors
from gliclass_spark.cli.app import app
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.rules import Rules
from gliclass_spark.config.schedule import Schedule
from gliclass_spark.inference import results
from gliclass_spark.inference.results import TextError
from gliclass_spark.spark.delta.schema import DECISION_COLUMNS, TAGS
from gliclass_spark.spark.jobs.ingest_feedback import FEEDBACK

LANGUAGES = {"python", "bash", "yaml", "json", "csv", "text", "console"}
ALL_BLOCKS = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("page", [*pages(), ROOT / "README.md"], ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    for target, _ in links.local_links(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()):
        printed = target.removeprefix("docs/") in hooks.PRINTED
        assert printed or (ROOT / target).exists(), f"{page} links to {target}, which is not there"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(named) == len(set(named))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(named)


def test_every_block_of_code_says_what_it_is() -> None:
    assert {block.language for block in ALL_BLOCKS} <= LANGUAGES, [
        (block.page, block.text) for block in ALL_BLOCKS if block.language not in LANGUAGES
    ]


def test_every_block_that_looks_as_if_it_could_be_run_is_run_by_a_test() -> None:
    """Of pages that tests/spark/test_docs_pages.py does not follow, another test has to name the page."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    others = {block.page for block in ALL_BLOCKS if block.language in ("python", "bash")} - set(RUN_PAGES)
    assert [page for page in sorted(others) if Path(page).name not in tests] == []


def yaml_blocks() -> list[Block]:
    return [block for block in ALL_BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", yaml_blocks(), ids=lambda block: block.page)
def test_every_piece_of_yaml_says_something_that_is_read(block: Block) -> None:
    document = yaml.safe_load(block.text)
    assert isinstance(document, dict)
    if "name" not in document and "pipeline" not in document:  # a part of a file
        Rules.model_validate({key: document[key] for key in ("reject", "routes") if key in document})
        if "airflow" in document:
            Schedule.model_validate(document["airflow"])


def test_the_files_of_the_retraining_page_are_read(tmp_path: Path) -> None:
    pipeline, retraining, *_ = (block for block in yaml_blocks() if block.page == "retraining.md")
    for folder, block in (("pipelines", pipeline), ("retrain", retraining)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "support_mail.yaml").write_text(block.text)
    assert RetrainConfig.from_yaml(tmp_path / "retrain" / "support_mail.yaml").model_name == "support_mail"


def test_json_and_tables_in_the_pages_can_be_read() -> None:
    for block in ALL_BLOCKS:
        if block.language == "json":
            assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines()), block
        if block.language in ("json", "csv"):
            assert block.title, block


def test_every_command_that_a_page_names_exists() -> None:
    group: Any = typer.main.get_command(app)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for block in ALL_BLOCKS:
        if block.language in ("bash", "console"):
            for name in re.findall(r"^(?:\S*/)?gliclass-spark ([a-z-]+)", block.text, flags=re.MULTILINE):
                assert name in group.commands, f"{block.page}: there is no command {name}"
            for name in re.findall(r"^make ([a-z-]+)", block.text, flags=re.MULTILINE):
                assert name in targets, f"{block.page}: make has no target {name}"
            for job in re.findall(r"\bjobs/[\w/-]+\.py|\bconf/spark/[\w/-]+\.yaml", block.text):
                assert (ROOT / job).exists(), f"{block.page}: there is no {job}"


def entries(chapter: str) -> list[str]:
    runbook = (DOCS / "runbook.md").read_text(encoding="utf-8")
    return re.findall(r"^### (.+)$", runbook.split(f"\n## {chapter}\n")[1].split("\n## ")[0], flags=re.MULTILINE)


def test_the_runbook_has_an_entry_for_every_error() -> None:
    found = {name: each for name, each in vars(errors).items() if inspect.isclass(each)}
    family = {name for name, each in found.items() if issubclass(each, errors.GliclassSparkError)}
    named = entries("Errors of a command")
    assert (set(named), len(named)) == (family, len(family))


def test_the_runbook_has_an_entry_for_every_error_code_of_a_row() -> None:
    found = vars(results).values()
    codes = {error.code for error in found if isinstance(error, TextError)}
    source = inspect.getsource(results)
    codes |= set(re.findall(r'^[A-Z_]+ = "([a-z_]+)"', source, flags=re.MULTILINE))
    assert set(entries("Errors of a row")) == codes


def test_every_exit_code_stands_in_the_runbook() -> None:
    chapter = (DOCS / "runbook.md").read_text(encoding="utf-8").split("\n## Exit codes\n")[1].split("\n## ")[0]
    codes = {found.exit_code for found in vars(errors).values() if hasattr(found, "exit_code")}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", chapter, flags=re.MULTILINE)} == {0} | codes


def test_every_key_of_a_file_has_its_meaning_and_no_other() -> None:
    meanings = configuration_tables.read_meanings()
    for _, model, _ in configuration_tables.SECTIONS:
        assert set(meanings[model.__name__]) == set(configuration_tables.keys(model)), model


@pytest.mark.parametrize(
    ("chapter", "columns"),
    [
        ("tags", TAGS.names),
        ("feedback", FEEDBACK.names),
        ("kept, rejected, quarantined, and the routes", [DECISION_COLUMNS[0], "run_id", *DECISION_COLUMNS[1:]]),
    ],
)
def test_every_column_of_a_table_has_its_meaning(chapter: str, columns: list[str]) -> None:
    page = (DOCS / "reference" / "tables.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", page.split(f"\n## {chapter}\n")[1].split("\n## ")[0], flags=re.MULTILINE)
    assert named == columns


def test_every_result_of_a_benchmark_is_on_the_page_of_benchmarks() -> None:
    page = benchmark_tables.page()
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"({benchmark_tables.RESULTS.relative_to(ROOT).as_posix()}/{file.name})" in page.replace("../", "")


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_another_host(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr, built.stdout) == (0, "", "")
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)="(?:https?:)?//[^"]+', text) == []
        assert "mermaid" not in text  # drawn by a script from elsewhere
    for sheet in tmp_path.rglob("*.css"):
        assert re.findall(r"url\(\W?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == []
