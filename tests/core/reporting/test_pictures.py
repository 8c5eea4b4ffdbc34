"""Pictures of images of any depth."""

import warnings

import numpy as np

from segtool.core.reporting.pictures import to_rgb


def test_bytes_stay_and_other_depths_are_stretched() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert np.array_equal(to_rgb(picture), picture)
    grey = np.linspace(1000, 65535, 64, dtype=np.uint16).reshape(8, 8, 1)
    shown = to_rgb(grey)
    assert (shown.dtype, shown.shape) == (np.uint8, (8, 8, 3))
    assert (shown[0, 0].tolist(), shown[-1, -1].tolist()) == ([0] * 3, [255] * 3)
    assert (np.diff(shown[..., 0].ravel().astype(int)) >= 0).all()


def test_missing_pixels_are_black_and_count_nowhere() -> None:
    bands = np.full((8, 8, 5), np.nan, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not to_rgb(bands).any()
        bands[2:, :, :2] = np.arange(6 * 8 * 2, dtype=np.float32).reshape(6, 8, 2) - 1e6
        shown = to_rgb(bands)
    assert not shown[:2].any() and not shown[..., 2].any()
    assert shown[-1, -1, :2].tolist() == [255, 255]


def test_a_large_image_is_stretched_by_some_of_its_pixels() -> None:
    ramp = np.linspace(0, 1, 2000, dtype=np.float32)
    shown = to_rgb(np.broadcast_to(ramp[:, None, None], (2000, 1000, 1)))
    assert np.abs(shown[:, 0, 0] - 255 * np.clip((ramp - 0.02) / 0.96, 0, 1)).max() < 2
