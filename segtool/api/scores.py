"""`segtool.score`: the scores of predicted masks, as `segtool evaluate` computes them."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import load_dataset
from segtool.core.images import IGNORE, Array
from segtool.core.planes import Planes
from segtool.core.predictions.ground_truth import check_excluded
from segtool.core.predictions.scored_images import find_scored, score_images
from segtool.core.reporting.progress import silent
from segtool.core.scoring import objects, tables
from segtool.core.scoring.evaluation import Evaluation
from segtool.core.scoring.scores import ScoreBoard
from segtool.errors import SegtoolError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Masks = npt.NDArray[Any] | Iterable[npt.NDArray[Any]]
Folder = str | PathLike[str]


class Score:
    """The scores of a set of images; NaN where there is nothing to score.

    Pooled scores are of the pixels of all images. A class that is in neither truth nor prediction has no score and is
    left out of means. Pixels to ignore count nowhere.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self._evaluation.board.classes

    @cached_property
    def summary(self) -> dict[str, Any]:
        """All means as plain JSON values, as in `summary.json` of `segtool evaluate`; None for NaN."""
        return self._evaluation.summary()

    @property
    def miou(self) -> float:
        """The mean IoU over classes, pooled."""
        return self._mean("miou")

    @property
    def dice(self) -> float:
        """Dice, pooled: the foreground's for two classes, else the mean over classes."""
        return self._mean("dice")

    @property
    def image_miou(self) -> float:
        """The mean over images of each image's mIoU; where classes may overlap, a class in neither mask scores 1."""
        return self._mean("image_miou")

    @property
    def image_dice(self) -> float:
        """The mean over images of each image's Dice; for two classes, an image with neither true nor predicted
        foreground scores 1."""
        return self._mean("image_dice")

    @property
    def pixel_accuracy(self) -> float:
        """The share of scored pixels that are right."""
        return self._mean("pixel_accuracy")

    @property
    def per_class(self) -> "pd.DataFrame":
        """One row per class: its scores, its share of the scored pixels, and its true and predicted pixels."""
        return tables.per_class(self._evaluation.board, self._evaluation.outlines)

    @property
    def per_image(self) -> "pd.DataFrame":
        """One row per image: image_id (the number of a pair of masks), its means, and `iou_CLASS` of each class."""
        outlines = self._evaluation.outlines
        return self._evaluation.board.table().assign(**(outlines.per_image() if outlines else {}))

    @property
    def by_size(self) -> "pd.DataFrame":
        """One row per class and bin of object sizes: how many objects there are, and the share that was found."""
        return tables.by_size(self._evaluation.board, self._evaluation.sizes, self._evaluation.size_bins)

    @property
    def confusion(self) -> "pd.DataFrame":
        """Pixels by true class (rows) and predicted class (columns).

        Raises:
            UsageError: classes may overlap, so that a pixel has no single class.
        """
        board = self._evaluation.board
        if not isinstance(board, ScoreBoard):
            raise UsageError("classes that may overlap have no confusion matrix")
        return tables.confusion_table(board)

    def _mean(self, name: str) -> float:
        value = self.summary[name]
        return float("nan") if value is None else float(value)

    def __repr__(self) -> str:
        return f"Score(miou={self.miou:.4f}, dice={self.dice:.4f}, {self.summary['images']} images)"


