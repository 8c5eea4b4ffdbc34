"""Class weights of the loss: from the frequencies in the training masks, or from a file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.splits import Ints, count_pixels
from segtool.core.files import digest_file
from segtool.core.reporting.progress import Track, silent
from segtool.core.tables import read_csv, to_number, write_csv
from segtool.errors import SegtoolError, did_you_mean

WORDS = ("none", "median", "inverse-log")


def class_weights(
    wanted: str, dataset: Dataset, train: Sequence[Record], kept: Path, track: Track = silent
) -> tuple[float, ...] | None:
    """The weight of each class, or None where all weigh the same.

    Args:
        wanted: `none`, `median`, `inverse-log` or the path of a CSV.
        train: the records whose masks are counted, one at a time.
        kept: the run's own CSV. Where it exists it is read and nothing is counted; else it is written.

    Raises:
        SegtoolError: a mask or the CSV is at fault.
    """
    if wanted == "none":
        return None
    if not kept.exists():
        if wanted in WORDS:
            counts = count_pixels(dataset, train, track)
            weights = median_frequency(counts) if wanted == "median" else inverse_log(counts)
        else:
            weights = read_class_weights(Path(wanted), dataset.classes)
        write_csv(kept, ("class", "weight"), list(zip(dataset.classes, weights, strict=True)))
    return read_class_weights(kept, dataset.classes)


def median_frequency(counts: Ints) -> tuple[float, ...]:
    """Median-frequency balancing (Eigen and Fergus 2015): the median of all classes' frequencies over the class's own.

    A class's frequency is its pixels over all valid pixels of the images that hold it. Classes that occur nowhere
    have no part in the median; they get 1.

    Args:
        counts: pixels of each class in each image, int64 (N, C).
    """
    pixels = counts.sum(axis=0)
    around = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
    occurs = pixels > 0
    frequency = pixels[occurs] / around[occurs]
    weights = np.ones(len(pixels))
    if len(frequency):
        weights[occurs] = np.median(frequency) / frequency
    return tuple(weights.tolist())


def inverse_log(counts: Ints) -> tuple[float, ...]:
    """1 / ln(1.02 + p) of each class's share p of all valid pixels (ENet, Paszke et al. 2016): from 1.4 to 50.5.

    Args:
        counts: pixels of each class in each image, int64 (N, C).
    """
    pixels = counts.sum(axis=0)
    return tuple((1 / np.log(1.02 + pixels / max(1, pixels.sum()))).tolist())


def read_class_weights(path: Path, classes: Sequence[str]) -> tuple[float, ...]:
    """Weights from a CSV of `class,weight`, in the order of `classes`.

    Raises:
        SegtoolError: a class is missing, unknown or there twice, or a weight is no number from 0.
    """
    found: dict[str, float] = {}
    for line, row in enumerate(read_csv(path, ("class", "weight")), 2):
        name = row["class"]
        if name not in classes:
            raise SegtoolError(f"{path}, line {line}: the data set has no class {name!r}{did_you_mean(name, classes)}")
        if name in found:
            raise SegtoolError(f"{path}, line {line}: class {name!r} stands there twice")
        found[name] = _weight(row["weight"], f"{path}, line {line}")
    if missing := [name for name in classes if name not in found]:
        raise SegtoolError(f"{path}: no weight for {', '.join(map(repr, missing))}; every class needs one")
    if not any(found.values()):
        raise SegtoolError(f"{path}: all weights are 0; nothing would be learnt")
    return tuple(found[name] for name in classes)


def class_weights_digest(wanted: str) -> dict[str, str]:
    """The digest of a file of class weights, as an input of the run; nothing where they come from the masks."""
    if wanted in WORDS:
        return {}
    if not Path(wanted).is_file():
        raise SegtoolError(
            f"--class-weights: no file {wanted} (and not none, median or inverse-log){did_you_mean(wanted, WORDS)}"
        )
    return {"class_weights": digest_file(Path(wanted))}


def _weight(text: str, where: str) -> float:
    weight = to_number(text, f"{where}: weight")
    if not weight >= 0:
        raise SegtoolError(f"{where}: weight {text!r} is not a number from 0")
    return weight
