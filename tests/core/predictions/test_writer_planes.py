"""Prediction folders of classes that overlap: what bands become, and what a resumed command takes for done."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segtool.core.dataset.masks import mask_path
from segtool.core.files import write_json
from segtool.core.planes import Planes, read_notes, read_planes, write_planes
from segtool.core.predictions.folder import open_predictions, probs_path
from segtool.core.predictions.gate import gate_planes
from segtool.core.predictions.probability_maps import read_probs
from segtool.core.predictions.writer import PredictionWriter, is_whole, output_files, write_index
from segtool.errors import SegtoolError
from segtool.values import Size

SIZE = Size(300, 500)
NAMES = ("hand", "ring", "nail")


def maps() -> np.ndarray:
    return np.random.default_rng(0).random((3, *SIZE), np.float32)


def write(folder: Path, step: int, **options: object) -> Path:
    probs = maps()
    presence = np.float32([0.9, 0.1, 0.8])
    with PredictionWriter(folder, keep_probs=True, palette=None, planes=NAMES, **options) as writer:  # type: ignore[arg-type]
        for top in range(0, SIZE.height, step):
            last = top + step >= SIZE.height
            writer.write("a/b", SIZE, top, probs[:, top : top + step], presence if last else None)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, 300)


def whole(folder: Path, keep_probs: bool = True, size: Size = SIZE, names: tuple[str, ...] = NAMES) -> bool:
    return is_whole(folder, "a/b", size, len(names), keep_probs=keep_probs, planes=names)


def test_bands_make_the_files_of_the_whole(tmp_path: Path) -> None:
    files = [
        [path(write(tmp_path / str(step), step), "a/b").read_bytes() for path in (json_path, probs_path)]
        for step in (300, 7)
    ]
    assert files[0] == files[1]
    stored = read_probs(probs_path(tmp_path / "7", "a/b"))
    assert np.abs(stored - maps()).max() < 1 / 65535
    planes = read_planes(json_path(tmp_path / "7", "a/b"), NAMES).expand()
    assert np.array_equal(planes, (np.round(maps() * 65535) >= 32767).astype(np.uint8))


def json_path(folder: Path, image_id: str) -> Path:
    return mask_path(folder, image_id, "multi")


def test_what_was_written_is_whole(folder: Path) -> None:
    assert whole(folder) and whole(folder, keep_probs=False)
    assert not whole(folder, size=Size(500, 300))
    assert not whole(folder, names=(*NAMES, "more"))
    assert not whole(folder, names=("hand", "ring", "toe"))
    assert not is_whole(folder, "a/b", SIZE, 3, keep_probs=True), "an index PNG is something else"
    probs_path(folder, "a/b").unlink()
    assert not whole(folder) and whole(folder, keep_probs=False)


@pytest.mark.parametrize("which", [json_path, probs_path])
def test_truncated_files_are_not_whole(folder: Path, which: Callable[[Path, str], Path]) -> None:
    path = which(folder, "a/b")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not whole(folder)


def test_pages_a_power_cut_left_empty_are_found_though_nothing_adds_up_to_one(folder: Path) -> None:
    path = probs_path(folder, "a/b")
    third = path.stat().st_size // 3
    with path.open("r+b") as file:
        file.seek(third)
        file.write(bytes(third))
    assert not whole(folder)


def test_a_prediction_knows_every_class_at_every_pixel(folder: Path) -> None:
    planes = np.zeros((3, *SIZE), np.uint8)
    planes[0, 0, 0] = 255
    write_planes(json_path(folder, "a/b"), Planes.of(planes), NAMES)
    with pytest.raises(SegtoolError, match="'hand' uncertain"):
        index(folder).read_mask("a/b")
    planes[:, 0, 0], planes[2] = 255, 255
    write_planes(json_path(folder, "a/b"), Planes.of(planes), NAMES)
    with pytest.raises(SegtoolError, match="'nail' unknown"):
        index(folder).read_mask("a/b")
    assert not whole(folder, keep_probs=False)


def index(folder: Path):  # type: ignore[no-untyped-def]
    write_index(folder, {"a/b": SIZE}, (), classes=NAMES, subset="test", members=[], labels="multi")
    write_json(folder / "done.json", {"command": "predict"})
    return open_predictions(folder)


def test_the_folder_says_its_labels_and_what_the_head_said(folder: Path) -> None:
    assert read_notes(json_path(folder, "a/b"))["presence"] == "0.900000 0.100000 0.800000"
    preds = index(folder)
    assert preds.multi and preds.planes == NAMES
    assert json.loads((folder / "meta.json").read_text())["labels"] == "multi"
    assert (folder / "index.csv").read_text().splitlines()[1] == "a/b,300,500,0,0.900000,0.100000,0.800000"
    assert all(path.exists() for path in output_files(folder, ["a/b"], keep_probs=True, labels="multi"))
    mask = preds.read_mask("a/b")
    assert mask.shape == (3, *SIZE) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}


@pytest.mark.parametrize("step", [300, 64])
def test_the_gate_takes_a_class_out_and_leaves_the_others(tmp_path: Path, step: int) -> None:
    stored = read_probs(probs_path(write(tmp_path, step, gate_below=0.5), "a/b"))
    assert not stored[1].any()
    assert np.abs(stored[[0, 2]] - maps()[[0, 2]]).max() < 2 / 65535
    assert not list(tmp_path.glob("**/.tmp*"))
    probs = maps()
    assert gate_planes(probs, np.float32([0.5, 0.6, 0.7]), 0.5) is probs