def score(
    truth: Masks | Folder,
    pred: Masks | Folder,
    *,
    classes: int | Sequence[str] | None = None,
    labels: Literal["single", "multi"] = "single",
    exclude: Sequence[str] = (),
    subset: Literal["valid", "oof", "train", "test"] | None = None,
    thresholds: Folder | None = None,
    size_bins: Sequence[int] = objects.BORDERS,
    tolerance: float | None = None,
) -> Score:
    """Score predicted masks against true ones, with the numbers of `segtool evaluate`.

    Args:
        truth: one mask; several (a list, an iterator, or an array with one axis more); or a data set, by its
            `dataset.yaml` or its folder. A mask holds whole class ids (H, W), 255 = ignore. With `labels="multi"` it
            holds planes (C, H, W): 1 in the class, 0 outside, 255 = ignore.
        pred: the predicted masks in the same order and form; for a data set, a prediction folder or any folder of masks
            named after the images.
        classes: their names or their number, for masks; a data set has its own.
        labels: `multi` if classes may overlap, for masks; a data set says it itself.
        exclude: names of classes that are left out of means.
        subset: for a prediction folder, what must have been predicted; `train` allows images that the model has seen.
        thresholds: for a prediction folder, a file of `segtool threshold` that decides the masks.
        size_bins: areas in pixels between the bins of `by_size`.
        tolerance: also score outlines, which count as right up to this distance in pixels.

    Raises:
        UsageError: an argument is missing or has no effect, or the score would be of images that a model has seen.
        SegtoolError: masks differ in size or number, or hold what is no class.

    Example:
        >>> truth, pred = np.array([[0, 1, 1, 255]]), np.array([[0, 1, 0, 0]])
        >>> scores = segtool.score(truth, pred, classes=["ground", "tree"])
        >>> scores.miou, round(scores.dice, 4)
        (0.5, 0.6667)
        >>> scores.per_class[["class", "iou"]].values.tolist()
        [['ground', 0.5], ['tree', 0.5]]
    """
    if isinstance(truth, str | PathLike) or isinstance(pred, str | PathLike):
        if not isinstance(truth, str | PathLike) or not isinstance(pred, str | PathLike):
            raise UsageError("truth and pred are both folders, or both masks")
        if classes is not None or labels != "single":
            raise UsageError("classes and labels are those of the data set: leave them out")
        dataset = load_dataset(Path(truth))
        check_excluded(exclude, dataset)
        scored = find_scored(dataset, Path(pred), subset, None if thresholds is None else Path(thresholds))
        evaluation = Evaluation(
            dataset.classes, multi=dataset.multi, exclude=exclude, size_bins=size_bins, tolerance=tolerance
        )
        score_images(dataset, scored, evaluation, silent)
        return Score(evaluation)
    if subset is not None or thresholds is not None:
        raise UsageError("subset and thresholds are for a prediction folder")
    if classes is None:
        raise UsageError("classes is missing: give their names, or their number")
    if labels not in ("single", "multi"):
        raise UsageError(f"labels is {labels!r}; it is 'single' or 'multi'")
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(map(str, classes))
    if unknown := [name for name in exclude if name not in names]:
        raise UsageError(f"exclude: there is no class {unknown[0]!r}{did_you_mean(unknown[0], names)}")
    evaluation = Evaluation(names, multi=labels == "multi", exclude=exclude, size_bins=size_bins, tolerance=tolerance)
    for number, true, found in _pairs(_listed(truth, labels), _listed(pred, labels)):
        evaluation.add(str(number), *_checked(true, found, number, len(names), labels))
    if not evaluation.board.per_image:
        raise UsageError("truth holds no mask")
    return Score(evaluation)


def _listed(masks: Masks, labels: str) -> Iterator[npt.NDArray[Any]]:
    """Yield masks, of one mask itself."""
    axes = 3 if labels == "multi" else 2
    return iter([masks] if isinstance(masks, np.ndarray) and masks.ndim == axes else masks)


def _pairs(
    truth: Iterator[npt.NDArray[Any]], pred: Iterator[npt.NDArray[Any]]
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]:
    nothing = object()
    for number in count():
        true, found = next(truth, nothing), next(pred, nothing)
        if true is nothing and found is nothing:
            return
        if true is nothing or found is nothing:
            more, fewer = ("pred", "truth") if true is nothing else ("truth", "pred")
            raise SegtoolError(f"{more} has more than the {number} masks of {fewer}")
        yield number, np.asarray(true), np.asarray(found)


def _checked(
    truth: npt.NDArray[Any], pred: npt.NDArray[Any], number: int, classes: int, labels: str
) -> tuple[Array, Array] | tuple[Planes, Planes]:
    """Return a pair of masks as they are scored. Raises SegtoolError if they are no masks of these classes."""
    pair = [_whole(mask, f"{which} {number}") for mask, which in ((truth, "truth"), (pred, "pred"))]
    if truth.shape != pred.shape:
        raise SegtoolError(f"truth {number} is {_shape(truth)}, but pred {number} is {_shape(pred)}")
    if labels == "single":
        if truth.ndim != 2:
            raise SegtoolError(f"truth {number} is {_shape(truth)}; a mask of class ids is HxW")
        return pair[0], pair[1]
    if truth.ndim != 3 or len(truth) != classes:
        raise SegtoolError(f"truth {number} is {_shape(truth)}; planes of {classes} classes are {classes}xHxW")
    true, found = pair
    for planes, which in ((true, "truth"), (np.where(true == IGNORE, 0, found), "pred")):
        odd = planes[(planes > 1) & ~((planes == IGNORE) & (which == "truth"))]
        if odd.size:
            raise SegtoolError(f"{which} {number} holds the value {odd[0]}; planes hold 0, 1 and, to ignore, 255")
    return Planes.of(true), Planes.of(np.where(true == IGNORE, np.uint8(0), found))


def _whole(mask: npt.NDArray[Any], where: str) -> Array:
    """Return whole numbers as uint8. Raises SegtoolError if they are none, or do not fit."""
    if mask.dtype.kind not in "bui":
        raise SegtoolError(f"{where} holds values of type {mask.dtype}; masks hold whole class ids")
    if mask.size and (mask.min() < 0 or mask.max() > IGNORE):
        raise SegtoolError(f"{where} holds the value {mask.min() if mask.min() < 0 else mask.max()}, which is no class")
    return np.asarray(mask, np.uint8)


def _shape(mask: npt.NDArray[Any]) -> str:
    return "x".join(map(str, mask.shape))
