"""Select the training and the validation images of a run."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Dataset, Record, with_masks
from segtool.core.dataset.folds import choose_fold, read_folds
from segtool.core.files import digest_file
from segtool.core.tables import read_csv
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import FoldSettings

HELD_OUT_SHARE = 0.2


def select(dataset: Dataset, settings: FoldSettings) -> tuple[list[Record], list[Record]]:
    """Return the training and the validation records of a run.

    The choice depends on ids and groups alone, not on the seed or on the order of the rows.

    Raises:
        SegtoolError: no image has a mask, no training image is left, or `--only` lists an unknown image.
        UsageError: the fold does not exist, or holds no image with a mask.
    """
    records = with_masks(dataset.train)
    if not records:
        raise SegtoolError(f"{dataset.path}: no training image has a mask")
    held = _held_out(dataset, records, settings)
    only = read_only(settings.only, dataset)
    train = [r for r in records if r.image_id not in held and (only is None or r.image_id in only)]
    valid = [r for r in records if r.image_id in held]
    if held and not valid:
        raise UsageError(f"fold {settings.fold} of {settings.folds} holds no image with a mask: no validation images")
    if not train:
        reason = f"{settings.only} lists none of the training images: " if only is not None else ""
        raise SegtoolError(f"{reason}{dataset.path}: no training images are left beside {len(valid)} for validation")
    return limit(train, settings.max_samples), limit(valid, settings.max_samples)


def read_only(path: Path | None, dataset: Dataset) -> frozenset[str] | None:
    """Read the image_ids of the `--only` file, None without one. Raises SegtoolError for an unknown image_id."""
    if path is None:
        return None
    ids = [row["image_id"] for row in read_csv(path, ("image_id",))]
    if unknown := [image_id for image_id in ids if image_id not in dataset.by_id]:
        raise SegtoolError(f"{path} lists {unknown[0]!r}, which is not in {dataset.path} ({len(unknown)} unknown ids)")
    return frozenset(ids)


def only_digest(path: Path | None) -> dict[str, str]:
    """Return the digest of the `--only` file, if there is one."""
    return {"only": digest_file(path)} if path else {}


def limit(records: Sequence[Record], count: int) -> list[Record]:
    """Return at most `count` records (0: all), chosen by a digest of their ids, in their original order."""
    if not count or len(records) <= count:
        return list(records)
    chosen = set(sorted((r.image_id for r in records), key=_rank)[:count])
    return [r for r in records if r.image_id in chosen]


def _held_out(dataset: Dataset, records: Sequence[Record], settings: FoldSettings) -> set[str]:
    if settings.fold is None:
        return set()
    if settings.folds is not None:
        return choose_fold(read_folds(settings.folds, dataset), settings.fold, settings.folds)
    if settings.fold != 0:
        raise UsageError(f"--fold {settings.fold} needs --folds FILE; `segtool split` makes one")
    return _default_holdout(records)


def _default_holdout(records: Sequence[Record]) -> set[str]:
    """Return the ids of about 20 % of the images, chosen by a digest of group or id; groups stay whole if several."""
    grouped = len({r.group or r.image_id for r in records}) > 1
    units: dict[str, list[str]] = {}
    for record in records:
        units.setdefault(record.group if grouped and record.group else record.image_id, []).append(record.image_id)
    held: set[str] = set()
    for name in sorted(units, key=_rank)[:-1]:
        if len(held) >= HELD_OUT_SHARE * len(records):
            break
        # At least half of the images must remain for training.
        if len(held) + len(units[name]) <= len(records) / 2:
            held.update(units[name])
    if not held:
        raise UsageError(
            f"nothing to hold out of {len(records)} image(s) in {len(units)} group(s): use --fold all or --folds FILE"
        )
    return held


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def cover_classes(counts: npt.NDArray[np.int64], wanted: int) -> list[int]:
    """Choose rows of (images, classes) pixel counts so that every class that occurs is in at least two if possible.

    Rarest class first (by the number of images that contain it), the images with most of its pixels first; the rest
    are random, by a fixed seed. Ascending.
    """
    present = counts > 0
    chosen: set[int] = set()
    for index in sorted(range(counts.shape[1]), key=lambda c: int(present[:, c].sum())):
        holders = np.flatnonzero(present[:, index])
        for row in holders[np.argsort(-counts[holders, index], kind="stable")]:
            if len(chosen) >= wanted or sum(present[r, index] for r in chosen) >= 2:
                break
            chosen.add(int(row))
    for row in np.random.default_rng(0).permutation(len(counts)):
        if len(chosen) >= wanted:
            break
        chosen.add(int(row))
    return sorted(chosen)
