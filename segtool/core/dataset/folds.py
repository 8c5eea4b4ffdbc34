"""`folds.csv`: which fold holds which image out."""

from collections.abc import Mapping
from pathlib import Path

from segtool.core.dataset.dataset import Dataset
from segtool.core.tables import read_csv, to_whole_number, write_csv
from segtool.errors import SegtoolError, UsageError

# The fold of images that are never held out.
ALWAYS_TRAIN = -1


def read_folds(path: Path, dataset: Dataset) -> dict[str, int]:
    """`folds.csv` as image_id → fold (-1: always training).

    Raises:
        SegtoolError: an id twice, an id the data set has not or lacks, a fold that is no whole number from -1.
    """
    folds: dict[str, int] = {}
    for row in read_csv(path, ("image_id", "fold")):
        image_id, fold = row["image_id"], row["fold"]
        if image_id in folds:
            raise SegtoolError(f"{path}: image_id {image_id!r} stands twice")
        folds[image_id] = to_whole_number(fold, f"{path}: the fold of {image_id!r}")
        if folds[image_id] < -1:
            raise SegtoolError(f"{path}: the fold of {image_id!r} is {fold}, not a whole number from -1")
    if unknown := folds.keys() - dataset.by_id.keys():
        raise SegtoolError(
            f"{path} names {sorted(unknown)[0]!r}, which {dataset.path} has not ({len(unknown)} such ids)"
        )
    if missing := dataset.by_id.keys() - folds.keys():
        raise SegtoolError(f"{path} lacks {sorted(missing)[0]!r} of {dataset.path} ({len(missing)} such ids)")
    return folds


def write_folds(path: Path, folds: Mapping[str, int]) -> None:
    """Write `folds.csv` sorted by image_id, so that a diff of two versions reads well."""
    write_csv(path, ("image_id", "fold"), sorted(folds.items()))


def choose_fold(folds: Mapping[str, int], fold: int, where: Path) -> set[str]:
    """The ids held out by a fold. Raises UsageError when the fold is not there."""
    present = sorted({f for f in folds.values() if f >= 0})
    if fold not in present:
        raise UsageError(f"{where} has no fold {fold}; it has {', '.join(map(str, present)) or 'none'}")
    return {image_id for image_id, its in folds.items() if its == fold}
