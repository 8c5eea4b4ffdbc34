"""Training images from other data sets, with classes matched by name."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from segtool.core.dataset.class_map import IGNORED, read_renames
from segtool.core.dataset.dataset import Dataset, Origin, Record, load_dataset, with_masks
from segtool.core.dataset.selection import limit
from segtool.core.files import digest_bytes
from segtool.core.images import IGNORE
from segtool.errors import SegtoolError, UsageError, did_you_mean
from segtool.settings.data import ExtraSettings

log = logging.getLogger(__name__)


def read_extras(settings: ExtraSettings, dataset: Dataset, max_samples: int) -> list[Record]:
    """Read all extra images that have a mask, with their weights multiplied by the weight of their data set.

    Args:
        max_samples: the most images to take from each data set; 0: all.

    Raises:
        UsageError: a data set is given twice, or is the one being trained on.
        SegtoolError: a data set or the map is wrong, or does not fit: other channels, no class in common.
    """
    others = [(load_dataset(path), weight) for path, weight in map(split_weight, settings.extra)]
    seen = [dataset.path.resolve()]
    for other, _ in others:
        if (path := other.path.resolve()) in seen:
            which = "the data set itself" if path == seen[0] else "given twice"
            raise UsageError(f"--extra {other.path} is {which}: its images are used already")
        seen.append(path)
    renamed = _read_map(settings.extra_map, dataset, [other for other, _ in others])
    records: list[Record] = []
    for number, (other, weight) in enumerate(others, 1):
        origin = _origin(f"extra {number}", other, dataset, renamed)
        labelled = limit(with_masks(other.train), max_samples)
        if not labelled:
            raise SegtoolError(f"--extra {other.path}: no training image has a mask")
        log.info("%s: %d images of %s, %s", origin.name, len(labelled), other.path, _class_list(origin, dataset))
        records += [replace(record, weight=record.weight * weight, origin=origin) for record in labelled]
    return records


def split_weight(text: Path) -> tuple[Path, float]:
    """Split `other.yaml:0.5` into path and weight, which is 1 if not given."""
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
    """Return digests, as `Dataset.digests` does, of all records from other data sets, and of their class maps."""
    by_origin: dict[Origin, list[Record]] = {}
    for record in records:
        if record.origin:
            by_origin.setdefault(record.origin, []).append(record)
    digests = {}
    for origin, group in by_origin.items():
        digests.update({f"{origin.name} {key}": value for key, value in origin.dataset.digests(group).items()})
        digests[f"{origin.name} classes"] = digest_bytes(bytes(origin.ids))
    return digests


def _origin(name: str, other: Dataset, dataset: Dataset, renamed: Mapping[str, str]) -> Origin:
    if other.labels != dataset.labels:
        raise SegtoolError(f"--extra {other.path} has labels: {other.labels}, {dataset.path} has {dataset.labels}")
    if other.kind != dataset.kind:
        raise SegtoolError(f"--extra {other.path} has images of {other.kind}, {dataset.path} of {dataset.kind}")
    ids = [IGNORE] * (IGNORE + 1)
    for index, theirs in enumerate(other.classes):
        ours = renamed.get(theirs, theirs)
        if ours in dataset.classes:
            ids[index] = dataset.classes.index(ours)
    if set(ids) == {IGNORE}:
        raise SegtoolError(
            f"--extra {other.path}: none of its classes ({', '.join(other.classes[:6])}) is one of {dataset.path}"
            f" ({', '.join(dataset.classes[:6])}); match them with --extra-map FILE"
        )
    return Origin(name, replace(other, train=(), test=()), tuple(ids))


def _class_list(origin: Origin, dataset: Dataset) -> str:
    """Say in the log which classes were matched and which are ignored."""
    pairs = [(theirs, origin.ids[index]) for index, theirs in enumerate(origin.dataset.classes)]
    matched = [
        theirs if theirs == dataset.classes[ours] else f"{theirs} as {dataset.classes[ours]}"
        for theirs, ours in pairs
        if ours != IGNORE
    ]
    ignored = [theirs for theirs, ours in pairs if ours == IGNORE]
    return f"classes {', '.join(matched)}" + (f"; ignored: {', '.join(ignored)}" if ignored else "")


def _read_map(path: Path | None, dataset: Dataset, others: Sequence[Dataset]) -> dict[str, str]:
    """Read the map from their class names to ours, or to `ignore`.

    Raises:
        SegtoolError: the file is malformed, or has a name that neither side knows.
    """
    if path is None:
        return {}
    renamed = read_renames(path)
    theirs = {name for other in others for name in other.classes}
    for name, ours in renamed.items():
        if name not in theirs:
            raise SegtoolError(f"{path}: no --extra has a class {name!r}{did_you_mean(name, theirs)}")
        if ours not in (*dataset.classes, IGNORED):
            known = (*dataset.classes, IGNORED)
            raise SegtoolError(
                f"{path}: {ours!r} is neither a class of {dataset.path} nor `ignore`{did_you_mean(ours, known)}"
            )
    return renamed
