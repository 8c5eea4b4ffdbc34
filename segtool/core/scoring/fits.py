"""What was fitted to masks: noted with the predictions that it made, so that its score on them is not taken for more.

A fit is judged by nested cross-validation when it is made. Scored again on the images it was fitted on, it looks better
than it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segtool.core.scoring.scores import METRIC_NAMES
from segtool.errors import SegtoolError

THRESHOLDS, WEIGHTS = "thresholds", "weights"


@dataclass(frozen=True)
class Fit:
    """Thresholds, or the weights of an ensemble.

    Attributes:
        kind: THRESHOLDS, which change masks alone, or WEIGHTS, which change probabilities too.
        source: the file of thresholds, or the ensemble's folder.
        images: ids of the images it was fitted on.
        metric: the score it was to make high.
        exclude: names of the classes left out of that.
        nested: that score by nested cross-validation, where it is known.
    """

    kind: str
    source: str
    images: frozenset[str]
    metric: str = "miou"
    exclude: tuple[str, ...] = ()
    nested: float | None = None

    @property
    def score(self) -> str:
        """What the nested score is of."""
        without = f" without {', '.join(self.exclude)}" if self.exclude else ""
        return f"nested {METRIC_NAMES[self.metric]}{without}"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {**self.summary(), "images": sorted(self.images)}

    def summary(self) -> dict[str, Any]:
        """The same with the number of images instead of their ids."""
        return {
            "kind": self.kind,
            "source": self.source,
            "images": len(self.images),
            "metric": self.metric,
            "exclude": list(self.exclude),
            "nested": self.nested,
        }


def read_fits(content: Any, path: Path) -> tuple[Fit, ...]:
    """Fits from the JSON values of `Fit.as_json`; raises SegtoolError where they are none."""
    try:
        fits = tuple(
            Fit(
                str(one["kind"]),
                str(one["source"]),
                frozenset(map(str, one["images"])),
                str(one["metric"]),
                tuple(map(str, one["exclude"])),
                None if one["nested"] is None else float(one["nested"]),
            )
            for one in content or ()
        )
    except (TypeError, KeyError, ValueError) as error:
        raise SegtoolError(
            f"{path}: what it was fitted on is not written as segtool writes it; make it again"
        ) from error
    for fit in fits:
        if fit.metric not in METRIC_NAMES:
            raise SegtoolError(
                f"{path}: it was fitted to {fit.metric!r}, which is none of {', '.join(METRIC_NAMES)}; make it again"
            )
    return fits


def fits_on(fits: Iterable[Fit | None], ids: Iterable[str]) -> tuple[Fit, ...]:
    """Return the fits that have seen the masks of some of these images, each with these images alone, and once.

    A nested score is that of all images of its fit, so it goes if only some of them are here.
    """
    wanted = frozenset(ids)
    fits_here = [
        fit if fit.images <= wanted else replace(fit, images=fit.images & wanted, nested=None)
        for fit in fits
        if fit and fit.images & wanted
    ]
    return tuple(dict.fromkeys(fits_here))


def told_fits(fits: Sequence[Fit], so: str) -> str:
    """What was fitted on how many of the images, and `so` what; nothing without fits."""
    named = [f"the {fit.kind} of {fit.source} were fitted on {len(fit.images)} of these images" for fit in fits]
    return f"{' and '.join(named)}, so {so}" if named else ""
