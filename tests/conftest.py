"""What many tests share: the command line in a process of its own, a tiny data set, and where the real data are."""

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
from PIL import Image

from segtool import cli
from segtool.core.dataset.dataset import Dataset, Record, write_dataset

# Several processes share the cores (and hand this on to those they start): threads that wait must not spin on them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No test hangs on how fast the machine is.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

Run = Callable[..., subprocess.CompletedProcess[str]]


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


Type = Callable[[str], Ended]

COLOURS = np.array([[40, 60, 80], [200, 80, 60], [70, 190, 120]], dtype=np.uint8)


@pytest.fixture
def segtool(tmp_path: Path) -> Run:
    """`segtool ARGS...` in a process of its own, in the test's folder: has returncode, stdout and stderr."""

    def run(*args: object, cwd: Path = tmp_path, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "segtool", *map(str, args)]
        return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Type]:
    """`segtool LINE` in this process, in the test's folder; the engine is loaded once for all tests."""
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("segtool").level

    def run(line: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["segtool", *shlex.split(line)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capsys.readouterr())

    yield run
    # `--quiet` would hide what later tests look for.
    logging.getLogger("segtool").setLevel(level)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of a data set: eight 32x32 images of three classes in four groups, and two test images.

    Class 0 is the background, 1 a box in every image, 2 a stripe in every second; the top row is to be ignored.
    """
    folder = tmp_path / "tiny"
    random = np.random.default_rng(0)

    def write(part: str, index: int) -> Record:
        mask = np.zeros((32, 32), np.uint8)
        top, left = random.integers(1, 16, 2)
        mask[top : top + 12, left : left + 12] = 1
        if index % 2:
            mask[:, 28:] = 2
        pixels = np.clip(COLOURS[mask] + random.normal(0, 8, (32, 32, 3)), 0, 255).astype(np.uint8)
        mask[0] = 255
        image_id = f"{part}_{index}"
        image = folder / ("images" if part == "train" else "test_images") / f"{image_id}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(image)
        if part == "test":
            return Record(image_id, image)
        truth = folder / "masks" / image.name
        truth.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(truth)
        return Record(image_id, image, truth, f"scene{index // 2}")

    train = tuple(write("train", index) for index in range(8))
    test = tuple(write("test", index) for index in range(2))
    write_dataset(folder, Dataset(folder, ("ground", "box", "stripe"), train=train, test=test))
    return folder


@pytest.fixture
def twin(tiny: Path) -> Path:
    """The folder of a data set beside `tiny`: images of one other colour, one of its classes named otherwise."""
    folder = tiny.parent / "twin"
    folder.mkdir()
    records = []
    for index in range(3):
        image, mask = folder / f"{index}.png", folder / f"{index}_mask.png"
        Image.new("RGB", (40, 30), (90 * index, 10, 200)).save(image)
        Image.new("L", (40, 30), index).save(mask)
        records.append(Record(str(index), image, mask))
    write_dataset(folder, Dataset(folder, ("box", "other", "ground"), train=tuple(records)))
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `demo`, of images of several sizes, the run `run` and its predictions `preds`."""
    # Here, as it loads torch.
    from small_runs import make_demo, make_predictions, make_run

    folder = tmp_path_factory.mktemp("made")
    make_run(make_demo(folder / "demo"), folder / "run")
    make_predictions(folder / "demo", folder / "preds", folder / "run")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data, named by SEGTOOL_DATA; without it the test is skipped."""
    folder = os.environ.get("SEGTOOL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the real data: SEGTOOL_DATA does not name a folder")
    return Path(folder).resolve()
