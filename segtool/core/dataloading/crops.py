"""Crops chosen by the mask: on objects, and on rare classes."""

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array, count_values
from segtool.values import Size

# Otherwise the library looks up its latest version in a package index when it is imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

from albumentations.augmentations.crops.transforms import BaseCrop

BACKGROUND = 0


def holding(chosen: npt.NDArray[np.bool_], size: Size, generator: np.random.Generator) -> tuple[int, int] | None:
    """Draw the upper left corner of a crop that holds a random pixel of `chosen` (H, W); None without any.

    The position of the pixel in the crop is random too, as far as the image's border allows.
    """
    if not (count := cv2.countNonZero(chosen.view(np.uint8))):
        return None
    pixel = np.flatnonzero(chosen)[generator.integers(count)]
    corners = []
    for position, length, window in zip(divmod(int(pixel), chosen.shape[1]), chosen.shape, size, strict=True):
        low, high = max(0, position - window + 1), min(position, length - window)
        corners.append(int(generator.integers(low, high + 1)))
    return corners[0], corners[1]


def draw_class(mask: Array, shares: Sequence[float], generator: np.random.Generator) -> int | None:
    """Draw one of the classes in the mask, with a probability inverse to its share of the training pixels.

    Args:
        mask: uint8 (H, W), 255 = ignored.
        shares: each class's share of all training pixels; a class with a share of 0 counts as the rarest other one.
    """
    present = np.flatnonzero(count_values(mask)[:IGNORE])
    if not len(present):
        return None
    floor = min(share for share in shares if share > 0)
    chances = 1 / np.maximum(np.asarray(shares)[present], floor)
    return int(generator.choice(present, p=chances / chances.sum()))


class MaskCrop(BaseCrop):
    """A random crop that with given probabilities holds an object, or a class drawn by its rarity.

    Args:
        size: of the crop; images are at least as large.
        nonempty: probability of a crop with a pixel that is neither background (class 0) nor ignored.
        balance: probability of a crop with a pixel of the class that `draw_class` draws.
        shares: each class's share of all training pixels; needed for `balance`.
    """

    def __init__(self, size: Size, nonempty: float, balance: float, shares: Sequence[float] = ()) -> None:
        super().__init__(p=1)
        self.size, self.nonempty, self.balance, self.shares = size, nonempty, balance, shares

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Return the crop's coordinates to albumentations, drawn by the generator of the sample."""
        top, left = self.corner(data["mask"], self.random_generator)
        return {"crop_coords": (left, top, left + self.size.width, top + self.size.height)}

    def corner(self, mask: Array, generator: np.random.Generator) -> tuple[int, int]:
        """Draw the upper left corner of a crop of a mask, uint8 (H, W)."""
        draw, corner = generator.random(), None
        if draw < self.balance:
            drawn = draw_class(mask, self.shares, generator)
            corner = None if drawn is None else holding(mask == drawn, self.size, generator)
        elif draw < self.balance + self.nonempty:
            corner = holding((mask != BACKGROUND) & (mask != IGNORE), self.size, generator)
        if corner is None:
            top, left = (generator.integers(0, n - m + 1) for n, m in zip(mask.shape, self.size, strict=True))
            corner = int(top), int(left)
        return corner
