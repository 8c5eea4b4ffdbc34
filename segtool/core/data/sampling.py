"""How often each image is drawn."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segtool.core.data.seeding import drawing_generator, permutation

Floats = npt.NDArray[np.float64]


def repeat_factors(counts: npt.NDArray[np.int64], threshold: float) -> Floats:
    """How much more often than others each image is drawn: repeat-factor sampling (Gupta et al. 2019, LVIS).

    A class in a share f of the images has the factor max(1, sqrt(threshold / f)); an image has the largest of its
    classes' factors.

    Args:
        counts: pixels of each class in each image, int64 (N, C).

    Returns:
        float64 (N,), from 1.
    """
    present = counts > 0
    frequency = present.mean(axis=0)
    of_class = np.sqrt(threshold / np.maximum(frequency, 1 / len(counts)))
    return np.maximum(1, (present * of_class).max(axis=1, initial=0))


def draw(factors: Sequence[float] | Floats, *key: int) -> list[int]:
    """As many draws as there are images, in random order, image i about factors[i] / mean(factors) times.

    Systematic sampling: each image is drawn that often rounded down or up, and in the mean exactly. A function of the
    key.
    """
    count, generator = len(factors), drawing_generator(*key)
    order = generator.permutation(count)
    ends = np.cumsum(np.asarray(factors)[order])
    # Rounding must not leave the last point beyond the last end.
    ends *= count / ends[-1]
    ends[-1] = count
    drawn = order[np.searchsorted(ends, generator.random() + np.arange(count), side="right")]
    return [int(drawn[i]) for i in permutation(count, *key)]
