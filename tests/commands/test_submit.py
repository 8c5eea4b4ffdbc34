"""`segtool submit`: the file of the trash competition, complete or not at all."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from segtool.commands.submit import run
from segtool.core import images
from segtool.core.dataset.masks import mask_path
from segtool.core.files import write_json
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.submit import SubmitSettings
from segtool.values import Size

IDS = ("batch_01/0002.jpg", "0001.jpg")


@pytest.fixture
def preds(tmp_path: Path) -> Path:
    """A finished prediction folder of two images of 12 classes; the index is not in alphabetical order."""
    folder, random = tmp_path / "preds", np.random.default_rng(0)
    sizes = [(64, 64), (40, 56)]
    for image_id, size in zip(IDS, sizes, strict=True):
        images.write_mask(mask_path(folder, image_id), random.integers(0, 12, size, np.uint8))
    rows = [(image_id, *size, 1) for image_id, size in zip(IDS, sizes, strict=True)]
    write_csv(folder / "index.csv", ("image_id", "height", "width", "oof"), rows)
    write_json(folder / "meta.json", {"classes": [f"c{n}" for n in range(12)], "subset": "test", "members": []})
    write_json(folder / "done.json", {"command": "predict"})
    return folder


def submit(preds: Path, out: Path, size: Size | None = None, overwrite: bool = False) -> str:
    output = OutputSettings(out=out, quiet=True, overwrite=overwrite)
    return run(SubmitSettings(output=output, preds=preds, size=size)).text()


def lines(path: Path) -> list[list[str]]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_own_size(preds: Path, tmp_path: Path) -> None:
    text = submit(preds, tmp_path / "out.csv")
    header, *rows = lines(tmp_path / "out.csv")
    assert header == ["image_id", "PredictionString"]
    assert [row[0] for row in rows] == list(IDS)  # the order of the index
    for image_id, string in rows:
        assert string == " ".join(map(str, images.read_indices(mask_path(preds, image_id)).ravel().tolist()))
    assert text.startswith("2 images of the subset test written")


def test_resized_by_nearest_neighbour(preds: Path, tmp_path: Path) -> None:
    submit(preds, tmp_path / "out.csv", Size(32, 48))
    for image_id, string in lines(tmp_path / "out.csv")[1:]:
        mask = images.read_indices(mask_path(preds, image_id))
        expected = cv2.resize(mask, (48, 32), interpolation=cv2.INTER_NEAREST)
        assert (np.array(string.split(" "), int).reshape(32, 48) == expected).all()


def test_same_command_again(preds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    submit(preds, out, Size(8, 8))
    content = out.read_bytes()
    assert "up to date" in submit(preds, out, Size(8, 8))
    with pytest.raises(UsageError, match="size"):
        submit(preds, out, Size(16, 16))
    assert out.read_bytes() == content
    submit(preds, out, Size(16, 16), overwrite=True)
    assert len(lines(out)[1][1].split(" ")) == 256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.csv.done.json", "preds"]


def test_half_written_file_is_made_again(preds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    submit(preds, out)
    content = out.read_bytes()
    out.write_bytes(content[:100])
    submit(preds, out)
    assert out.read_bytes() == content


def test_file_of_somebody_else(preds: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(UsageError, match="no stamp"):
        submit(preds, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"


def test_broken_mask_leaves_no_file(preds: Path, tmp_path: Path) -> None:
    mask_path(preds, IDS[1]).write_bytes(b"no PNG")
    with pytest.raises(SegtoolError, match=r"0001\.jpg\.png"):
        submit(preds, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_unfinished_predictions(preds: Path, tmp_path: Path) -> None:
    (preds / "done.json").rename(preds / "begun.json")
    with pytest.raises(SegtoolError, match="not finished: run its `segtool predict` again"):
        submit(preds, tmp_path / "out.csv")


def test_command_line(segtool: Callable, preds: Path, tmp_path: Path) -> None:
    done = segtool("submit", preds, "-o", "out.csv", "--size", "256x256")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(len(row[1].split(" ")) == 65536 for row in lines(tmp_path / "out.csv")[1:])
    for bad in (["--size", "0x5"], ["--format", "rlé"], []):
        refused = segtool("submit", preds, "-o", tmp_path if not bad else "x.csv", *bad)
        assert refused.returncode == 2, bad
        assert refused.stderr.startswith("error: ")
