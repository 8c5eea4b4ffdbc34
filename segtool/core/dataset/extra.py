"""Images of other data sets, for training only: their classes are matched by name."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.dataset.selection import limit
from segtool.core.documents import read_yaml
from segtool.core.files import digest_bytes
from segtool.core.images import IGNORE, Array
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError, near
from segtool.settings.data import ExtraSettings

log = logging.getLogger(__name__)

IGNORED = "ignore"


@dataclass(frozen=True)
class Extra:
    """Where an extra image comes from.

    name: `extra 1` for the first --extra, and so on.
    dataset: the other data set, without its records.
    ids: for each of its mask values, 0 to 255, the class id here or 255.
    """

    name: str
    dataset: Dataset
    ids: tuple[int, ...]

    def read_mask(self, record: Record) -> Array:
        """The mask with the class ids of the data set that is trained on."""
        return np.asarray(cv2.LUT(self.dataset.read_mask(replace(record, origin=None)), np.array(self.ids, np.uint8)))


def read_extras(settings: ExtraSettings, dataset: Dataset, max_samples: int) -> list[Record]:
    """All extra images with a mask, their weights multiplied by that of their data set.

    Args:
        max_samples: at most so many of each data set; 0: all.

    Raises:
        UsageError: `settings` name a data set twice, or the one that is trained on.
        SegtoolError: a data set or the map is wrong, or does not fit: other channels, no class in common.
    """
    others = [(load_dataset(path), weight) for path, weight in map(split_weight, settings.extra)]
    seen = [dataset.path.resolve()]
    for other, _ in others:
        if (path := other.path.resolve()) in seen:
            which = "the data set itself" if path == seen[0] else "given twice"
            raise UsageError(f"--extra {other.path} is {which}: its images are there already")
        seen.append(path)
    renamed = _read_map(settings.extra_map, dataset, [other for other, _ in others])
    records: list[Record] = []
    for number, (other, weight) in enumerate(others, 1):
        origin = _origin(f"extra {number}", other, dataset, renamed)
        found = limit(with_masks(other.train), max_samples)
        if not found:
            raise SegtoolError(f"--extra {other.path}: no training image has a mask")
        log.info("%s: %d images of %s, %s", origin.name, len(found), other.path, _told(origin, dataset))
        records += [replace(record, weight=record.weight * weight, origin=origin) for record in found]
    return records


def split_weight(text: Path) -> tuple[Path, float]:
    """`other.yaml:0.5` → (other.yaml, 0.5); the weight is 1 where none is given."""
    name, colon, tail = str(text).rpartition(":")
    try:
        weight = float(tail) if colon else math.nan
    except ValueError:
        return text, 1.0
    if not colon:
        return text, 1.0
    if not 0 < weight < math.inf:
        raise UsageError(f"--extra {text}: the weight {tail!r} is not a number above 0")
    return Path(name), weight


def extra_digests(records: Iterable[Record]) -> dict[str, str]:
    """Digests of what is read of the extra images among `records`: like `Dataset.digests`, and how ids are matched."""
    by_origin: dict[str, list[Record]] = {}
    for record in records:
        if record.origin:
            by_origin.setdefault(record.origin.name, []).append(record)
    digests = {}
    for name, group in by_origin.items():
        origin = group[0].origin
        assert isinstance(origin, Extra)
        digests.update({f"{name} {key}": value for key, value in origin.dataset.digests(group).items()})
        digests[f"{name} classes"] = digest_bytes(bytes(origin.ids))
    return digests


def _origin(name: str, other: Dataset, dataset: Dataset, renamed: Mapping[str, str]) -> Extra:
    if other.channels != dataset.channels:
        raise SegtoolError(
            f"--extra {other.path} has images of {other.channels} channels, {dataset.path} of {dataset.channels}"
        )
    ids = [IGNORE] * (IGNORE + 1)
    for index, theirs in enumerate(other.classes):
        ours = renamed.get(theirs, theirs)
        if ours in dataset.classes:
            ids[index] = dataset.classes.index(ours)
    if set(ids) == {IGNORE}:
        raise SegtoolError(
            f"--extra {other.path}: none of its classes ({', '.join(other.classes[:6])}) is one of {dataset.path}"
            f" ({', '.join(dataset.classes[:6])}); --extra-map FILE says which is which"
        )
    return Extra(name, replace(other, train=(), test=()), tuple(ids))


def _told(origin: Extra, dataset: Dataset) -> str:
    """Which classes became which, for the log."""
    pairs = [(theirs, origin.ids[index]) for index, theirs in enumerate(origin.dataset.classes)]
    matched = [
        theirs if theirs == dataset.classes[ours] else f"{theirs} as {dataset.classes[ours]}"
        for theirs, ours in pairs
        if ours != IGNORE
    ]
    ignored = [theirs for theirs, ours in pairs if ours == IGNORE]
    return f"classes {', '.join(matched)}" + (f"; ignored: {', '.join(ignored)}" if ignored else "")


def _read_map(path: Path | None, dataset: Dataset, others: Sequence[Dataset]) -> dict[str, str]:
    """Their class name → ours, or `ignore`.

    Raises:
        SegtoolError: not such a file, or a name that neither side knows.
    """
    if path is None:
        return {}
    renamed = _map_of_csv(path) if path.suffix.lower() == ".csv" else _map_of_yaml(path)
    theirs = {name for other in others for name in other.classes}
    for name, ours in renamed.items():
        if name not in theirs:
            raise SegtoolError(f"{path}: no --extra has a class {name!r}{near(name, theirs)}")
        if ours not in (*dataset.classes, IGNORED):
            known = (*dataset.classes, IGNORED)
            raise SegtoolError(f"{path}: {ours!r} is neither a class of {dataset.path} nor `ignore`{near(ours, known)}")
    return renamed


def _map_of_csv(path: Path) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for row in read_csv(path, ("theirs", "ours")):
        if row["theirs"] in renamed:
            raise SegtoolError(f"{path}: class {row['theirs']!r} stands twice")
        renamed[row["theirs"]] = row["ours"]
    return renamed


def _map_of_yaml(path: Path) -> dict[str, str]:
    content = read_yaml(path, dict[Any, Any])
    if odd := [name for pair in content.items() for name in pair if name is None or isinstance(name, bool)]:
        raise SegtoolError(f"{path}: YAML reads a class name as {odd[0]!r}; put it in quotes, such as 'no'")
    return {str(theirs): str(ours) for theirs, ours in content.items()}
