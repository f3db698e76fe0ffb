"""The notebook and the script of the first steps: the same cells, which run to the end, and what the notebook shows.

`python tests/test_examples.py` writes the notebook anew, with its outputs.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from bench.demo.dataset import write_demo

FOLDER = Path(__file__).parents[1] / "bench/demo/examples"
SCRIPT, NOTEBOOK = FOLDER / "first_steps.py", FOLDER / "first_steps.ipynb"
BYTES = 300_000
"""Largest notebook that code hosts show."""


def cells_of(script: str) -> list[tuple[str, str]]:
    """(`markdown` or `code`, text) of each cell of a script, which begins with `# %%`."""
    cells = []
    for kind, text in re.findall(r"^# %%( \[markdown\])?\n(.*?)(?=^# %%|\Z)", script, flags=re.DOTALL | re.MULTILINE):
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE) if kind else text
        cells.append(("markdown" if kind else "code", text.strip()))
    return cells


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook of the script, run in a folder by a kernel of its own."""
    made = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [made[kind](text, id=f"cell-{at}") for at, (kind, text) in enumerate(cells_of(SCRIPT.read_text()))]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    client = NotebookClient(
        notebook, timeout=900, resources={"metadata": {"path": str(folder)}}, record_timing=False, coalesce_streams=True
    )
    return client.execute()


def outputs_of(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """All outputs of a notebook's cells."""
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def test_the_notebook_has_the_cells_of_the_script_and_its_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)

    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == cells_of(SCRIPT.read_text())
    assert NOTEBOOK.stat().st_size < BYTES
    outputs = outputs_of(notebook)
    assert sum("text/html" in output.get("data", {}) for output in outputs) >= 5
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"]
    assert "/tmp/" not in NOTEBOOK.read_text()


@pytest.mark.slow
def test_the_notebook_runs_without_a_warning(tmp_path: Path) -> None:
    outputs = outputs_of(executed(tmp_path))

    assert not [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"]
    assert "slow-backbone" in outputs[-1].text
    (page,) = (tmp_path / "runs/first-steps/leaderboards").glob("*/superdiag.md")
    assert "method slow-backbone (notebook, SHA-256" in page.read_text()


@pytest.mark.slow
def test_the_script_runs(tmp_path: Path) -> None:
    """The data set is there before the script runs, and has 500 records where the script would make 1,000."""
    write_demo(tmp_path / "data/first-steps", 500, seed=0, rates=(100,))
    done = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "All training records" in done.stdout
    assert "method slow-backbone (first_steps.py, SHA-256" in done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        nbformat.write(executed(Path(scratch)), NOTEBOOK)
