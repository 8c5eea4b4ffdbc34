"""One score from several: how far an image stands out, in the direction of any of the mistakes that labels have."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.noise.findings import Finding

Floats = npt.NDArray[np.float64]

# No single sign of a mistake counts for more.
MOST = 6.0
# The least scale of a sign. Of most images no shift and no outline gains anything, so that their spread says nothing;
# squared, it is a share of the image: a ten-thousandth.
LEAST_SCALE = 0.01
# From here on, a sign is worth naming.
NAMED = 2.0

# What a share of the image's pixels is taken from goes with the width of an object, its root, so that small objects
# count, too.
SIGNS: dict[str, Callable[[Finding], float]] = {
    "contradiction": lambda found: found.contradiction**0.5,
    "softmin": lambda found: -found.softmin,
    "object": lambda found: (found.region.weight / found.pixels) ** 0.5 if found.region else 0.0,
    "shift": lambda found: found.shift.gain**0.5,
    "outline": lambda found: found.outline.gain**0.5,
}
KINDS = ("object", "shift", "outline")


class Suspicion(NamedTuple):
    """How suspicious an image's label is, from 0, and what it looks like: object, shift, outline or nothing (`""`)."""

    score: float
    kind: str


def judge(findings: Sequence[Finding]) -> list[Suspicion]:
    """Compare images with each other; NaN for those of which no pixel counts.

    Each sign of a mistake is measured by how far an image lies above the median of all, in robust standard deviations
    (the larger quartile's distance / 0.6745), and what lies below counts nothing: a label is not the better for being
    at its right place when an object is missing. A mistake mostly shows in one sign alone, or two. Their sum wants no
    weights: what networks often get wrong spreads widely over the images, and so counts little.
    """
    counted = [found for found in findings if found.pixels]
    signs = {name: _above(np.array([sign(found) for found in counted])) for name, sign in SIGNS.items()}
    total = np.sum(list(signs.values()), axis=0)
    likeliest = np.argmax([signs[kind] for kind in KINDS], axis=0)
    judged = {
        found.image_id: Suspicion(float(total[n]), KINDS[k] if signs[KINDS[k]][n] >= NAMED else "")
        for n, (found, k) in enumerate(zip(counted, likeliest, strict=True))
    }
    return [judged.get(found.image_id, Suspicion(np.nan, "")) for found in findings]


def _above(values: Floats) -> Floats:
    """How far each value lies above the median, in robust standard deviations, from 0 to MOST."""
    if not len(values):
        return values
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = max((high - middle) / 0.6745, (middle - low) / 0.6745, LEAST_SCALE)
    return np.clip((values - middle) / scale, 0, MOST)
