"""`folds.csv`: the fold that holds out each image."""

from collections.abc import Mapping
from pathlib import Path

from segtool.core.dataset.dataset import Dataset
from segtool.core.tables import read_csv, to_whole_number, write_csv
from segtool.errors import SegtoolError, UsageError

# Fold of images that are never held out.
ALWAYS_TRAIN = -1


def read_folds(path: Path, dataset: Dataset) -> dict[str, int]:
    """Read `folds.csv` as image_id → fold (-1: always training).

    Raises:
        SegtoolError: a duplicate, unknown or missing id, or a fold that is not a whole number from -1.
    """
    folds = _read(path)
    if unknown := folds.keys() - dataset.by_id.keys():
        raise SegtoolError(
            f"{path} lists {sorted(unknown)[0]!r}, which is not in {dataset.path} ({len(unknown)} unknown ids)"
        )
    if missing := dataset.by_id.keys() - folds.keys():
        raise SegtoolError(f"{path} lacks {sorted(missing)[0]!r} of {dataset.path} ({len(missing)} missing ids)")
    return folds


def read_kept_folds(path: Path, dataset: Dataset) -> dict[str, int]:
    """Read a `folds.csv` made before images were added or removed, as image_id → fold (-1: always training).

    Raises:
        SegtoolError: none of its ids is in the data set, a duplicate id, or a fold that is not a whole number from -1.
    """
    folds = _read(path)
    if not folds.keys() & dataset.by_id.keys():
        raise SegtoolError(f"{path} lists no image of {dataset.path}; is it of another data set?")
    return folds


def _read(path: Path) -> dict[str, int]:
    folds: dict[str, int] = {}
    for row in read_csv(path, ("image_id", "fold")):
        image_id, fold = row["image_id"], row["fold"]
        if image_id in folds:
            raise SegtoolError(f"{path}: duplicate image_id {image_id!r}")
        folds[image_id] = to_whole_number(fold, f"{path}: the fold of {image_id!r}")
        if folds[image_id] < ALWAYS_TRAIN:
            raise SegtoolError(f"{path}: the fold of {image_id!r} is {fold}, not a whole number from -1")
    return folds


def write_folds(path: Path, folds: Mapping[str, int]) -> None:
    """Write `folds.csv` sorted by image_id, so that two versions can be compared line by line."""
    write_csv(path, ("image_id", "fold"), sorted(folds.items()))


def choose_fold(folds: Mapping[str, int], fold: int, where: Path) -> set[str]:
    """Return the ids held out by a fold. Raises UsageError if there is no such fold."""
    present = sorted({number for number in folds.values() if number >= 0})
    if fold not in present:
        raise UsageError(f"{where} has no fold {fold}; it has {', '.join(map(str, present)) or 'none'}")
    return {image_id for image_id, number in folds.items() if number == fold}
