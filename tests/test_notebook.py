"""The notebook for a free GPU, executed with tiny nets on the CPU."""

from __future__ import annotations

import base64
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

import nfbench

NOTEBOOK = Path(nfbench.__file__).parents[1] / "notebooks" / "nfbench_colab.ipynb"
pytestmark = pytest.mark.skipif(not NOTEBOOK.exists(), reason="this is no checkout")


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def test_it_is_short_holds_no_output_and_says_that_its_gpu_cells_have_not_been_run() -> None:
    assert len(cells()) <= 12
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells())
    # each cell of code has its sentence above it
    assert [cell["cell_type"] for cell in cells()] == ["markdown", "code"] * (len(cells()) // 2)
    assert "We have not run its GPU cells ourselves" in "".join(cells()[0]["source"])


def test_it_runs_and_ends_with_figures_and_a_zip_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("NFBENCH_NOTEBOOK_TINY", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert "tiny-nfnet-s" in text and "bn-tiny-nfnet-s" in text
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    with zipfile.ZipFile("nfbench-results.zip") as archive:
        kept = [name for name in archive.namelist() if name.endswith(".jsonl")]
    assert {"compare", "step-time"} <= {part for name in kept for part in name.split("/")}
