"""Finished runs to average: their settings, their images, and the checkpoints that they have kept."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from segtool.core.artifacts.output import require_done
from segtool.core.artifacts.stamps import Stamp
from segtool.core.dataloading.pipeline_file import pipeline_digest
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.dataset.extra import read_extras
from segtool.core.dataset.image_identity import file_digest
from segtool.core.dataset.relabel import RELABELLED, relabel
from segtool.core.dataset.seen_images import Samples, read_roles, read_samples
from segtool.core.documents import read_json
from segtool.core.models.epochs import epoch_files
from segtool.errors import SegtoolError, UsageError
from segtool.settings.options import unflatten
from segtool.settings.swa import AverageSettings
from segtool.settings.train import TrainSettings

# The source of an image (empty for the data set itself) and its image_id.
ImageKey = tuple[str, str]


class RunStamp(Stamp):
    """The content of a run's `done.json` beside what all stamps hold."""

    epochs: Required[int]
    planned: Required[int]


class Config(TypedDict):
    """The content of `config.json` that is read here."""

    settings: dict[str, Any]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    epochs, planned: the number of epochs trained, and the number planned.
    samples: the images it was trained and validated on.
    """

    path: Path
    settings: TrainSettings
    epochs: int
    planned: int
    samples: Samples


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run: of an epoch, or the best one if `epoch` is None."""

    run: Path
    file: Path
    epoch: int | None = None

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.run} {self.file.stem if self.epoch is None else f'epoch {self.epoch}'}"


