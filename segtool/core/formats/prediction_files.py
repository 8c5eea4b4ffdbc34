"""Match prediction files of another code base with images, and with the user's claim of which are out-of-fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segtool.core.dataset.dataset import Dataset, Record, check_image_id, with_masks
from segtool.core.dataset.folds import choose_fold, read_folds
from segtool.core.predictions.folder import list_files, open_mask_folder
from segtool.errors import SegtoolError, UsageError
from segtool.settings.import_preds import ClaimSettings


@dataclass(frozen=True)
class MatchedFiles:
    """The predicted images.

    Attributes:
        files: image_id → file, in the order of the data set.
        out_of_fold: ids that the user claims to be out-of-fold.
        records: the images, if the data set is known.
    """

    files: Mapping[str, Path]
    out_of_fold: frozenset[str]
    records: tuple[Record, ...] = ()


def list_prediction_files(folder: Path, suffixes: Sequence[str], oof: bool) -> MatchedFiles:
    """List the files of a folder, each named after its image, without a data set.

    Raises:
        SegtoolError: the folder does not exist or is empty, or two files are for one image.
    """
    files: dict[str, Path] = {}
    for path in list_files(folder, suffixes):
        image_id = check_image_id(path.relative_to(folder).as_posix().removesuffix(path.suffix), folder)
        if image_id in files:
            raise SegtoolError(f"{files[image_id]} and {path} are both named after image {image_id!r}; keep one")
        files[image_id] = path
    if not files:
        raise SegtoolError(f"{folder} contains no .npy, .npz or .png file")
    return MatchedFiles(files, frozenset(files if oof else ()))


def match_files(folder: Path, suffixes: Sequence[str], dataset: Dataset, settings: ClaimSettings) -> MatchedFiles:
    """Return the files of the images in the subset of `settings`.

    Raises:
        UsageError: the subset is empty, or the fold does not exist.
        SegtoolError: a file matches no image, an image has no file (unless `partial`), or the folds are of another data
            set.
    """
    part = dataset.test if settings.subset == "test" else dataset.train
    records = with_masks(part) if settings.subset in ("valid", "oof") else list(part)
    out_of_fold = _claimed_out_of_fold(records, dataset, settings)
    if settings.subset == "valid" and settings.folds:
        records = [record for record in records if record.image_id in out_of_fold]
    if not records:
        raise UsageError(f"--subset {settings.subset}: {dataset.path} has no such images")
    kind = "test image (--subset test)" if settings.subset == "test" else "training image"
    files = open_mask_folder(folder, [record.image_id for record in part], suffixes, kind)
    missing = [record.image_id for record in records if record.image_id not in files]
    if missing and (not settings.partial or len(missing) == len(records)):
        remedy = "--partial imports the others" if len(missing) < len(records) else "is --subset right?"
        if settings.subset == "valid" and not settings.folds:
            remedy += "; give the held-out images with --folds and --fold"
        raise SegtoolError(
            f"{folder} has no file for {len(missing)} of the {len(records)} images of the subset {settings.subset}"
            f" ({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); {remedy}"
        )
    chosen = tuple(record for record in records if record.image_id in files)
    ids = [record.image_id for record in chosen]
    return MatchedFiles({image_id: files[image_id] for image_id in ids}, out_of_fold.intersection(ids), chosen)


def claim_text(settings: ClaimSettings) -> str | None:
    """Return the user's claim about the models, as written to meta.json."""
    if settings.folds:
        return f"not trained on fold {settings.fold} of {settings.folds.name}, as claimed at the import"
    return "out-of-fold, as claimed at the import" if settings.oof else None


def _claimed_out_of_fold(records: Sequence[Record], dataset: Dataset, settings: ClaimSettings) -> frozenset[str]:
    ids = frozenset(record.image_id for record in records)
    if settings.folds and settings.fold is not None:
        return ids & choose_fold(read_folds(settings.folds, dataset), settings.fold, settings.folds)
    return ids if settings.oof else frozenset()
