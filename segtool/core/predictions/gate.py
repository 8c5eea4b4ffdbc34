"""The gate: classes that an image as a whole does not seem to hold are taken out of its pixels."""

import numpy as np
import numpy.typing as npt

from segtool.core.predictions.probability_maps import Probs


def gate(probs: Probs, presence: npt.NDArray[np.float32], threshold: float) -> Probs:
    """Set classes whose image-level probability is below `threshold` to 0 and let the rest add up to one again.

    The background, class 0, is exempt; a pixel of which nothing is left is background.

    Args:
        probs: float32 (C, H, W).
        presence: (C,), the probability of each class being in the image.
    """
    closed = presence < threshold
    closed[0] = False
    if not closed.any():
        return probs
    gated = probs.copy()
    gated[closed] = 0
    left = gated.sum(0)
    gated[0][left == 0] = 1
    gated /= np.where(left == 0, np.float32(1), left)
    return gated


def gate_planes(probs: Probs, presence: npt.NDArray[np.float32], threshold: float) -> Probs:
    """Set classes that may overlap to 0 where their image-level probability is below `threshold`; no other changes."""
    if not (closed := presence < threshold).any():
        return probs
    gated = probs.copy()
    gated[closed] = 0
    return gated
