"""One score from several signs: how far an image stands out in the direction of the mistakes that labels have."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.noise.reports import ImageReport

Floats = npt.NDArray[np.float64]

# The most that a single sign of a mistake counts.
MOST = 6.0
# The smallest scale of a sign: in most images no shift and no outline gains anything, so that their spread is
# meaningless. Squared, it is a share of the image: a ten-thousandth.
LEAST_SCALE = 0.01
# A sign this far above the median is not unusual: what a shift or a region explains there is chance.
USUAL = 1.0
# A sign this far above the usual is named as the kind of mistake.
NAMED = 1.0

KINDS = ("object", "shift", "outline")


class Suspicion(NamedTuple):
    """How suspicious an image's label is.

    Attributes:
        score: from 0.
        kind: the likeliest mistake: object, shift, outline, or "" for none.
        pixel_issues: share of the pixels that are label issues by confident learning.
    """

    score: float
    kind: str
    pixel_issues: float


NOTHING = Suspicion(np.nan, "", np.nan)


def judge(reports: Sequence[ImageReport], steps: npt.NDArray[np.int64]) -> list[Suspicion]:
    """Judge images by comparing them with each other; NaN for an image in which no pixel counts.

    Each sign of a mistake is measured by how far an image is above the median of all, in robust standard deviations
    (the larger quartile's distance / 0.6745). Being below the median counts as 0: a label in the right place is no
    better for it if an object is missing. Most mistakes show in only one or two signs. Their sum needs no weights: what
    networks often get wrong varies widely between images, and so counts little. Pixel issues and softmin order all
    images; the three signs of a particular mistake count from USUAL on, so that chance does not add up.

    Args:
        reports: the reports on all images.
        steps: int64 (STEPS,), number of their pixels by the probability of the label, see `DatasetStatistics`.
    """
    counted = [report for report in reports if report.pixels]
    if not counted:
        return [NOTHING] * len(reports)
    issues = pixel_issues(counted, steps)
    objects = [report.region.weight / report.pixels if report.region else 0.0 for report in counted]
    signs = {
        "issues": _above(np.sqrt(issues)),
        "softmin": _above(-np.array([report.softmin for report in counted])),
        # The root of a share of the image is proportional to the width of an object: small ones count, too.
        "object": _above(np.sqrt(objects), USUAL),
        "shift": _above(np.sqrt([report.shift.gain for report in counted]), USUAL),
        "outline": _above(np.sqrt([report.outline.gain for report in counted]), USUAL),
    }
    total = np.sum(list(signs.values()), axis=0)
    likeliest = np.argmax([signs[kind] for kind in KINDS], axis=0)
    judged = {
        report.image_id: Suspicion(float(total[n]), KINDS[k] if signs[KINDS[k]][n] >= NAMED else "", float(issues[n]))
        for n, (report, k) in enumerate(zip(counted, likeliest, strict=True))
    }
    return [judged.get(report.image_id, NOTHING) for report in reports]


def pixel_issues(reports: Sequence[ImageReport], steps: npt.NDArray[np.int64]) -> Floats:
    """Return the share of each image's pixels that are label issues, float64 (N,): cleanlab's `num_pixel_issues`.

    Take the pixels with the least probable labels, as many as confident predictions contradict: those predicted as
    another class are issues. Probabilities are compared in steps of 1/256.
    """
    count = sum(report.contradicted for report in reports)
    last = int(np.searchsorted(np.cumsum(steps), count)) + 1 if count else 0
    issues = [0 if report.unlikely is None else int(report.unlikely[:last].sum()) for report in reports]
    return np.array(issues) / [report.pixels for report in reports]


def _above(values: Floats, usual: float = 0.0) -> Floats:
    """Return how far values are above the median, in robust standard deviations less `usual`, clipped to 0 and MOST."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    scale = max((high - middle) / 0.6745, (middle - low) / 0.6745, LEAST_SCALE)
    return np.clip((values - middle) / scale - usual, 0, MOST)
