"""The windows along one axis of an image, and their weights at every pixel.

Two axes make a grid, whose weights are an outer product.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from segtool.core.geometry import starts

# A window's standard deviation, as a share of its length: that of nnU-Net (Isensee et al. 2021) and MONAI.
SIGMA = 1 / 8

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Axis:
    """Windows along an axis.

    Attributes:
        length: pixels of the axis.
        starts: the first pixel of every window.
        weights: the share of each window at each of its pixels inside the axis; at every pixel of the axis the shares
            of all windows add up to one.
    """

    length: int
    starts: tuple[int, ...]
    weights: tuple[Weights, ...]

    def final(self, window: int) -> int:
        """Return how many pixels, from the first, are complete once `window` and all before it have been added."""
        return self.starts[window + 1] if window + 1 < len(self.starts) else self.length


def profile(window: int, kind: str) -> Weights:
    """Return the weights of a window's pixels before normalisation: 1, or a Gaussian that falls to 3e-4 at the ends."""
    if kind == "uniform":
        return np.ones(window, np.float32)
    distance = (np.arange(window) - (window - 1) / 2) / (SIGMA * window)
    return np.exp(-0.5 * distance**2).astype(np.float32)


def make_axis(length: int, window: int, stride: int, kind: str) -> Axis:
    """Lay windows along an axis; the only window of a shorter axis ends with it."""
    first = starts(length, window, stride)
    shape = profile(window, kind)
    total = np.zeros(max(length, window), np.float32)
    for start in first:
        total[start : start + window] += shape
    shares = (shape / total[start : start + window] for start in first)
    return Axis(length, first, tuple(share[:length] for share in shares))
