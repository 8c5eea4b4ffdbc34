"""The notebook of the examples runs from its first cell to its last."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from conftest import Type

nbformat = pytest.importorskip("nbformat", reason="the package nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="the package nbclient is not installed")
pytest.importorskip("ipykernel", reason="the package ipykernel is not installed")
pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")

# Less of what takes time, and teaches this test nothing.
QUICK = {"--train 60": "--train 16", "--epochs 8": "--epochs 1"}
NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook" / "segtool.ipynb"


def test_it_is_committed_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)


def test_every_cell_runs(typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for long, short in QUICK.items():
        assert sum(long in cell.source for cell in code) == 1
        for cell in code:
            cell.source = cell.source.replace(long, short)
    # Its commands first, in this process, where PyTorch is loaded: in the notebook they are then up to date.
    text = "\n".join(cell.source for cell in code)
    commands = re.findall(r"^!segtool ((?:.*\\\n)*.*)$", text, flags=re.MULTILINE)
    assert [line.split()[0] for line in commands] == ["demo", "train", "predict", "export"]
    for line in commands:
        ended = typed(line.replace("\\\n", " "))
        assert ended.status == 0, ended.stderr
    # The notebook calls this segtool.
    script = tmp_path / "bin" / "segtool"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m segtool "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    run = (tmp_path / "run" / "best.pt").stat().st_mtime_ns
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert (tmp_path / "run" / "best.pt").stat().st_mtime_ns == run
    outputs = [output for cell in code for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "error" not in text
    assert re.findall(r"^Score\(miou=0\.[0-9]+, dice=0\.[0-9]+, [0-9]+ images\)$", text, flags=re.MULTILINE)
    assert float(re.findall(r"largest difference: ([0-9.e-]+)", text)[0]) < 1e-3
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
