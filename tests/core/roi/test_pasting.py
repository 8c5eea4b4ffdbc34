"""Pasted crops: the mean where they overlap, the base elsewhere, in bands that agree with the whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from segtool.core.predictions import probability_maps
from segtool.core.predictions.folder import Predictions
from segtool.core.predictions.probability_maps import ProbReader, write_probs
from segtool.core.roi.crops import Crop, CroppedImage
from segtool.core.roi.pasting import complete_images, fits_of, pasted_bands, pasted_out_of_fold
from segtool.core.scoring.fits import THRESHOLDS, WEIGHTS, Fit
from segtool.errors import SegtoolError
from segtool.values import Size

Floats = npt.NDArray[np.float32]


def softmax(seed: int, height: int, width: int) -> Floats:
    random = np.random.default_rng(seed)
    return random.dirichlet(np.ones(3), (height, width)).transpose(2, 0, 1).astype(np.float32)


def crop(name: str, left: int, top: int, width: int, height: int) -> Crop:
    return Crop(name, left, top, width, height, "x", 1.0)


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("with_base", [True, False])
def test_bands_are_the_direct_formula(
    tmp_path: Path, rows: int, with_base: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Size(20, 30)
    crops = (crop("a", 0, 0, 10, 8), crop("b", 5, 3, 25, 9), crop("c", 5, 5, 3, 2), crop("d", 29, 19, 1, 1))
    own = {c.crop_id: softmax(n, *c.size) for n, c in enumerate(crops)}
    for name, probs in own.items():
        write_probs(tmp_path / f"{name}.b2nd", probs)
    base = softmax(9, *size)
    write_probs(tmp_path / "base.b2nd", base)

    expected = base.copy() if with_base else np.zeros_like(base)
    if not with_base:
        expected[0] = 1
    for y in range(size.height):
        for x in range(size.width):
            over = [
                own[c.crop_id][:, y - c.top, x - c.left]
                for c in crops
                if c.top <= y < c.top + c.height and c.left <= x < c.left + c.width
            ]
            if over:
                expected[:, y, x] = np.mean(over, axis=0)

    opened: list[str] = []

    def read(one: Crop) -> ProbReader:
        opened.append(one.crop_id)
        return ProbReader(tmp_path / f"{one.crop_id}.b2nd")

    monkeypatch.setattr(probability_maps, "BAND_BYTES", rows * 4 * 3 * size.width)
    under = ProbReader(tmp_path / "base.b2nd") if with_base else None
    bands = list(pasted_bands(CroppedImage("i", size, crops, True), 3, read, under))
    assert max(band.shape[1] for band in bands) == min(rows, size.height)
    assert np.abs(np.concatenate(bands, axis=1) - expected).max() < 3e-5
    assert sorted(opened) == ["a", "b", "c", "d"]  # each once, and when its turn comes


def folder(sizes: Mapping[str, Size], subset: str = "test", oof: Sequence[str] = ()) -> Predictions:
    return Predictions(Path("p"), ("x", "y", "z"), subset, sizes, frozenset(oof))


IMAGES = [
    CroppedImage("one", Size(9, 9), (crop("one_0", 0, 0, 2, 3), crop("one_1", 1, 1, 4, 4)), True),
    CroppedImage("bare", Size(9, 9), (), True),
    CroppedImage("two", Size(9, 9), (crop("two_0", 0, 0, 5, 5),), False),
]
CROPS = {"one_0": Size(3, 2), "one_1": Size(4, 4), "two_0": Size(5, 5)}
FULL = {name: Size(9, 9) for name in ("one", "bare", "two")}


def names(images: Sequence[CroppedImage]) -> list[str]:
    return [image.image_id for image in images]


def test_which_images_are_complete() -> None:
    assert names(complete_images(IMAGES, folder(CROPS), None)) == ["one", "bare", "two"]
    fold = {name: CROPS[name] for name in ("one_0", "one_1")}
    assert names(complete_images(IMAGES, folder(fold, "valid"), None)) == ["one"]
    assert names(complete_images(IMAGES, folder(fold, "valid"), folder(FULL, "valid"))) == ["one", "bare"]
    only = {"one": Size(9, 9)}
    assert names(complete_images(IMAGES, folder(fold, "valid"), folder(only, "valid"))) == ["one"]


@pytest.mark.parametrize(
    ("sizes", "base", "said"),
    [
        ({"one_0": Size(3, 2)}, None, r"lacks 'one_1' \(1 of the 2 crops of 'one'\)"),
        ({**CROPS, "three_0": Size(1, 1)}, None, "'three_0' is not one of the crops"),
        ({**CROPS, "one_0": Size(2, 3)}, None, r"'one_0' is 2x3 \(HxW\), but its crop is 3x2"),
        (CROPS, {"one": Size(9, 9)}, r"image 'two' is 9x9 \(HxW\), but missing in p"),
        (CROPS, {**FULL, "one": Size(8, 9)}, r"image 'one' is 9x9 \(HxW\), but 8x9 in p"),
    ],
)
def test_what_does_not_fit_is_named(sizes: dict[str, Size], base: dict[str, Size] | None, said: str) -> None:
    with pytest.raises(SegtoolError, match=said):
        complete_images(IMAGES, folder(sizes), folder(base) if base else None)


def test_out_of_fold_is_what_nobody_has_seen() -> None:
    assert pasted_out_of_fold(IMAGES, folder(CROPS, oof=list(CROPS)), None) == {"one", "bare"}
    assert pasted_out_of_fold(IMAGES, folder(CROPS, oof=["one_0", "two_0"]), None) == {"bare"}
    assert pasted_out_of_fold(IMAGES, folder(CROPS, oof=list(CROPS)), folder(FULL, oof=["one"])) == {"one"}


def test_fits_of_crops_become_those_of_their_images() -> None:
    """Weights are in the probabilities that are pasted, thresholds are not."""
    size = Size(10, 10)
    images = [
        CroppedImage(name, size, (crop(f"{name}_0", 0, 0, 5, 5), crop(f"{name}_1", 5, 5, 5, 5)), True) for name in "ab"
    ]
    of_crops = Fit(WEIGHTS, "w", frozenset({"a_1", "elsewhere"}), nested=0.5)
    of_images, of_masks = Fit(WEIGHTS, "v", frozenset("ab")), Fit(THRESHOLDS, "t", frozenset("ab"))
    sizes, base_sizes = dict.fromkeys(["a_0", "a_1"], Size(5, 5)), dict.fromkeys("ab", size)
    preds = Predictions(Path("p"), ("x",), "oof", sizes, frozenset(sizes), fits=(of_crops, of_masks))
    base = Predictions(Path("b"), ("x",), "oof", base_sizes, frozenset("ab"), fits=(of_masks, of_images))
    assert fits_of(images, preds, base) == [Fit(WEIGHTS, "w", frozenset("a"), nested=0.5), of_images]
    assert fits_of(images, preds, None) == [Fit(WEIGHTS, "w", frozenset("a"), nested=0.5)]
