"""Labels of classes that may overlap: each plane is judged by itself, as a mask of two classes.

The classes are "not in the class", with the rest of its probability, and "in the class". What counts as usual, such as
how sure networks are and how often labels disagree with them, is compared among the planes of one class.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from segtool.core.images import Array
from segtool.core.noise import evidence, table
from segtool.core.noise.reports import ImageReport, examine
from segtool.core.noise.suspicion import judge
from segtool.core.planes import Planes
from segtool.core.predictions.probability_maps import SCALE, ProbReader, class_levels, lowest_level

# An image's label and its probabilities.
Pair = tuple[Planes, ProbReader]


def two_classes(levels: evidence.Levels) -> Iterator[tuple[slice, evidence.Levels]]:
    """Yield the levels of not being in a class and of being in it, uint16 (2, H, W), as the only band."""
    yield slice(0, len(levels)), np.stack([SCALE - levels, levels])


class PlaneRanking:
    """Statistics of all planes, and then a report on each."""

    def __init__(self, classes: Sequence[str], confident: float | None, tolerance: int | None) -> None:
        """`confident` and `tolerance` are options of `noise-rank`."""
        self.classes, self.confident, self.tolerance = classes, confident, tolerance
        self.statistics = [evidence.DatasetStatistics(2) for _ in classes]

    def add(self, pairs: Iterable[Pair]) -> None:
        """Add all images to the statistics."""
        for label, reader in pairs:
            for index, levels in class_levels(reader):
                self.statistics[index].add(label.plane(index), two_classes(levels))

    def thresholds(self, index: int) -> evidence.Levels:
        """Return the levels from which a prediction counts as confident, uint16 (2,)."""
        if self.confident is None:
            return self.statistics[index].thresholds()
        return np.full(2, lowest_level(self.confident), np.uint16)

    def examine(self, image_id: str, pair: Pair, members: Sequence[Planes]) -> list[ImageReport]:
        """Report on each plane of an image."""
        label, reader = pair
        reports = []
        for index, levels in class_levels(reader):
            gathered = evidence.gather(label.plane(index), two_classes(levels), self.thresholds(index))
            masks: list[Array] = [member.plane(index) for member in members]
            reports.append(examine(image_id, gathered, masks, self.tolerance))
        return reports

    def rows(self, reports: Sequence[Sequence[ImageReport]]) -> list[table.Row]:
        """Return a row for each image and class, of the reports on the images."""
        rows: list[table.Row] = []
        for index, name in enumerate(self.classes):
            own = [report[index] for report in reports]
            judged = judge(own, self.statistics[index].steps)
            make: Callable[..., table.Row] = table.make_row
            rows += [{**make(*one, (f"not {name}", name)), "class": name} for one in zip(own, judged, strict=True)]
        return rows
