"""The range, mean and deviation of training images, by hand, and what becomes of pixel values."""

import logging
from pathlib import Path

import numpy as np
import pytest

from segtool.core.dataset import intensity
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.intensity import Intensity, measure_intensity, of_8_bits
from segtool.core.reporting.progress import silent
from segtool.errors import SegtoolError

RNG = np.random.default_rng(0)


def dataset(folder: Path, images: list[np.ndarray], dtype: str = "uint16", nodata: float | None = None) -> Dataset:
    records = []
    for number, pixels in enumerate(images):
        np.save(folder / f"{number}.npy", pixels)
        records.append(Record(str(number), folder / f"{number}.npy"))
    channels = images[0].shape[2]
    return Dataset(folder, ("a", "b"), channels=channels, train=tuple(records), dtype=dtype, nodata=nodata)  # type: ignore[arg-type]


def measured(data: Dataset, kind: str = "standard") -> Intensity:
    return measure_intensity(data, data.train, kind, silent)


def test_standard_by_hand(tmp_path: Path) -> None:
    first = np.array([[[100, 0], [300, 10]]], np.uint16).repeat(3, axis=0)
    second = np.array([[[500, 0], [1100, 30]]], np.uint16).repeat(3, axis=0)
    found = measured(dataset(tmp_path, [first, second]))
    # Channel 1: 100, 300, 500 and 1100 as often: mean 500, variance (400² + 200² + 0 + 600²) / 4 = 140000.
    assert found.low == (100, 0)
    assert found.high == (1100, 30)
    assert found.mean == pytest.approx((0.4, 1 / 3))
    assert found.std == pytest.approx((np.sqrt(140000) / 1000, np.sqrt((100 + 0 + 100 + 400) / 4) / 30))
    unit = found.unit(first)
    assert unit.dtype == np.float32
    assert unit[0].tolist() == [pytest.approx([0.0, 0.0]), pytest.approx([0.2, 1 / 3])]
    # What is beyond the training images' range stays beyond.
    assert found.unit(np.array([[[2100, 60]]], np.uint16)).ravel().tolist() == [2, 2]
    assert found.fill == found.mean


def test_percentile_cuts_both_tails_off(tmp_path: Path) -> None:
    pixels = np.arange(1000, dtype=np.float32).reshape(25, 40, 1)
    pixels[0, 0], pixels[-1, -1] = -1e6, 1e6
    found = measured(dataset(tmp_path, [pixels], "float32"), "percentile")
    low, high = np.percentile(pixels, (0.5, 99.5))
    clipped = (pixels.clip(low, high) - low) / (high - low)
    assert (found.low, found.high) == (pytest.approx((low,)), pytest.approx((high,)))
    assert (found.mean, found.std) == (
        pytest.approx((clipped.mean(),), rel=1e-5),
        pytest.approx((clipped.std(),), rel=1e-5),
    )
    unit = found.unit(pixels)
    assert (unit.min(), unit.max()) == (0, 1)
    assert np.allclose(unit, clipped, atol=1e-6)


def test_heavy_tails_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = RNG.normal(0, 1, (50, 50, 1)).astype(np.float32)
    with caplog.at_level(logging.WARNING):
        measured(dataset(tmp_path, [pixels], "float32"))
        assert not caplog.records
        pixels[0, 0] = 1e4
        measured(dataset(tmp_path, [pixels], "float32"))
    assert "--intensity percentile" in caplog.text


def test_the_merged_moments_are_those_of_all_pixels(tmp_path: Path) -> None:
    images = [RNG.normal(number, 5, (5 + number, 7, 3)).astype(np.float32) + 30000 for number in range(4)]
    found = measured(dataset(tmp_path, images, "float32"))
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64)
    width = pixels.max(0) - pixels.min(0)
    assert found.mean == pytest.approx(((pixels.mean(0) - pixels.min(0)) / width).tolist(), rel=1e-6)
    assert found.std == pytest.approx((pixels.std(0) / width).tolist(), rel=1e-6)


def test_missing_pixels_count_nowhere_and_become_the_mean(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 2), 1000.0, np.float32)
    pixels[:2], pixels[0, 0], pixels[1, 1, 1] = 3000, -9999, np.nan
    found = measured(dataset(tmp_path, [pixels], "float32", -9999))
    assert (found.low, found.high) == ((1000, 1000), (3000, 3000))
    assert found.mean == pytest.approx((7 / 15, 6 / 14))
    read = dataset(tmp_path, [pixels], "float32", -9999).read_image(Record("0", tmp_path / "0.npy"))
    unit = found.unit(read)
    assert unit[0, 0].tolist() == pytest.approx([7 / 15, 6 / 14])
    assert unit[1, 1].tolist() == pytest.approx([1, 6 / 14])
    assert unit[3, 3].tolist() == [0, 0]


def test_8_bit_images_stay_bytes_up_to_four_channels(tmp_path: Path) -> None:
    pixels = np.array([[[0, 51, 102, 255]]], np.uint8).repeat(8, 0)
    found = measured(dataset(tmp_path, [pixels], "uint8"))
    assert found.mean == pytest.approx((0, 0.2, 0.4, 1))
    assert (found.low, found.dtype, found.fill) == (None, np.uint8, (0, 51, 102, 255))
    assert found.unit(pixels) is pixels
    pixels = pixels[..., [0, 1, 2, 3, 3]]
    found = measured(dataset(tmp_path, [pixels], "uint8"))
    assert found.low is not None
    assert found.unit(pixels)[0, 0].tolist() == pytest.approx([0, 0.2, 0.4, 1, 1])
    assert of_8_bits((0.5,) * 3, (0.2,) * 3) == Intensity((0.5,) * 3, (0.2,) * 3)


def test_missing_pixels_of_8_bit_images_become_the_mean(tmp_path: Path) -> None:
    image = np.array([[[np.nan, 9, np.nan]]], np.float32)
    unit = Intensity((0.2, 0.4, 1.0), (0.1,) * 3).unit(image)
    assert unit.dtype == np.uint8
    assert unit.ravel().tolist() == [51, 9, 255]


def test_a_channel_of_one_value_becomes_zero(tmp_path: Path) -> None:
    found = measured(dataset(tmp_path, [np.full((3, 3, 1), 7, np.uint16)]))
    assert found.unit(np.full((3, 3, 1), 7, np.uint16)).max() == 0
    assert all(std > 0 for std in found.std)


def test_a_channel_without_pixels_is_named(tmp_path: Path) -> None:
    pixels = np.ones((3, 3, 2), np.float32)
    pixels[..., 1] = np.nan
    with pytest.raises(SegtoolError, match="all pixels of channel 2 are missing in 1 images"):
        measured(dataset(tmp_path, [pixels], "float32"))


def test_many_images_are_sampled_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segtool.core.dataset.intensity.IMAGES", 2)
    data = dataset(tmp_path, [np.full((3, 3, 1), number, np.uint16) for number in range(5)])
    with caplog.at_level(logging.INFO):
        assert measured(data) == measured(data)
    assert "measured on 2 of 5 training images" in caplog.text


def test_what_is_kept_for_percentiles_does_not_grow_with_the_bands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    percentile = np.percentile
    monkeypatch.setattr(intensity, "MOST_VALUES", 4000)
    monkeypatch.setattr(np, "percentile", lambda values, *rest: kept.append(values.size) or percentile(values, *rest))
    images = [RNG.random((50, 60, 40)).astype(np.float32) for _ in range(2)]
    measured(dataset(tmp_path, images, "float32"))
    assert len(kept) == 40 and 2000 <= sum(kept) <= 4000
