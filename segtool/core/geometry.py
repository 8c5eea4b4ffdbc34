"""Where things lie in an image: windows along an axis, rectangles, the boxes of objects, padding."""

import math
from typing import NamedTuple

from segtool.core.images import Pixels


class Rectangle(NamedTuple):
    """A rectangle of whole pixels inside an image."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def view(self, pixels: Pixels) -> Pixels:
        """Return the part of (H, W, ...) as a view."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]

    def cut(self, pixels: Pixels) -> Pixels:
        """Return the part of (H, W, ...) as a copy, so that the whole can be freed."""
        return self.view(pixels).copy()


class Box(NamedTuple):
    """An object: its box in pixels, which may overhang the image, its class, and its score (NaN if it has none)."""

    left: float
    top: float
    width: float
    height: float
    label: str
    score: float = math.nan


def starts(length: int, window: int, stride: int) -> tuple[int, ...]:
    """Return the first pixels of the fewest windows at most `stride` apart, spread evenly so that none overhangs."""
    if length <= window:
        return (0,)
    gaps = math.ceil((length - window) / stride)
    return tuple(round(index * (length - window) / gaps) for index in range(gaps + 1))


def round_up(length: int, divisor: int) -> int:
    """Return the smallest multiple of `divisor` that is at least `length`."""
    return -(-length // divisor) * divisor


def pad_into(target: Pixels, image: Pixels, fill: tuple[float, ...]) -> None:
    """Copy an image into the upper left corner of `target` and fill the rest with `fill`."""
    height, width = image.shape[:2]
    target[:height, :width] = image
    target[height:] = fill
    target[:height, width:] = fill
