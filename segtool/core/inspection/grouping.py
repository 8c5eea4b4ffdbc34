"""Groups of images that should stay in one fold, where train.csv names none."""

from collections.abc import Sequence

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.inspection.duplicates import Ints, components, find_pairs, unite
from segtool.core.inspection.sequences import sequence_names
from segtool.core.inspection.thumbnails import read_thumbnails
from segtool.core.reporting.progress import Track, silent


def group_near_duplicates(
    dataset: Dataset, records: Sequence[Record], groups: Ints, track: Track = silent, workers: int | None = None
) -> Ints:
    """Join the groups, int64 (N,), that near-duplicates connect. Raises SegtoolError if an image cannot be read."""
    pairs = find_pairs(read_thumbnails(dataset, records, workers, track))
    return unite(groups, components(len(records), pairs))


def group_sequences(records: Sequence[Record], groups: Ints) -> Ints:
    """Join the groups, int64 (N,), that sequences connect by the numbered names of their images."""
    return unite(groups, _number_sequences(records))


def torn_sequences(records: Sequence[Record], folds: Ints) -> list[str]:
    """Return the sequences, by their names, that have images in more than one fold."""
    parts: dict[str, set[int]] = {}
    for name, fold in zip(_names(records), folds.tolist(), strict=True):
        parts.setdefault(name, set()).add(fold)
    return sorted(name for name, found in parts.items() if name and len(found) > 1)


def _names(records: Sequence[Record]) -> list[str]:
    return sequence_names([record.image_id for record in records])


def _number_sequences(records: Sequence[Record]) -> Ints:
    """Number the sequences from 0; an image without a sequence is one of its own."""
    keys = [(name, "" if name else record.image_id) for name, record in zip(_names(records), records, strict=True)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)
