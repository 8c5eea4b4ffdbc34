"""How often, how large and together with what each class occurs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segtool.core.inspection.survey import BINS, PER_OCTAVE, ImageFacts

# A class is rare if fewer images, or a smaller share of them, have it.
FEW_IMAGES, FEW_SHARE = 5, 0.01
# The bin of area 16: smaller components are mostly slips of the brush.
OBJECT = 4 * PER_OCTAVE


@dataclass(frozen=True)
class ClassStats:
    """One class in the training masks.

    Attributes:
        pixel_share: of all scored pixels.
        images, image_share: training images that contain it, and their share of those with a mask.
        objects: number of its 8-connected components of at least 16 pixels.
        specks: number of smaller ones.
        small, median, large: areas in pixels (within 5 %) that 5 %, half and 95 % of the objects do not exceed; 0
            without objects.
    """

    name: str
    pixel_share: float
    images: int
    image_share: float
    objects: int
    specks: int
    small: int
    median: int
    large: int

    @property
    def rare(self) -> bool:
        """Whether so few images have it that folds or crops may lack it."""
        return self.images < FEW_IMAGES or self.image_share < FEW_SHARE


def count_classes(classes: Sequence[str], facts: Sequence[ImageFacts]) -> tuple[ClassStats, ...]:
    """Return the statistics of every class over images that have a mask."""
    pixels = _pixels(facts, len(classes))
    sums, images = pixels.sum(0), (pixels > 0).sum(0)
    objects = np.zeros((len(classes), BINS), np.int64)
    for one in facts:
        if one.objects is not None:
            np.add.at(objects, (one.objects[:, 0], one.objects[:, 1]), one.objects[:, 2])
    return tuple(
        ClassStats(
            name,
            float(sums[index] / max(1, sums.sum())),
            int(images[index]),
            float(images[index] / max(1, len(facts))),
            int(objects[index, OBJECT:].sum()),
            int(objects[index, :OBJECT].sum()),
            *(_area(objects[index, OBJECT:], share) for share in (0.05, 0.5, 0.95)),
        )
        for index, name in enumerate(classes)
    )


def co_occurrence(classes: int, facts: Sequence[ImageFacts]) -> npt.NDArray[np.int64]:
    """Return in how many images each pair of classes occurs together, int64 (C, C)."""
    present = (_pixels(facts, classes) > 0).astype(np.int64)
    return present.T @ present


def _pixels(facts: Sequence[ImageFacts], classes: int) -> npt.NDArray[np.int64]:
    return np.array([one.pixels for one in facts], np.int64).reshape(-1, classes)


def _area(numbers: npt.NDArray[np.int64], share: float) -> int:
    """Return the area that a share of the objects does not exceed, given their number in each bin from OBJECT on."""
    total = np.cumsum(numbers)
    if not total[-1]:
        return 0
    return round(2 ** ((OBJECT + int(np.searchsorted(total, share * total[-1]))) / PER_OCTAVE))
