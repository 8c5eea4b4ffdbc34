"""One score from several: how far an image stands out, in the direction of any of the mistakes that labels have."""

from collections.abc import Sequence
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
# So far above the median is nothing unusual: there, what a move or a region would explain is chance.
USUAL = 1.0
# From here on (beyond the usual), a sign is worth naming.
NAMED = 1.0

KINDS = ("object", "shift", "outline")


class Suspicion(NamedTuple):
    """How suspicious an image's label is, from 0, what it looks like (object, shift, outline; "" for nothing), and its
    share of pixels that are label issues by confident learning."""

    score: float
    kind: str
    pixel_issues: float


NOTHING = Suspicion(np.nan, "", np.nan)


def judge(findings: Sequence[Finding], steps: npt.NDArray[np.int64]) -> list[Suspicion]:
    """Compare images with each other; NaN for those of which no pixel counts.

    Each sign of a mistake is measured by how far an image lies above the median of all, in robust standard deviations
    (the larger quartile's distance / 0.6745), and what lies below counts nothing: a label is not the better for being
    at its right place when an object is missing. A mistake mostly shows in one sign alone, or two. Their sum wants no
    weights: what networks often get wrong spreads widely over the images, and so counts little. Pixel issues and
    softmin order all images; the three signs of a particular mistake count from USUAL on, so that chance does not add
    up.

    Args:
        findings: of all images.
        steps: int64 (STEPS,), their pixels by the probability of the label, see `Census`.
    """
    counted = [found for found in findings if found.pixels]
    if not counted:
        return [NOTHING] * len(findings)
    issues = pixel_issues(counted, steps)
    objects = [found.region.weight / found.pixels if found.region else 0.0 for found in counted]
    signs = {
        "issues": _above(np.sqrt(issues)),
        "softmin": _above(-np.array([found.softmin for found in counted])),
        # The root of a share of the image goes with the width of an object: small ones count, too.
        "object": _above(np.sqrt(objects), USUAL),
        "shift": _above(np.sqrt([found.shift.gain for found in counted]), USUAL),
        "outline": _above(np.sqrt([found.outline.gain for found in counted]), USUAL),
    }
    total = np.sum(list(signs.values()), axis=0)
    likeliest = np.argmax([signs[kind] for kind in KINDS], axis=0)
    judged = {
        found.image_id: Suspicion(float(total[n]), KINDS[k] if signs[KINDS[k]][n] >= NAMED else "", float(issues[n]))
        for n, (found, k) in enumerate(zip(counted, likeliest, strict=True))
    }
    return [judged.get(found.image_id, NOTHING) for found in findings]


def pixel_issues(findings: Sequence[Finding], steps: npt.NDArray[np.int64]) -> Floats:
    """The share of each image's pixels that are label issues, float64 (N,): cleanlab's `num_pixel_issues`.

    Of all pixels those whose label is least probable, as many as confident predictions contradict (see `Census`), are
    issues where the prediction is another class. Probabilities are told apart in steps of 1/256.
    """
    wanted = sum(found.contradicted for found in findings)
    last = int(np.searchsorted(np.cumsum(steps), wanted)) + 1 if wanted else 0
    found_in = [0 if found.unlikely is None else int(found.unlikely[:last].sum()) for found in findings]
    return np.array(found_in) / [found.pixels for found in findings]


def _above(values: Floats, usual: float = 0.0) -> Floats:
    """How far each value lies above the median, in robust standard deviations and less `usual`, from 0 to MOST."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = max((high - middle) / 0.6745, (middle - low) / 0.6745, LEAST_SCALE)
    return np.clip((values - middle) / scale - usual, 0, MOST)
