"""`samples.csv`: the images a model has seen, and so which runs may predict an image out-of-fold."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.image_identity import Identity, identify_all
from segtool.core.tables import read_csv, write_csv
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)

COLUMNS = ("source", "image_id", "role", "digest", "pixels")
# Runs of earlier versions have no `pixels`.
REQUIRED = COLUMNS[:-1]
# Written by `segtool pseudo`: the images that the models behind the pseudo-labels were trained on.
TEACHERS = "teachers.csv"
ROLES = ("train", "init", "valid", "twin", "teacher")


@dataclass(frozen=True)
class Samples:
    """The images that a run has seen, according to its `samples.csv`.

    Attributes:
        trained: digests, of files and of pixels, of the images that its weights were trained on.
        held: image_id and identity of the images it was validated on.
        taught: digests, of files and of pixels, of the images that its teachers were trained on.
        known: digest of a file → digest of its pixels.
    """

    trained: frozenset[str]
    held: frozenset[tuple[str, Identity]]
    taught: frozenset[str] = frozenset()
    known: Mapping[str, str] = field(default_factory=dict, compare=False)


def write_samples(
    path: Path,
    dataset: Dataset,
    train: Sequence[Record],
    valid: Sequence[Record],
    *,
    init: Path | None = None,
    teachers: Mapping[str, Path] | None = None,
) -> int:
    """Write `samples.csv`, and return the number of duplicates.

    The source is the file name of the data set, or `extra 1` and so on for the --extra data sets. Roles are

        train      an image that the run trains on
        valid      an image that it is validated on
        init       an image that its initial weights were trained on
        teacher    an image that the models behind its pseudo-labels were trained on
        twin       a training image with the pixels of a validation image: left out, as it would spoil the score

    Args:
        init: `samples.csv` of the run that the initial weights come from.
        teachers: name of a source → its `teachers.csv`.
    """
    inherited = read_roles(init) if init else []
    known = {row["digest"]: row["pixels"] for row in inherited if row["pixels"]}
    held = list(zip(valid, identify_all((record.files for record in valid), known), strict=True))
    contents = frozenset(digest for _, identity in held for digest in identity if digest)
    seen = list(zip(train, identify_all((record.files for record in train), known), strict=True))
    rows = [(r, "twin" if identity.among(contents) else "train", identity) for r, identity in seen]
    rows += [(r, "valid", identity) for r, identity in held]
    lines = [(dataset.source(r), r.image_id, role, *identity) for r, role, identity in rows]
    lines += [("init", *_line(row, "init")) for row in inherited if row["role"] in ("train", "init")]
    lines += [("init", *_line(row, "teacher")) for row in inherited if row["role"] == "teacher"]
    for name, file in (teachers or {}).items():
        lines += [(f"{name} teacher", *_line(row, "teacher")) for row in read_roles(file)]
    write_csv(path, COLUMNS, dict.fromkeys(lines))
    return sum(role == "twin" for _, role, _ in rows)


def read_samples(path: Path) -> Samples:
    """Read the images that the run which wrote `path` has seen."""
    rows = read_roles(path)
    if not any(row["pixels"] for row in rows):
        log.info("%s is of an earlier version: copies of its images that were saved again are not recognised", path)
    return Samples(
        trained=_digests(rows, ("train", "init")),
        held=frozenset((r["image_id"], Identity(r["digest"], r["pixels"])) for r in rows if r["role"] == "valid"),
        taught=_digests(rows, ("teacher",)),
        known={row["digest"]: row["pixels"] for row in rows if row["pixels"]},
    )


def read_roles(path: Path) -> list[dict[str, str]]:
    """Read the rows of a `samples.csv`; `pixels` is empty in files of earlier versions."""
    rows = [{**row, "pixels": row.get("pixels") or ""} for row in read_csv(path, REQUIRED)]
    for row in rows:
        if row["role"] not in ROLES:
            raise SegtoolError(f"{path}: role {row['role']!r} of {row['image_id']!r} is not {', '.join(ROLES)}")
    return rows


def merge_samples(path: Path, parts: Sequence[Path]) -> None:
    """Write the `samples.csv` of a model made from several, which has seen whatever any of them was trained on."""
    rows = [row for part in parts for row in read_roles(part)]
    trained, inherited = _digests(rows, ("train",)), _digests(rows, ("init",))
    held = {(row["image_id"], row["digest"]) for row in rows if row["role"] == "valid"}

    def role(row: Mapping[str, str]) -> str:
        # These images need not be in the data set, so their roles are kept.
        if row["role"] in ("init", "teacher"):
            return row["role"]
        identity = Identity(row["digest"], row["pixels"])
        if identity.among(trained):
            return "train"
        if identity.among(inherited):
            return "init"
        return "valid" if (row["image_id"], row["digest"]) in held else "twin"

    write_csv(path, COLUMNS, dict.fromkeys((row["source"], *_line(row, role(row))) for row in rows))


def write_teachers(path: Path, parts: Iterable[Path]) -> None:
    """Write the `teachers.csv` of the runs with these `samples.csv`."""
    rows = [row for part in parts for row in read_roles(part) if row["role"] in ("train", "init", "teacher")]
    write_csv(path, COLUMNS, dict.fromkeys(("", *_line(row, "teacher")) for row in rows))


def refuse_trained(samples: Path, start: Path) -> None:
    """Raise UsageError if the run `start` was trained on validation images of the run with these `samples`."""
    trained = read_samples(start / "samples.csv").trained
    if seen := sorted(image_id for image_id, identity in read_samples(samples).held if identity.among(trained)):
        raise UsageError(
            f"--init {start} was trained on {len(seen)} of the validation images (such as {seen[0]}), so their scores"
            " would mean nothing; use the run of the same fold, or --fold all"
        )


def without_duplicates(path: Path, dataset: Dataset, train: Iterable[Record]) -> list[Record]:
    """Return the training records that are not duplicates of validation images, according to `samples.csv`."""
    left_out = {(row["source"], row["image_id"]) for row in read_roles(path) if row["role"] == "twin"}
    return [record for record in train if (dataset.source(record), record.image_id) not in left_out]


def members_for(
    subset: str, identities: Mapping[str, Identity], runs: Mapping[str, Samples]
) -> dict[str, tuple[str, ...]]:
    """Return the names of the runs that predict each image of a subset, by image_id.

    Args:
        subset: `valid`: the images that the runs held out, predicted by all runs. `oof`: all images, each predicted by
            the runs that were not trained on it.
        identities: image_id → identity of the image.
        runs: name → `read_samples` of the run.

    Raises:
        UsageError: `valid`, and no image is held out, or another run was trained on one that is; `oof`, and every run
            was trained on some image.
    """
    everyone = tuple(runs)
    unseen = {
        image_id: tuple(name for name, samples in runs.items() if not identity.among(samples.trained))
        for image_id, identity in identities.items()
    }
    if subset == "oof":
        seen = [image_id for image_id, names in unseen.items() if not names]
        if seen:
            raise UsageError(
                f"--subset oof: every run was trained on {seen[0]!r} (and {len(seen) - 1} more images); give the runs"
                " of all folds, or use --subset valid if some images have fold -1"
            )
        return unseen
    held = {
        (image_id, digest)
        for samples in runs.values()
        for image_id, identity in samples.held
        for digest in identity
        if digest
    }
    chosen = {
        image_id: names
        for image_id, names in unseen.items()
        if any((image_id, digest) in held for digest in identities[image_id])
    }
    if not chosen:
        raise UsageError("--subset valid: the runs held out no image of this data set (trained with --fold all?)")
    for image_id, names in chosen.items():
        if names != everyone:
            other = next(name for name in everyone if name not in names)
            raise UsageError(
                f"--subset valid: {other} was trained on {image_id!r}; --subset oof uses only the other runs"
            )
    return chosen


def out_of_fold(
    members: Mapping[str, Sequence[str]], identities: Mapping[str, Identity], runs: Mapping[str, Samples]
) -> set[str]:
    """Return the ids of images that no run which predicts them (by `members_for`) was trained on."""
    return {
        image_id
        for image_id, names in members.items()
        if not any(identities[image_id].among(runs[name].trained) for name in names)
    }


def _digests(rows: Iterable[Mapping[str, str]], roles: Sequence[str]) -> frozenset[str]:
    """Return digests, of files and of pixels, of the images with one of these roles."""
    chosen = (row for row in rows if row["role"] in roles)
    return frozenset(digest for row in chosen for digest in (row["digest"], row["pixels"]) if digest)


def _line(row: Mapping[str, str], role: str) -> tuple[str, str, str, str]:
    return row["image_id"], role, row["digest"], row["pixels"]
