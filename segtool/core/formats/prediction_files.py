"""Which images another code base has predicted, and which of them its user says its models have not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtool.core.dataset.dataset import Dataset, Record, check_image_id, with_masks
from segtool.core.dataset.folds import choose_fold, read_folds
from segtool.core.predictions.folder import list_files, open_mask_folder
from segtool.errors import SegtoolError, UsageError
from segtool.settings.imports import ClaimSettings


@dataclass(frozen=True)
class Found:
    """The predicted images.

    Attributes:
        files: image_id → file, in the order of the data set.
        unseen: ids that are said to be out-of-fold.
        records: the images, where the data set is known.
    """

    files: Mapping[str, Path]
    unseen: frozenset[str]
    records: tuple[Record, ...] = ()


def find_files(folder: Path, suffixes: Sequence[str], oof: bool) -> Found:
    """The files of a folder, each named after an image that nothing else is known of.

    Raises:
        SegtoolError: no folder, nothing in it, or two files for one image.
    """
    files: dict[str, Path] = {}
    for path in list_files(folder, suffixes):
        image_id = check_image_id(path.relative_to(folder).as_posix().removesuffix(path.suffix), folder)
        if image_id in files:
            raise SegtoolError(f"{files[image_id]} and {path} are both named after image {image_id!r}; keep one")
        files[image_id] = path
    if not files:
        raise SegtoolError(f"{folder} holds no .npy, .npz or .png file")
    return Found(files, frozenset(files if oof else ()))


def match_files(folder: Path, suffixes: Sequence[str], dataset: Dataset, settings: ClaimSettings) -> Found:
    """The files of the images that `settings` name.

    Raises:
        UsageError: the data set has no such images, or the folds no such fold.
        SegtoolError: a file is named after no image, an image has none (unless `partial`), or the folds are of another
            data set.
    """
    part = dataset.test if settings.subset == "test" else dataset.train
    records = with_masks(part) if settings.subset in ("valid", "oof") else list(part)
    unseen = _unseen(records, dataset, settings)
    if settings.subset == "valid" and settings.folds:
        records = [record for record in records if record.image_id in unseen]
    if not records:
        raise UsageError(f"--subset {settings.subset}: {dataset.path} has no such images")
    kind = "test image (--subset test)" if settings.subset == "test" else "training image"
    files = open_mask_folder(folder, [record.image_id for record in part], suffixes, kind)
    missing = [record.image_id for record in records if record.image_id not in files]
    if missing and (not settings.partial or len(missing) == len(records)):
        remedy = "--partial takes the others" if len(missing) < len(records) else "is --subset the right one?"
        if settings.subset == "valid" and not settings.folds:
            remedy += "; --folds and --fold say which images are held out"
        raise SegtoolError(
            f"{folder} has no file for {len(missing)} of the {len(records)} images of the subset {settings.subset}"
            f" ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); {remedy}"
        )
    chosen = tuple(record for record in records if record.image_id in files)
    return Found({r.image_id: files[r.image_id] for r in chosen}, unseen & {r.image_id for r in chosen}, chosen)


def claim_text(settings: ClaimSettings) -> str | None:
    """What the user says of the models, as meta.json notes it."""
    if settings.folds:
        return f"not trained on fold {settings.fold} of {settings.folds.name}, as claimed at the import"
    return "out-of-fold, as claimed at the import" if settings.oof else None


def _unseen(records: Sequence[Record], dataset: Dataset, settings: ClaimSettings) -> frozenset[str]:
    ids = frozenset(record.image_id for record in records)
    if settings.folds and settings.fold is not None:
        return ids & choose_fold(read_folds(settings.folds, dataset), settings.fold, settings.folds)
    return ids if settings.oof else frozenset()
