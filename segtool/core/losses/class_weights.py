"""Class weights of the loss, from the frequencies in the training masks or from a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.splits import Ints, count_pixels
from segtool.core.files import digest_file
from segtool.core.images import IGNORE
from segtool.core.planes import class_pixels
from segtool.core.reporting.progress import Track, silent
from segtool.core.tables import read_csv, to_number, write_csv
from segtool.errors import SegtoolError, did_you_mean

WORDS = ("none", "median", "inverse-log")


def class_weights(
    source: str, dataset: Dataset, train: Sequence[Record], kept: Path, track: Track = silent
) -> tuple[float, ...] | None:
    """Return the weight of each class, or None if all weigh the same.

    Args:
        source: `none`, `median`, `inverse-log` or the path of a CSV.
        train: the records whose masks are counted, one at a time.
        kept: the run's own CSV. If it exists, it is read and nothing is counted; otherwise it is written.

    Raises:
        SegtoolError: a mask or the CSV is wrong.
    """
    if source == "none":
        return None
    if not kept.exists():
        if source in WORDS:
            counts, valid = _count(dataset, train, track)
            weights = median_frequency(counts, valid) if source == "median" else inverse_log(counts, valid)
        else:
            weights = read_class_weights(Path(source), dataset.classes)
        write_csv(kept, ("class", "weight"), list(zip(dataset.classes, weights, strict=True)))
    return read_class_weights(kept, dataset.classes)


def _count(dataset: Dataset, train: Sequence[Record], track: Track) -> tuple[Ints, Ints | None]:
    """Return the pixels of each class, and, where classes may overlap, the pixels for which each is annotated."""
    if not dataset.multi:
        return count_pixels(dataset, train, track), None
    counts = np.zeros((2, len(train), len(dataset.classes)), np.int64)
    for row, record in enumerate(track(train, total=len(train), label="reading masks")):
        planes = dataset.read_mask(record)
        counts[:, row] = class_pixels(planes, len(planes)), (planes != IGNORE).sum((1, 2))
    return counts[0], counts[1]


def median_frequency(counts: Ints, valid: Ints | None = None) -> tuple[float, ...]:
    """Divide the median of the class frequencies by each frequency: median-frequency balancing (Eigen and Fergus 2015).

    The frequency of a class is its pixels over all valid pixels of the images that hold it. Classes that do not occur
    are left out of the median and get 1.

    Args:
        counts: pixels of each class in each image, int64 (N, C).
        valid: pixels for which the class is annotated, int64 (N, C), where that differs from all that are counted.
    """
    pixels = counts.sum(axis=0)
    pixels_of_images = ((counts > 0) * (counts.sum(axis=1, keepdims=True) if valid is None else valid)).sum(axis=0)
    occurs = pixels > 0
    frequency = pixels[occurs] / pixels_of_images[occurs]
    weights = np.ones(len(pixels))
    if len(frequency):
        weights[occurs] = np.median(frequency) / frequency
    return tuple(weights.tolist())


def inverse_log(counts: Ints, valid: Ints | None = None) -> tuple[float, ...]:
    """Return 1 / ln(1.02 + p) of each class's share p of all valid pixels (ENet, Paszke et al. 2016): 1.4 to 50.5.

    Args:
        counts, valid: as for `median_frequency`.
    """
    pixels = counts.sum(axis=0)
    total = pixels.sum() if valid is None else valid.sum(axis=0)
    return tuple((1 / np.log(1.02 + pixels / np.maximum(1, total))).tolist())


def read_class_weights(path: Path, classes: Sequence[str]) -> tuple[float, ...]:
    """Read weights from a CSV of `class,weight`, in the order of `classes`.

    Raises:
        SegtoolError: a class is missing, unknown or listed twice, or a weight is negative or not a number.
    """
    weights: dict[str, float] = {}
    for line, row in enumerate(read_csv(path, ("class", "weight")), 2):
        name = row["class"]
        if name not in classes:
            raise SegtoolError(f"{path}, line {line}: the data set has no class {name!r}{did_you_mean(name, classes)}")
        if name in weights:
            raise SegtoolError(f"{path}, line {line}: duplicate class {name!r}")
        weights[name] = to_number(row["weight"], f"{path}, line {line}: weight")
        if not weights[name] >= 0:
            raise SegtoolError(f"{path}, line {line}: weight {row['weight']!r} is not a number from 0")
    if missing := [name for name in classes if name not in weights]:
        raise SegtoolError(f"{path}: no weight for {', '.join(map(repr, missing))}; every class needs one")
    if not any(weights.values()):
        raise SegtoolError(f"{path}: all weights are 0; nothing would be learnt")
    return tuple(weights[name] for name in classes)


def class_weights_digest(source: str) -> dict[str, str]:
    """Return the digest of a file of class weights, as an input of the run; nothing if the masks give the weights."""
    if source in WORDS:
        return {}
    if not Path(source).is_file():
        raise SegtoolError(
            f"--class-weights: no file {source} (and not none, median or inverse-log){did_you_mean(source, WORDS)}"
        )
    return {"class_weights": digest_file(Path(source))}
