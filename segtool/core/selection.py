"""Which images a run trains on, which it is validated on, and which it has therefore seen (`samples.csv`)."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtool.core.catalog import Dataset, Record, with_masks
from segtool.core.files import digest_file, read_csv, write_csv
from segtool.core.folds import choose_fold, read_folds
from segtool.core.identity import image_digest
from segtool.errors import SegtoolError, UsageError
from segtool.settings.data import FoldSettings

HELD_OUT_SHARE = 0.2
COLUMNS = ("source", "image_id", "role", "digest")


def select(dataset: Dataset, settings: FoldSettings) -> tuple[list[Record], list[Record]]:
    """Training and validation records of a run.

    The choice depends on ids and groups only: never on the seed, nor on the order of the rows.

    Raises:
        SegtoolError: no image has a mask, or no training images are left; `--only` names an unknown image.
        UsageError: the fold does not exist, or it holds no image.
    """
    records = with_masks(dataset.train)
    if not records:
        raise SegtoolError(f"{dataset.path}: no training image has a mask")
    held = _held_out(dataset, records, settings)
    wanted = read_only(settings.only, dataset)
    train = [r for r in records if r.image_id not in held and (wanted is None or r.image_id in wanted)]
    valid = [r for r in records if r.image_id in held]
    if held and not valid:
        raise UsageError(f"fold {settings.fold} of {settings.folds} holds no image with a mask: no validation images")
    if not train:
        named = f"{settings.only} names none of the training images: " if wanted is not None else ""
        raise SegtoolError(f"{named}{dataset.path}: no training images are left beside {len(valid)} for validation")
    return limit(train, settings.max_samples), limit(valid, settings.max_samples)


def read_only(path: Path | None, dataset: Dataset) -> frozenset[str] | None:
    """The image_ids that `--only` names, None without; raises SegtoolError where one is not in the data set."""
    if path is None:
        return None
    ids = [row["image_id"] for row in read_csv(path, ("image_id",))]
    if unknown := [image_id for image_id in ids if image_id not in dataset.by_id]:
        raise SegtoolError(f"{path} names {unknown[0]!r}, which {dataset.path} has not ({len(unknown)} such ids)")
    return frozenset(ids)


def only_digest(path: Path | None) -> dict[str, str]:
    """The digest of the file of `--only`, where there is one."""
    return {"only": digest_file(path)} if path else {}


def limit(records: Sequence[Record], count: int) -> list[Record]:
    """At most `count` records (0: all), spread over the data by a digest of their ids, in their own order."""
    if not count or len(records) <= count:
        return list(records)
    chosen = set(sorted((r.image_id for r in records), key=_rank)[:count])
    return [r for r in records if r.image_id in chosen]


@dataclass(frozen=True)
class Samples:
    """What a run has seen, as its `samples.csv` says.

    trained: content digests of the images it was trained on.
    held: image_id and content digest of those it was validated on.
    """

    trained: frozenset[str]
    held: frozenset[tuple[str, str]]


def write_samples(path: Path, dataset: Dataset, train: Iterable[Record], valid: Iterable[Record]) -> int:
    """Write `samples.csv`: source, image_id, role, and the digest of `identity`; returns the number of twins.

    The source is the data set's file name, or `extra 1` and so on for those of the --extra options.

    Roles are `train`, `valid`, and `twin`: a training image whose content is that of a validation image. Trained on, it
    would make the validation score mean nothing, so it is left out.
    """
    held = [(record, image_digest(record.image)) for record in valid]
    contents = {digest for _, digest in held}
    seen = [(record, image_digest(record.image)) for record in train]
    rows = [(r, "twin" if digest in contents else "train", digest) for r, digest in seen]
    rows += [(r, "valid", digest) for r, digest in held]
    write_csv(path, COLUMNS, [(dataset.source(r), r.image_id, role, digest) for r, role, digest in rows])
    return sum(role == "twin" for _, role, _ in rows)


def read_samples(path: Path) -> Samples:
    """What the run that wrote `path` has seen."""
    rows = read_roles(path)
    return Samples(
        trained=frozenset(row["digest"] for row in rows if row["role"] == "train"),
        held=frozenset((row["image_id"], row["digest"]) for row in rows if row["role"] == "valid"),
    )


def merge_samples(path: Path, parts: Sequence[Path]) -> None:
    """Write the `samples.csv` of a model made of several: it has seen what any of them was trained on."""
    rows = [row for part in parts for row in read_roles(part)]
    trained = {row["digest"] for row in rows if row["role"] == "train"}
    held = {(row["image_id"], row["digest"]) for row in rows if row["role"] == "valid"}

    def role(image_id: str, digest: str) -> str:
        return "train" if digest in trained else "valid" if (image_id, digest) in held else "twin"

    merged = dict.fromkeys((r["source"], r["image_id"], role(r["image_id"], r["digest"]), r["digest"]) for r in rows)
    write_csv(path, COLUMNS, merged)


def refuse_seen(samples: Path, start: Path) -> None:
    """Raise UsageError where the run that this one starts from has learnt this one's validation images."""
    trained = read_samples(start / "samples.csv").trained
    if seen := sorted(image_id for image_id, digest in read_samples(samples).held if digest in trained):
        raise UsageError(
            f"--init {start} was trained on {len(seen)} of the validation images (such as {seen[0]}), so that their"
            " scores would mean nothing; use the run of the same fold, or --fold all"
        )


