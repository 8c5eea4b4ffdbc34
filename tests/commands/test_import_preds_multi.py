"""`segtool import preds` for a data set of classes that overlap: what files may hold, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from overlapping import CLASSES, write_overlapping
from PIL import Image

from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.probability_maps import read_probs

IMPORT = "import preds theirs --data multi -o out"


def made(number: int) -> np.ndarray:
    return np.random.default_rng(number).random((3, 32, 32)).astype(np.float32)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    write_overlapping(tmp_path / "multi")
    (tmp_path / "theirs").mkdir()
    return tmp_path / "theirs"


def save(folder: Path, convert=lambda probs: probs) -> None:  # type: ignore[no-untyped-def]
    for number in range(2):
        np.save(folder / f"test_{number}.npy", convert(made(number)))


def check(typed: Type, line: str, expected=made, off: float = 2 / 65535) -> None:  # type: ignore[no-untyped-def]
    ended = typed(line)
    assert ended.status == 0, ended.stderr
    preds = open_predictions(Path("out"))
    assert preds.multi and preds.ids == ["test_0", "test_1"]
    for number, image_id in enumerate(preds.ids):
        probs = read_probs(preds.probs_path(image_id))
        assert np.abs(probs - expected(number)).max() <= off
        assert np.array_equal(preds.read_mask(image_id), np.round(probs * 65535) >= 32767)


def test_probabilities_need_not_add_up_to_one(theirs: Path, typed: Type) -> None:
    save(theirs)
    check(typed, IMPORT)
    assert "up to date" in typed(IMPORT).stdout


def test_axes_classes_and_depth_are_read_as_ever(theirs: Path, typed: Type) -> None:
    save(theirs, lambda probs: np.round(probs[[2, 0, 1]].transpose(1, 2, 0) * 255).astype(np.uint8))
    check(typed, f"{IMPORT} --classes nail,hand,ring", off=0.5 / 255 + 1e-5)


def test_logits_become_sigmoids_of_each_class(theirs: Path, typed: Type) -> None:
    save(theirs, lambda probs: 8 * probs - 4)
    check(typed, f"{IMPORT} --logits", lambda number: 1 / (1 + np.exp(-(8 * made(number).astype(np.float64) - 4))))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool, np.float32])
def test_planes_of_zeros_and_ones(theirs: Path, typed: Type, dtype: type) -> None:
    save(theirs, lambda probs: (probs > 0.7).astype(dtype))
    check(typed, IMPORT, lambda number: made(number) > 0.7, off=0)


@pytest.mark.parametrize(
    ("convert", "options", "said"),
    [
        (lambda probs: 3 * probs, "", "not probabilities"),
        (lambda probs: probs, "--logits", "are probabilities"),
        (lambda probs: np.where(probs > 0.9, np.nan, probs), "", "NaN"),
        (lambda probs: probs[:2], "", "there are 3 classes"),
    ],
)
def test_other_values_are_refused(theirs: Path, typed: Type, convert, options: str, said: str) -> None:  # type: ignore[no-untyped-def]
    save(theirs, convert)
    ended = typed(f"{IMPORT} {options}")
    assert ended.status in (1, 2) and said in ended.stderr


def test_an_index_png_cannot_say_that_classes_overlap(theirs: Path, typed: Type) -> None:
    for number in range(2):
        Image.new("L", (32, 32), number).save(theirs / f"test_{number}.png")
    ended = typed(IMPORT)
    assert ended.status == 2 and "test_0.png" in ended.stderr and "labels: multi" in ended.stderr
    assert len(CLASSES) == 3
