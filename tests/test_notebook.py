"""The notebook of the docs runs, cell by cell, in a kernel of its own; its stored outputs come from a run of all steps."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook needs the docs' packages: pip install -e '.[docs]'")
NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "first_asset.ipynb"


def text_of(cell):
    return " ".join(str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in cell.outputs)


def test_the_notebook_runs():
    client = pytest.importorskip("nbclient").NotebookClient
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    assert "steps = 300" in parameters.source
    parameters.source = parameters.source.replace("steps = 300", "steps = 8")
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    client(notebook, timeout=300, kernel_name="python3").execute()  # raises with the cell and its traceback
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [output.data["image/png"] for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    assert "splats.ply" in text_of(code[-2])
    assert text_of(code[-1]).strip().endswith("True)")


def test_its_outputs_are_stored():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code" and not cell.source.startswith("import fsd_gs"))
