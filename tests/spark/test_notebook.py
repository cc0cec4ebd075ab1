"""Notebook: all its cells run in order, in an empty folder and a kernel of its own."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.long

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("quick_java")
def test_all_cells_of_the_notebook_run(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert printed.count("of pipeline packages") == 2
    assert "Nothing was tagged: every document already has its scores" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert not [output.text for output in outputs if "ipywidgets" in output.get("text", "")]
    assert "\x1b" not in printed  # no colours, and no repeated frames of a progress bar
    assert (tmp_path / "tour" / "report.html").is_file()