def read_run(path: Path) -> FinishedRun:
    """Open a run folder.

    Raises:
        SegtoolError: the folder is no finished run, or a file in it is missing or broken.
    """
    stamp = require_done(path, "run folder", RunStamp)
    try:
        settings = unflatten(TrainSettings, read_json(path / "config.json", Config)["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise SegtoolError(f"{path / 'config.json'} is not what this version of `segtool train` writes") from error
    augment = pipeline_digest(settings.augmentation.augment)
    if augment and augment["augment"] != stamp.get("inputs", {}).get("augment"):
        raise SegtoolError(f"{settings.augmentation.augment} has changed since {path} was trained with it")
    return FinishedRun(path, settings, stamp["epochs"], stamp["planned"], read_samples(path / "samples.csv"))


def choose_checkpoints(runs: Sequence[FinishedRun], settings: AverageSettings) -> list[Checkpoint]:
    """Choose what to average: the epochs in the settings, or every epoch that a single run kept, or each run's best.

    Raises:
        UsageError: a run has not kept these epochs, or there is only one checkpoint.
        SegtoolError: a run has lost its best.pt.
    """
    if settings.last or settings.epochs or len(runs) == 1:
        chosen = [checkpoint for run in runs for checkpoint in _epochs(run.path, settings)]
    else:
        chosen = [best_checkpoint(run.path) for run in runs]
    if len(chosen) < 2:
        raise UsageError(f"{chosen[0].name} is only one checkpoint, and an average needs two or more")
    return chosen


def best_checkpoint(run: Path) -> Checkpoint:
    """Return the best checkpoint of a run."""
    file = run / "best.pt"
    if not file.is_file():
        raise SegtoolError(f"{run} has no best.pt: not a run folder, or its checkpoint was removed")
    return Checkpoint(run, file)


def checkpoint_at(run: FinishedRun, fraction: float) -> Checkpoint:
    """Return the checkpoint after this fraction of a run's planned epochs.

    Raises:
        UsageError: the run has not kept it.
    """
    epoch = max(1, round(fraction * run.planned))
    file, last = epoch_files(run.path).get(epoch), run.path / "last.pt"
    if file is None and epoch == run.epochs and last.is_file():
        file = last
    if file is None:
        raise UsageError(
            f"--start {fraction:g} is the end of epoch {epoch} of {run.planned}, and {run.path} has no checkpoint of it"
            f" ({_kept(run.path)}); train with --keep-last {max(1, run.planned - epoch + 1)}"
        )
    return Checkpoint(run.path, file, epoch)


def held_out_by_all(runs: Sequence[FinishedRun]) -> tuple[frozenset[tuple[str, str]], str]:
    """Return the validation images that no run was trained on, by image_id and digest, and why others are left out.

    The reason is empty if no validation image is left out.
    """
    held_out, reason = set[tuple[str, str]](), ""
    for run in runs:
        for image_id, identity in sorted(run.samples.held):
            trained = next((other for other in runs if identity.among(other.samples.trained)), None)
            if trained is None:
                held_out.add((image_id, identity.file))
            else:
                reason = reason or f"{trained.path} was trained on images that {run.path} held out (such as {image_id})"
    return frozenset(held_out), reason


def read_records(
    run: FinishedRun, data: Path | None, held_out: frozenset[tuple[str, str]]
) -> tuple[Dataset, list[Record], list[Record]]:
    """Read the data set of a run, and return it with the run's training images and the images in `held_out`.

    Args:
        data: where the data set is now, if it has moved.
        held_out: image_id and digest of each validation image.

    Raises:
        SegtoolError: the data set or an image is missing, or has changed since the run.
    """
    try:
        dataset = load_dataset(data or run.settings.data)
    except SegtoolError as error:
        if data:
            raise
        raise SegtoolError(f"{error}; if the data of {run.path} has moved, give --data") from error
    rows = [row for row in read_roles(run.path / "samples.csv") if row["role"] == "train"]
    digests = {_key(row["source"], row["image_id"]): row["digest"] for row in rows}
    originals = {("", record.image_id): record for record in with_masks(dataset.train)}
    corrected = {("", row["image_id"]) for row in rows if row["source"] == RELABELLED}
    relabelled = _relabel(run, dataset, [record for key, record in originals.items() if key in corrected])
    extras = read_extras(run.settings.extras, dataset, run.settings.folds.max_samples)
    records = {
        **originals,
        **{("", record.image_id): record for record in relabelled},
        **{(dataset.source(record), record.image_id): record for record in extras},
    }
    train = _select(records, digests, run, dataset)
    valid = _select(originals, {("", image_id): digest for image_id, digest in held_out}, run, dataset)
    return dataset, train, valid


def _relabel(run: FinishedRun, dataset: Dataset, records: Iterable[Record]) -> list[Record]:
    """Give records the masks that the run's --relabel gave them.

    Raises:
        SegtoolError: the corrected masks no longer include one of them.
    """
    settings = run.settings.extras
    relabelled = relabel(settings, dataset, list(records))
    if settings.relabel and (gone := [record.image_id for record in relabelled if record.origin is None]):
        raise SegtoolError(
            f"{run.path} was trained with a mask of image {gone[0]!r} from --relabel {settings.relabel}, which no"
            " longer has one"
        )
    return relabelled


def _select(
    records: Mapping[ImageKey, Record], digests: Mapping[ImageKey, str], run: FinishedRun, dataset: Dataset
) -> list[Record]:
    """Return the records with a digest, in the data set's order, if their images have that digest."""
    if missing := [key for key in digests if key not in records]:
        raise SegtoolError(
            f"{dataset.path} has no mask of image {missing[0][1]!r}, which {run.path} was trained or validated on; is"
            " this the right data set?"
        )
    selected = {key: record for key, record in records.items() if key in digests}
    for key, record in selected.items():
        if file_digest(record.files) != digests[key]:
            raise SegtoolError(f"{record.image} has changed since {run.path} was trained")
    return list(selected.values())


def _key(source: str, image_id: str) -> ImageKey:
    """Return the key of a row of `samples.csv`; the data set itself may have been renamed since."""
    return (source if re.fullmatch(r"extra \d+", source) else "", image_id)


def _epochs(run: Path, settings: AverageSettings) -> list[Checkpoint]:
    """Return the checkpoints of the epochs in the settings, or of all epochs that the run has kept."""
    kept = epoch_files(run)
    epochs = sorted(kept)
    if settings.last:
        epochs = epochs[-settings.last :]
    if settings.epochs:
        epochs = list(range(settings.epochs.first, settings.epochs.last + 1))
    if not epochs or len(epochs) < (settings.last or 0) or not kept.keys() >= set(epochs):
        option = f"--last {settings.last}" if settings.last else f"--epochs {settings.epochs}"
        prefix = f"{option}: " if settings.last or settings.epochs else ""
        raise UsageError(f"{prefix}{run} has not kept these epochs ({_kept(run)}); train with --keep-last N")
    return [Checkpoint(run, kept[epoch], epoch) for epoch in epochs]


def _kept(run: Path) -> str:
    kept = sorted(epoch_files(run))
    return f"it has kept {', '.join(map(str, kept))}" if kept else "it has kept none"