def without_twins(path: Path, dataset: Dataset, train: Iterable[Record]) -> list[Record]:
    """The training records that `samples.csv` does not call twins of validation images."""
    twins = {(row["source"], row["image_id"]) for row in read_roles(path) if row["role"] == "twin"}
    return [record for record in train if (dataset.source(record), record.image_id) not in twins]


def read_roles(path: Path) -> list[dict[str, str]]:
    """The rows of a `samples.csv`."""
    rows = read_csv(path, COLUMNS)
    for row in rows:
        if row["role"] not in ("train", "valid", "twin"):
            raise SegtoolError(f"{path}: role {row['role']!r} of {row['image_id']!r} is not train, valid or twin")
    return rows


def _held_out(dataset: Dataset, records: Sequence[Record], settings: FoldSettings) -> set[str]:
    if settings.fold is None:
        return set()
    if settings.folds is not None:
        return choose_fold(read_folds(settings.folds, dataset), settings.fold, settings.folds)
    if settings.fold != 0:
        raise UsageError(f"--fold {settings.fold} needs --folds FILE; `segtool split` makes one")
    return _default_holdout(records)


def _default_holdout(records: Sequence[Record]) -> set[str]:
    """About 20 % of the images, by a digest of group or id; groups stay whole where there are at least two."""
    grouped = len({r.group or r.image_id for r in records}) > 1
    units: dict[str, list[str]] = {}
    for record in records:
        units.setdefault(record.group if grouped and record.group else record.image_id, []).append(record.image_id)
    held: set[str] = set()
    for name in sorted(units, key=_rank)[:-1]:
        if len(held) >= HELD_OUT_SHARE * len(records):
            break
        # A group so large that it would leave less than half for training is no validation set.
        if len(held) + len(units[name]) <= len(records) / 2:
            held.update(units[name])
    if not held:
        raise UsageError(
            f"nothing to hold out of {len(records)} image(s) in {len(units)} group(s): use --fold all or --folds FILE"
        )
    return held


def _rank(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def members_for(subset: str, digests: Mapping[str, str], runs: Mapping[str, Samples]) -> dict[str, tuple[str, ...]]:
    """Which runs predict each image of a subset: image_id → names of runs, for those images that belong to it.

    Args:
        subset: `test` and `train`: all images by all runs. `valid`: the images the runs held out, by all runs.
            `oof`: all images, each by the runs that were not trained on it.
        digests: image_id → content digest of the image.
        runs: name → `read_samples` of the run.

    Raises:
        UsageError: `valid` without held-out images, or with one that another of the runs was trained on; `oof` with
            an image that every run was trained on.
    """
    everyone = tuple(runs)
    if subset in ("test", "train"):
        return dict.fromkeys(digests, everyone)
    unseen = {
        image_id: tuple(name for name, samples in runs.items() if digest not in samples.trained)
        for image_id, digest in digests.items()
    }
    if subset == "oof":
        seen = [image_id for image_id, names in unseen.items() if not names]
        if seen:
            raise UsageError(
                f"--subset oof: every run was trained on {seen[0]!r} (and {len(seen) - 1} more images); give the runs"
                " of all folds, or use --subset valid where images of fold -1 are in none"
            )
        return unseen
    held = {pair for samples in runs.values() for pair in samples.held}
    chosen = {image_id: names for image_id, names in unseen.items() if (image_id, digests[image_id]) in held}
    if not chosen:
        raise UsageError("--subset valid: the runs held out no image of this data set (trained with --fold all?)")
    for image_id, names in chosen.items():
        if names != everyone:
            other = next(name for name in everyone if name not in names)
            raise UsageError(
                f"--subset valid: {other} was trained on {image_id!r}; --subset oof takes the other runs only"
            )
    return chosen


def out_of_fold(
    members: Mapping[str, Sequence[str]], digests: Mapping[str, str], runs: Mapping[str, Samples]
) -> set[str]:
    """Ids of images that none of the runs which predict them (as `members_for` says) was trained on."""
    return {
        image_id
        for image_id, names in members.items()
        if not any(digests[image_id] in runs[name].trained for name in names)
    }


def cover_classes(counts: npt.NDArray[np.int64], wanted: int) -> list[int]:
    """Rows of (images, classes) pixel counts, chosen so that every class that occurs is in at least two if possible.

    Rarest class first (by the number of images that hold it), each time from the images that hold it the ones with
    most of it; the rest are spread at random, by a fixed seed. Ascending.
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
