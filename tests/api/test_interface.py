"""`import segtool`: light, complete, typed, and documented by examples that run."""

import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import segtool

PAGE = Path(__file__).parents[2] / "docs/pages/python.md"
MODULES = ("datasets", "models", "predictions", "scores")


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys; before = set(sys.modules); import segtool; dir(segtool); segtool.SegtoolError;"
    code += "print(sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(eval(ended.stdout))
    assert "segtool" in loaded
    assert loaded <= {"segtool", *sys.stdlib_module_names}


def test_a_wrong_run_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    code = "import sys, segtool\ntry: segtool.load('gone')\nexcept segtool.SegtoolError as error: print(error)\n"
    code += "print('torch' in sys.modules, 'pandas' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
    )
    assert ended.stdout.splitlines()[0] == "run folder gone does not exist"
    assert ended.stdout.splitlines()[1] == "False False"


@pytest.mark.parametrize("name", segtool.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    value = getattr(segtool, name)
    assert inspect.getdoc(value)
    assert name in dir(segtool)
    for member, content in vars(value).items() if inspect.isclass(value) else ():
        if not member.startswith("_") and (inspect.isfunction(content) or isinstance(content, property)):
            assert content.__doc__, member


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'segtool' has no attribute 'train'"):
        _ = segtool.train


def test_types_are_declared() -> None:
    assert files("segtool").joinpath("py.typed").is_file()
    for name in segtool.__all__:
        value = getattr(segtool, name)
        if inspect.isfunction(value):
            assert "return" in value.__annotations__


def test_what_the_readme_shows_runs(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("demo", "run", "preds"):
        (tmp_path / name).symlink_to(made / name)
    Image.new("RGB", (40, 30)).save("image.jpg")
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["prediction"].mask.shape == (30, 40)
    assert 0 <= names["scores"].miou <= 1


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_documentation_run(module: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    finder = doctest.DocTestFinder()
    code = importlib.import_module(f"segtool.api.{module}")
    examples = [test for test in finder.find(code, globs={"segtool": segtool, "np": np}) if test.examples]
    assert examples
    for test in examples:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert os.getcwd() == str(made)  # noqa: PTH109
