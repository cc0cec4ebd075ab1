"""The notebook does what it says: run from its first cell to its last, in an empty folder and its own kernel."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "tour.ipynb"


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("quick_java")
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert printed.count("of pipeline packages") == 2
    assert "Nothing was tagged: every document already has its scores" in printed
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert not [output.text for output in outputs if "ipywidgets" in output.get("text", "")]
    assert "\x1b" not in printed  # no colours, and no frames of a progress bar, one below the other
    assert (tmp_path / "tour" / "report.html").is_file()
