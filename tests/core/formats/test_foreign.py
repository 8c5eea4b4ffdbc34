"""Probabilities from files of other code bases: scales, logits, sizes, votes, and errors."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from segtool.core import images
from segtool.core.formats.foreign import MaskFile, open_files, resize_bands, to_probs
from segtool.core.predictions import probability_maps
from segtool.errors import SegtoolError, UsageError
from segtool.settings.import_preds import FormSettings
from segtool.values import Size

Floats = npt.NDArray[np.float32]


@pytest.fixture
def probs() -> Floats:
    """Three classes, (3, 8, 9)."""
    return np.random.default_rng(0).dirichlet(np.ones(3), (8, 9)).transpose(2, 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("store", "off"),
    [
        (lambda p: p, 1e-6),
        (lambda p: p.astype(np.float64), 1e-6),
        (lambda p: p.astype(np.float16), 1e-3),
        (lambda p: np.rint(p * 255).astype(np.uint8), 1 / 255),
        (lambda p: np.floor(p * 255).astype(np.uint8), 2 / 255),
        (lambda p: np.rint(p * 65535).astype(np.uint16), 1 / 65535),
    ],
)
def test_every_type_gives_the_same_probabilities(probs: Floats, store: Callable[[Floats], Floats], off: float) -> None:
    found = to_probs(store(probs), "a.npy")
    assert found.dtype == np.float32
    assert np.abs(found - probs).max() <= off
    assert np.abs(found.sum(0) - 1).max() < 1e-6
    assert found.min() >= 0


def test_the_foreground_alone() -> None:
    given = np.array([[[0, 0.25, 1]]], np.float16)
    assert to_probs(given, "a").tolist() == [[[1, 0.75, 0]], [[0, 0.25, 1]]]
    assert to_probs(np.array([[[0, 51, 255]]], np.uint8), "a")[1, 0].tolist() == pytest.approx([0, 0.2, 1])
    assert to_probs(np.array([[[False, True]]]), "a")[1, 0].tolist() == [0, 1]


def test_logits_are_softmaxed_and_the_foregrounds_squashed(probs: Floats) -> None:
    shift = np.float32(700)  # whatever is added to all classes
    assert np.abs(to_probs(np.log(probs) + shift, "a", logits=True) - probs).max() < 1e-4
    assert np.abs(to_probs(np.log(probs), "a", logits=True) - probs).max() < 1e-6
    alone = to_probs(np.array([[[-1000, -2, 0, 3, 1000]]], np.float32), "a", logits=True)
    assert alone[1, 0].tolist() == pytest.approx([0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-3)), 1])
    masked = np.array([[[-np.inf]], [[0]], [[0]]], np.float32)
    assert to_probs(masked, "a", logits=True)[:, 0, 0].tolist() == [0, 0.5, 0.5]


def changed(index: tuple[int, ...], value: float) -> Callable[[Floats], Floats]:
    def change(values: Floats) -> Floats:
        values = values.copy()
        values[index] = value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "logits", "said"),
    [
        (changed((0, 3, 4), np.nan), False, r"p\.npy contains NaN"),
        (changed((0, 3, 4), np.inf), False, r"p\.npy contains NaN or infinity"),
        (changed((0, 3, 4), np.nan), True, r"p\.npy contains NaN"),
        (lambda p: np.full_like(p, -np.inf), True, r"p\.npy contains NaN"),
        (
            lambda p: 20 * p - 5,
            False,
            r"values from -\S+ to 1\S+, which are not probabilities; if they are logits, use --logits",
        ),
        (lambda p: 255 * p, False, "which are not probabilities"),
        (changed((0, 3, 4), 0.97), False, r"p\.npy: the classes of a pixel add up to between 1 and 1\.\d+, not to 1"),
        (lambda p: p / 2, False, r"between 0\.5 and 0\.5, not to 1"),
        (lambda p: (p > 0.5).astype(np.uint8), False, r"after division by 255, the largest uint8"),
        (lambda p: p, True, "--logits: p.npy contains probabilities"),
        (lambda p: np.rint(p * 255).astype(np.uint8), True, "--logits: p.npy contains integers"),
    ],
)
def test_values_that_are_not_probabilities_are_named(
    probs: Floats, change: Callable[[Floats], Floats], logits: bool, said: str
) -> None:
    with pytest.raises(SegtoolError, match=said):
        to_probs(change(probs), "p.npy", logits=logits)


@pytest.mark.parametrize("size", [Size(8, 9), Size(16, 27), Size(5, 4), Size(13, 9), Size(3, 40), Size(1, 1)])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_resizing_band_by_band_is_bilinear(
    probs: Floats, size: Size, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probability_maps, "BAND_BYTES", rows * 4 * 3 * max(9, size.width))
    bands = list(resize_bands(lambda top, bottom: probs[:, top:bottom], Size(8, 9), size, 3))
    expected = cv2.resize(probs.transpose(1, 2, 0), (size.width, size.height), interpolation=cv2.INTER_LINEAR)
    whole = np.concatenate(bands, axis=1)
    assert np.abs(whole - expected.transpose(2, 0, 1)).max() < 1e-5
    assert max(band.shape[1] for band in bands) <= rows


def test_a_mask_is_a_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (8, 9)).astype(np.uint8)
    images.write_mask(tmp_path / "m.png", mask)
    monkeypatch.setattr(probability_maps, "BAND_BYTES", 4 * 3 * 9 * 3)
    bands = list(MaskFile(tmp_path / "m.png", Size(8, 9), 3).bands(Size(8, 9)))
    assert [band.shape for band in bands] == [(3, 3, 9), (3, 3, 9), (3, 2, 9)]
    votes = np.concatenate(bands, axis=1)
    assert np.array_equal(votes.argmax(0), mask)
    assert np.array_equal(np.unique(votes), [0, 1])
    larger = np.concatenate(list(MaskFile(tmp_path / "m.png", Size(8, 9), 3).bands(Size(16, 9))), axis=1)
    assert np.array_equal(larger.argmax(0), images.resize_mask(mask, Size(16, 9)))
    with pytest.raises(SegtoolError, match=r"m\.png holds the value 2"):
        list(MaskFile(tmp_path / "m.png", Size(8, 9), 2).bands(Size(8, 9)))


def test_a_binary_mask_may_be_0_and_255(tmp_path: Path) -> None:
    mask = np.array([[0, 255], [255, 255]], np.uint8)
    images.write_mask(tmp_path / "m.png", mask)
    (votes,) = MaskFile(tmp_path / "m.png", Size(2, 2), 2).bands(Size(2, 2))
    assert votes[1].tolist() == [[0, 1], [1, 1]]
    images.write_mask(tmp_path / "m.png", np.array([[0, 255], [255, 1]], np.uint8))
    with pytest.raises(SegtoolError, match=r"m\.png holds the value 255"):
        list(MaskFile(tmp_path / "m.png", Size(2, 2), 2).bands(Size(2, 2)))


def test_class_ids_are_not_taken_for_tiny_probabilities(tmp_path: Path) -> None:
    """0 and 1 in uint8 would be probabilities of 0 and 1/255: all background, and nobody would notice."""
    files = {name: tmp_path / f"{name}.npy" for name in "ab"}
    for path in files.values():
        np.save(path, np.eye(4, dtype=np.uint8))
    with pytest.raises(SegtoolError, match=r"a\.npy: no value is above 1"):
        open_files(files, {}, 2, FormSettings())
    np.save(files["b"], np.eye(4, dtype=np.uint8) * 200)
    assert set(open_files(files, {}, 2, FormSettings())) == {"a", "b"}


def test_another_size_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 5), np.float32))
    with pytest.raises(SegtoolError, match=r"a\.npy is 4x5 \(HxW\), but image 'x' is 8x10; --resize"):
        open_files({"x": tmp_path / "a.npy"}, {"x": Size(8, 10)}, 3, FormSettings())
    open_files({"x": tmp_path / "a.npy"}, {"x": Size(8, 10)}, 3, FormSettings(resize=True))


def test_logits_of_integers_are_a_mistake_of_the_command() -> None:
    with pytest.raises(UsageError):
        to_probs(np.zeros((3, 2, 2), np.uint8), "a", logits=True)
