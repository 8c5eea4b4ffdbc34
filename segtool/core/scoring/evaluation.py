"""All scores of a set of images, collected image by image; only counts are kept."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from segtool.core.images import Array
from segtool.core.planes import Planes
from segtool.core.scoring import objects
from segtool.core.scoring.boundary import BoundaryBoard, plane_scores
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.planes import MultiScoreBoard, class_plane_counts
from segtool.core.scoring.scores import ScoreBoard


class Evaluation:
    """Collects images' scores: of pixels, of objects by their size and, with a tolerance, of outlines.

    Attributes:
        board: the scores of pixels.
        sizes: the counts of objects; where classes overlap they begin with those of no class.
        outlines: the scores of outlines, None without a tolerance.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        multi: bool,
        exclude: Iterable[str] = (),
        size_bins: Sequence[int] = objects.BORDERS,
        tolerance: float | None = None,
    ) -> None:
        """
        Args:
            multi: classes may overlap.
            exclude: names of the classes that are left out of the means.
            size_bins: areas in pixels between the bins of objects.
            tolerance: distance in pixels up to which an outline counts as right.
        """
        self.board: ScoreBoard | MultiScoreBoard = (MultiScoreBoard if multi else ScoreBoard)(classes, exclude)
        count, self.size_bins = len(self.board.classes), tuple(size_bins)
        self.sizes = objects.no_objects(count + multi, self.size_bins)
        self.outlines: BoundaryBoard | None = None
        if tolerance is not None:
            self.outlines = BoundaryBoard(count, self.board.exclude, tolerance, multi=multi)

    def add(self, image_id: str, truth: Array | Planes, pred: Array | Planes) -> None:
        """Add one image: class ids, uint8 (H, W) with 255 = ignore in the truth, or planes where classes overlap.

        Threads would not help: OpenCV uses all cores for objects.

        Raises:
            SegtoolError: the shapes differ, or a scored pixel holds a value outside the classes.
        """
        if isinstance(self.board, MultiScoreBoard):
            assert isinstance(truth, Planes) and isinstance(pred, Planes)
            self._add_planes(self.board, image_id, truth, pred)
            return
        assert not isinstance(truth, Planes) and not isinstance(pred, Planes)
        classes = len(self.board.classes)
        self.board.add(image_id, confusion(truth, pred, classes))
        self.sizes += objects.object_counts(truth, pred, classes, self.size_bins)
        if self.outlines:
            self.outlines.add(truth, pred)

    def _add_planes(self, board: MultiScoreBoard, image_id: str, truth: Planes, pred: Planes) -> None:
        """Score plane by plane: all planes of a large image would fill the memory."""
        counts, distances = np.zeros((4, len(board.classes)), np.int64), []
        for index in range(len(board.classes)):
            true, found = truth.plane(index), pred.plane(index)
            counts[:, index] = class_plane_counts(true, found)
            self.sizes[index + 1] += objects.plane_object_counts(true, found, self.size_bins)
            if self.outlines:
                distances.append(plane_scores(true, found, self.outlines.tolerance))
        board.add(image_id, counts)
        if self.outlines:
            self.outlines.add_planes(distances)

    def summary(self) -> dict[str, Any]:
        """Return all means as plain JSON values; None where there is nothing to score."""
        return {**self.board.summary(), **(self.outlines.summary() if self.outlines else {})}
