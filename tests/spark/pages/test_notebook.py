"""Notebook: all its cells run in order, in an empty folder and a kernel of its own."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from quick_spark import submit_args

pytestmark = pytest.mark.long

NOTEBOOK = Path(__file__).parents[3] / "notebooks" / "tour.ipynb"


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("quick_java")
def test_all_cells_of_the_notebook_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", submit_args())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pages = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    records = [page for page in pages if "of pipeline packages" in page]
    tagged = [re.search(r"<td[^>]*>tagged</td><td[^>]*>([\d,]+)</td>", page) for page in records]
    first, second = (match[1] for match in tagged if match is not None)
    assert int(first) > 100
    assert second == "0"
    assert "<svg" in records[0]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    printed = "".join(output.text for output in outputs if "text" in output)
    assert "ipywidgets" not in printed
    assert "\x1b" not in printed  # no colours, and no repeated frames of a progress bar
    assert (tmp_path / "tour" / "report.html").is_file()
