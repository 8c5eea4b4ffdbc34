"""Compare a label with its out-of-fold prediction, band by band."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array
from segtool.core.predictions.probability_maps import SCALE, Probs, most_probable

Levels = npt.NDArray[np.uint16]
Counts = npt.NDArray[np.unsignedinteger]

# cleanlab's temperature (Lad & Mueller 2023).
TEMPERATURE = 0.1
# Number of bins for the probabilities of labels.
STEPS = 256
# Approximate shorter side, in pixels, of the coarse maps in which a label is moved, grown and shrunk.
COARSE = 128


@dataclass(frozen=True)
class ImageEvidence:
    """An image's label beside its prediction.

    Attributes:
        label: uint8 (H, W), class ids and 255 = ignore.
        pred: uint8 (H, W), the most probable class.
        margin: uint8 (H, W): 255 * (top probability - the label's) where a confident prediction contradicts the label,
            0 elsewhere.
        softmin: soft minimum of the label's probability over the pixels that count, NaN if none does.
        unlikely: uint32 (STEPS,), number of pixels predicted as another class than the label, by the probability of
            their label.
        coarse: block means of the probabilities, float32 (C, h, w).
        factor: a pixel of `coarse` is the mean of factor x factor pixels.
    """

    label: Array
    pred: Array
    margin: Array
    softmin: float
    unlikely: Counts
    coarse: Probs
    factor: int


class DatasetStatistics:
    """Statistics over all images, which are needed before any of them can be judged.

    Attributes:
        sums, counts: over the pixels labelled as each class, the sum of the class's levels, and their number.
        steps: int64 (STEPS,), number of pixels by the probability of their label.
    """

    def __init__(self, classes: int) -> None:
        self.sums, self.counts = np.zeros(classes), np.zeros(classes, np.int64)
        self.steps = np.zeros(STEPS, np.int64)

    def add(self, label: Array, bands: Iterable[tuple[slice, Levels]]) -> None:
        """Add one image: its label, uint8 (H, W), and the bands of its probabilities, with their rows."""
        classes = len(self.counts)
        for rows, levels in bands:
            counted = label[rows] != IGNORE
            ids = label[rows][counted]
            own = _of_label(levels, label[rows])[counted]
            self.sums += np.bincount(ids, own, classes)
            self.counts += np.bincount(ids, minlength=classes)
            self.steps += _by_step(own)

    def thresholds(self) -> Levels:
        """Return the level from which a prediction of each class counts as confident, uint16 (C,).

        It is the mean level of the class on the pixels labelled so (confident learning, Northcutt et al. 2021), so that
        a class that networks are never sure of can be predicted confidently, too. For a class without labels it is the
        level of probability 1.
        """
        means = np.divide(self.sums, self.counts, out=np.full(len(self.sums), float(SCALE)), where=self.counts > 0)
        return np.floor(means).astype(np.uint16)


def coarse_factor(height: int, width: int) -> int:
    """Return how many pixels of an image, in either direction, make one pixel of its coarse map."""
    return max(1, round(min(height, width) / COARSE))


def gather(
    label: Array, bands: Iterable[tuple[slice, Levels]], thresholds: Sequence[int] | npt.NDArray[np.integer]
) -> ImageEvidence:
    """Compare a label with the bands of its prediction.

    Args:
        label: uint8 (H, W), class ids and 255 = ignore.
        bands: from `ProbReader.bands`, by multiples of `coarse_factor` rows.
        thresholds: the level from which each class counts as confident.
    """
    factor = coarse_factor(*label.shape)
    pred, margin = np.empty_like(label), np.zeros_like(label)
    least = np.asarray(thresholds, np.uint16)
    weights, weighted, coarse = 0.0, 0.0, []
    unlikely = np.zeros(STEPS, np.int64)
    for rows, levels in bands:
        classes, best = most_probable(levels)
        own = _of_label(levels, label[rows])
        counted = label[rows] != IGNORE
        pred[rows] = classes
        against = counted & (classes != label[rows])
        unlikely += _by_step(own[against])
        against &= best >= least[classes]
        margin[rows][against] = (best - own)[against] >> 8
        probs = own[counted] / SCALE
        # At most e^10, so there is no need to subtract the maximum first.
        softmax = np.exp((1 - probs) / TEMPERATURE)
        weights, weighted = weights + float(softmax.sum()), weighted + float(softmax @ probs)
        coarse.append(_shrink(levels, factor))
    softmin = weighted / weights if weights else np.nan
    return ImageEvidence(
        label, pred, margin, softmin, unlikely.astype(np.uint32), np.concatenate(coarse, axis=1), factor
    )


def _of_label(levels: Levels, label: Array) -> Levels:
    """Return the level of each pixel's label, uint16 (H, W); arbitrary for ignored pixels."""
    ids = np.where(label == IGNORE, 0, label).astype(np.intp)
    return np.take_along_axis(levels, ids[None], axis=0)[0]


def _by_step(levels: Levels) -> npt.NDArray[np.int64]:
    return np.bincount(levels >> 8, minlength=STEPS)


def _shrink(levels: Levels, factor: int) -> Probs:
    """Return block means, float32 (C, rows // factor, W // factor), without the remainder at the ends."""
    _, height, width = levels.shape
    rows, columns = height // factor, width // factor
    whole = levels[:, : rows * factor, : columns * factor]
    if factor == 1 or rows == 0:
        small = [plane[:rows, :columns] for plane in whole]
    else:
        small = [cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA) for plane in whole]
    return np.stack(small).astype(np.float32) / np.float32(SCALE)
