"""Resizing by matrices is OpenCV's, pooling by matrices is PyTorch's."""

import numpy as np
import pytest
import torch
from torch import nn

from segtool.core.images import resize_image
from segtool.core.inference.resampling import AnyAdaptivePool, resize_like_opencv
from segtool.values import Size

SIZES = {
    "half": ((50, 70), (25, 35)),
    "smaller": ((50, 70), (23, 41)),
    "one side": ((50, 70), (50, 30)),
    "double": ((50, 70), (100, 140)),
    "larger": ((50, 70), (61, 93)),
    "the same": ((50, 70), (50, 70)),
    "turned": ((50, 70), (70, 50)),
    "smaller area, wider": ((50, 70), (20, 90)),
    "larger area, lower": ((50, 70), (40, 95)),
    "one pixel": ((1, 1), (5, 7)),
    "to one pixel": ((9, 11), (1, 1)),
}


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    pixels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    return resize_like_opencv(pixels, *size)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", SIZES)
def test_images_are_resized_as_opencv_does(name: str) -> None:
    source, target = SIZES[name]
    image = np.random.default_rng(0).random((*source, 3), np.float32) * 255
    np.testing.assert_allclose(resized(image, target), resize_image(image, Size(*target)), atol=1e-3)
    # Whole numbers are rounded by OpenCV, some of them to the other side.
    whole = image.astype(np.uint8)
    difference = resized(whole, target).round() - resize_image(whole, Size(*target))
    assert np.abs(difference).max() <= 1


def test_any_size_becomes_any_other() -> None:
    random = np.random.default_rng(1)
    for _ in range(200):
        source, target = random.integers(1, 100, (2, 2)).tolist()
        image = random.random((*source, 1), np.float32)
        np.testing.assert_allclose(resized(image, target), resize_image(image, Size(*target)), atol=1e-5)


def test_an_average_by_hand() -> None:
    image = np.array([[0, 2, 4], [6, 8, 10]], np.float32)[:, :, None]
    # Columns 0 and half of 1, half of 1 and 2: (0 + 1) / 1.5, (1 + 4) / 1.5.
    np.testing.assert_allclose(resized(image, (2, 2))[:, :, 0], [[2 / 3, 10 / 3], [20 / 3, 28 / 3]], rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 9), (7, 5), (3, 3), (1, 2)])
@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (6, 6)])
def test_pools_are_those_of_pytorch(shape: tuple[int, int], bins: tuple[int, int]) -> None:
    features = torch.randn(2, 4, *shape)
    torch.testing.assert_close(AnyAdaptivePool(*bins)(features), nn.AdaptiveAvgPool2d(bins)(features))
