"""Whether images have an up, and a left: if so, flips make images that never occur."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segtool.core.inspection.survey import FEATURES, ImageFacts

# A class lies on one side if (one half - other half) / (both), averaged over the images with it, is so far from 0; of
# brightness the difference between a half and the whole counts, on a scale from 0 to 1.
LAYOUT, BRIGHTNESS = 0.3, 0.04
# And if that average is so many standard errors from 0, over at least so many images.
STANDARD_ERRORS, FEWEST = 4.0, 10


@dataclass(frozen=True)
class Asymmetry:
    """How far what is measured lies to one side.

    Attributes:
        what: a class, or `brightness`.
        mean: from -1 (all in the lower or right half) to 1 (all in the upper or left half), over images.
        images: number of images it was measured on.
        certain: whether it is too large and too regular to be chance.
    """

    what: str
    mean: float
    images: int
    certain: bool


@dataclass(frozen=True)
class Orientation:
    """Asymmetries from top to bottom and from left to right, the largest first."""

    vertical: tuple[Asymmetry, ...]
    horizontal: tuple[Asymmetry, ...]

    @property
    def has_up(self) -> bool:
        """Whether images have an up, so that vertical flips and right-angle turns make unlikely ones."""
        return any(found.certain for found in self.vertical)

    @property
    def has_left(self) -> bool:
        """Whether left and right differ, so that even a horizontal flip makes unlikely images."""
        return any(found.certain for found in self.horizontal)


def measure_orientation(classes: Sequence[str], facts: Sequence[ImageFacts]) -> Orientation:
    """Measure the layout of classes and the brightness of images (training images with a mask, and others)."""
    masks = [one.quadrants for one in facts if one.quadrants is not None]
    quadrants = np.array(masks, np.float64).reshape(-1, 4, len(classes))
    features = np.array([one.features for one in facts if one.features is not None]).reshape(-1, len(FEATURES))
    return Orientation(
        _asymmetries(classes, quadrants[:, [0, 1]].sum(1), quadrants.sum(1), features[:, -2]),
        _asymmetries(classes, quadrants[:, [0, 2]].sum(1), quadrants.sum(1), features[:, -1]),
    )


def _asymmetries(
    classes: Sequence[str],
    half: npt.NDArray[np.float64],
    whole: npt.NDArray[np.float64],
    brighter: npt.NDArray[np.float32],
) -> tuple[Asymmetry, ...]:
    """Return the asymmetry of each class, given its pixels in a half and in the image, (N, C), and of brightness."""
    found = [_asymmetry("brightness", brighter.astype(np.float64), BRIGHTNESS)]
    for index, name in enumerate(classes):
        present = whole[:, index] > 0
        found.append(_asymmetry(name, 2 * half[present, index] / whole[present, index] - 1, LAYOUT))
    return tuple(sorted(found, key=lambda one: (not one.certain, -abs(one.mean))))


def _asymmetry(what: str, values: npt.NDArray[np.float64], least: float) -> Asymmetry:
    if not len(values):
        return Asymmetry(what, 0.0, 0, False)
    mean, error = float(values.mean()), float(values.std()) / len(values) ** 0.5
    certain = len(values) >= FEWEST and abs(mean) >= max(least, STANDARD_ERRORS * error)
    return Asymmetry(what, mean, len(values), certain)
