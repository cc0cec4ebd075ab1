"""The documentation matches the code: links, commands, keys, columns and errors exist, and all are documented."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from docs_blocks import DOCS, ROOT, RUN_PAGES, Block, blocks, pages
from test_imports import EVERYWHERE, MAY_IMPORT, PACKAGE, modules

from devtools.site import benchmark_page, configuration_tables, hooks, links
from gliclass_spark import errors
from gliclass_spark.cli.app import app
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.rules import Rules
from gliclass_spark.config.schedule import Schedule
from gliclass_spark.inference import results
from gliclass_spark.inference.results import TextError
from gliclass_spark.spark import source_files
from gliclass_spark.spark.delta.schema import DECISION_COLUMNS, FEEDBACK, TAGS

LANGUAGES = {"python", "bash", "yaml", "json", "csv", "sql", "text", "console"}
ALL_BLOCKS = [block for page in pages() for block in blocks(page)]


@pytest.mark.parametrize("page", [*pages(), ROOT / "README.md"], ids=lambda page: page.name)
def test_every_link_to_a_file_has_its_target(page: Path) -> None:
    for target, _ in links.local_links(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix()):
        printed = target.removeprefix("docs/") in hooks.GENERATED
        assert printed or (ROOT / target).exists(), f"{page} links to {target}, which does not exist"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    pages_of_nav = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(pages_of_nav) == len(set(pages_of_nav))
    assert {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} <= set(pages_of_nav)


def test_every_block_of_code_has_a_language() -> None:
    assert {block.language for block in ALL_BLOCKS} <= LANGUAGES, [
        (block.page, block.text) for block in ALL_BLOCKS if block.language not in LANGUAGES
    ]


def test_every_python_and_bash_block_is_run_by_a_test() -> None:
    """tests/spark/pages/test_docs_pages.py runs the blocks of RUN_PAGES; another test names each of the other pages."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    others = {block.page for block in ALL_BLOCKS if block.language in ("python", "bash")} - set(RUN_PAGES)
    assert [page for page in sorted(others) if Path(page).name not in tests] == []


def yaml_blocks() -> list[Block]:
    return [block for block in ALL_BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", yaml_blocks(), ids=lambda block: block.page)
def test_every_yaml_block_is_valid(block: Block) -> None:
    document = yaml.safe_load(block.text)
    assert isinstance(document, dict)
    if "name" not in document and "pipeline" not in document:  # a part of a file
        Rules.model_validate({key: document[key] for key in ("reject", "routes") if key in document})
        if "airflow" in document:
            Schedule.model_validate(document["airflow"])


def test_the_files_of_the_retraining_page_are_valid(tmp_path: Path) -> None:
    pipeline, retraining, *_ = (block for block in yaml_blocks() if block.page == "retraining.md")
    for folder, block in (("pipelines", pipeline), ("retrain", retraining)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "support_mail.yaml").write_text(block.text)
    assert RetrainConfig.from_yaml(tmp_path / "retrain" / "support_mail.yaml").model_name == "support_mail"


def test_json_blocks_are_valid_and_data_blocks_have_a_file_name() -> None:
    for block in ALL_BLOCKS:
        if block.language == "json":
            assert all(isinstance(json.loads(line), dict) for line in block.text.splitlines()), block
        if block.language in ("json", "csv"):
            assert block.title, block


def test_every_command_on_a_page_exists() -> None:
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


def section(page: str, heading: str) -> str:
    """The text of a chapter, up to the next."""
    return (DOCS / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]


def entries(chapter: str) -> list[str]:
    return re.findall(r"^### (.+)$", section("runbook.md", chapter), flags=re.MULTILINE)


def test_the_runbook_has_an_entry_for_every_error() -> None:
    classes = {name: member for name, member in vars(errors).items() if inspect.isclass(member)}
    family = {name for name, member in classes.items() if issubclass(member, errors.GliclassSparkError)}
    headings = entries("Errors of a command")
    assert (set(headings), len(headings)) == (family, len(family))


def test_the_runbook_has_an_entry_for_every_error_code_of_a_row() -> None:
    codes = {member.code for member in vars(results).values() if isinstance(member, TextError)}
    source = inspect.getsource(results)
    codes |= set(re.findall(r'^[A-Z_]+ = "([a-z_]+)"', source, flags=re.MULTILINE))
    codes |= set(re.findall(r'^UNREADABLE_ROW = "([a-z_]+)"', inspect.getsource(source_files), flags=re.MULTILINE))
    assert set(entries("Errors of a row")) == codes


def strings(module: Path) -> Iterator[str]:
    """The strings of a module; what an f-string formats is left out."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_that_the_runbook_quotes_is_a_message_of_the_package() -> None:
    quoted = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", section("runbook.md", "Errors of a command"))
    messages = [text.lower() for module in modules(PACKAGE) for text in strings(module)]
    for message in quoted:
        parts = [part.strip().lower() for part in message.split("...")]
        assert any(all(part in text for part in parts) for text in messages), message
    assert len(quoted) > 20


def test_every_exit_code_is_in_the_runbook() -> None:
    chapter = section("runbook.md", "Exit codes")
    codes = {member.exit_code for member in vars(errors).values() if hasattr(member, "exit_code")}
    assert {int(code) for code in re.findall(r"^\| (\d) \|", chapter, flags=re.MULTILINE)} == {0} | codes


def test_every_key_of_a_file_is_documented_where_it_is_declared() -> None:
    for _, model, _ in configuration_tables.SECTIONS:
        undocumented = set(configuration_tables.keys(model)) - set(configuration_tables.meanings(model))
        assert undocumented == set(), model


@pytest.mark.parametrize(
    ("chapter", "columns"),
    [
        ("tags", TAGS.names),
        ("feedback", FEEDBACK.names),
        ("kept, rejected, quarantined, and the routes", [DECISION_COLUMNS[0], "run_id", *DECISION_COLUMNS[1:]]),
    ],
)
def test_every_column_of_a_table_is_documented(chapter: str, columns: list[str]) -> None:
    documented = re.findall(r"^\| `(\w+)` \|", section("reference/tables.md", chapter), flags=re.MULTILINE)
    assert documented == columns


def test_the_import_table_of_the_architecture_page_is_the_tests() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section("architecture.md", "Who may import whom"), re.MULTILINE)
    table = {package: set(re.findall(r"`(\w+)`", allowed)) for package, allowed in rows}
    assert table == {package: allowed for package, allowed in MAY_IMPORT.items() if package not in EVERYWHERE}


def test_the_layout_of_the_architecture_page_has_every_package_and_no_other() -> None:
    tree = re.findall(r"^( *)(\w+)/(?: |$)", section("architecture.md", "Layout"), flags=re.MULTILINE)
    path: list[str] = []
    documented = set()
    for indent, name in tree:
        path = [*path[: len(indent) // 2], name]
        if len(path) > 1:
            documented.add("/".join(path[1:]))
    packages = {module.parent.relative_to(PACKAGE).as_posix() for module in modules(PACKAGE)} - {"."}
    assert documented == packages


def test_every_benchmark_result_is_on_the_benchmarks_page() -> None:
    page = benchmark_page.page()
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert f"({benchmark_page.RESULTS.relative_to(ROOT).as_posix()}/{file.name})" in page.replace("../", "")


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
