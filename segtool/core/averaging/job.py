"""What to average, the data and settings that take part, and the images that score it. Loads no torch."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from segtool.core.averaging.continuation import Continuation, plan_continuation
from segtool.core.averaging.runs import (
    Checkpoint,
    FinishedRun,
    best_checkpoint,
    choose_checkpoints,
    held_out_by_all,
    read_records,
    read_run,
)
from segtool.core.dataloading.pipeline_file import pipeline_digest
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.extra import extra_digests
from segtool.core.files import digest_file
from segtool.errors import UsageError
from segtool.settings.swa import AverageSettings, SwaSettings
from segtool.settings.train import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AveragingJob:
    """The checkpoints to average, with the data, settings and validation images of the first run.

    checkpoints: the checkpoints to average; empty until a continuation has trained them.
    best_checkpoints: the best of each run, to compare the average with.
    same_validation: the first run was validated on exactly these images.
    """

    runs: Sequence[FinishedRun]
    checkpoints: Sequence[Checkpoint]
    continuation: Continuation | None
    best_checkpoints: Sequence[Checkpoint]
    settings: TrainSettings
    dataset: Dataset
    train: list[Record]
    valid: list[Record]
    same_validation: bool

    @property
    def all_checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are averaged, compared or continued from."""
        start = [self.continuation.start] if self.continuation else []
        return [*start, *self.checkpoints, *self.best_checkpoints]

    @property
    def epochs(self) -> int:
        """The largest number of epochs that a checkpoint has been trained for."""
        if self.continuation:
            return self.continuation.last
        epochs = {run.path: run.epochs for run in self.runs}
        return max(checkpoint.epoch or epochs[checkpoint.run] for checkpoint in self.checkpoints)

    @property
    def encoder_frozen(self) -> bool:
        """Whether the encoders have kept their batch-norm statistics throughout training."""
        return self.epochs <= min(run.settings.loop.freeze_encoder for run in self.runs)

    def has_recorded_scores(self, checkpoint: Checkpoint) -> bool:
        """Return whether training has scored an epoch's checkpoint on exactly these validation images."""
        same = self.continuation is not None or (self.same_validation and checkpoint.run == self.runs[0].path)
        return same and checkpoint.epoch is not None

    def inputs(self) -> dict[str, str]:
        """Return digests of everything that is read."""
        checkpoints = {checkpoint.file: checkpoint.run for checkpoint in self.all_checkpoints}
        own = [record for record in self.train if record.origin is None]
        digests = {f"train {key}": digest for key, digest in self.dataset.digests(own).items()}
        digests |= {**extra_digests(self.train), **pipeline_digest(self.settings.augmentation.augment)}
        digests |= {f"valid {key}": digest for key, digest in self.dataset.digests(self.valid).items()}
        for number, run in enumerate(self.runs, 1):
            files = [run.path / "config.json", run.path / "samples.csv"]
            files += [file for file, path in checkpoints.items() if path == run.path]
            digests |= {f"run {number} {file.name}": digest_file(file) for file in files}
        return digests


def read_averaging_job(settings: SwaSettings, processes: int) -> AveragingJob:
    """Open the runs and their data set, and choose the checkpoints and the validation images.

    Raises:
        SegtoolError: a run is unfinished, a file is missing, or the data have changed since the run.
        UsageError: a checkpoint is missing, or a choice by validation scores would not be fair.
    """
    runs = [read_run(path) for path in settings.runs]
    first = runs[0]
    if (batch := first.settings.optimizer.batch) % processes:
        raise UsageError(f"--batch {batch} of {first.path} does not divide among {processes} processes")
    continuation = None if settings.continuation.start is None else plan_continuation(first, settings.continuation)
    checkpoints = [] if continuation else choose_checkpoints(runs, settings.average)
    held_out, left_out = held_out_by_all(runs)
    _check_validation(settings.average, held_out, left_out)
    best_checkpoints = [best_checkpoint(run.path) for run in runs]
    dataset, train, valid = read_records(first, settings.data, held_out)
    train_settings = continuation.train_settings(first.settings) if continuation else first.settings
    data = settings.data or train_settings.data
    return AveragingJob(
        runs,
        checkpoints,
        continuation,
        best_checkpoints,
        replace(train_settings, data=data, output=settings.output, machine=settings.machine),
        dataset,
        train,
        valid,
        same_validation=held_out == {(image_id, identity.file) for image_id, identity in first.samples.held},
    )


def _check_validation(settings: AverageSettings, held_out: Collection[object], left_out: str) -> None:
    """Raise UsageError if checkpoints would be chosen by meaningless scores.

    Args:
        left_out: why some validation images are left out.
    """
    if settings.greedy and left_out:
        raise UsageError(f"--greedy: {left_out}, so their scores would mean nothing; use runs of the same fold")
    if left_out:
        log.info("%s: these are not scored", left_out)
    if held_out:
        return
    if settings.greedy or settings.keep == "better":
        option = "--greedy" if settings.greedy else "--keep better"
        reason = left_out or "the runs have held out no images (trained with --fold all?)"
        raise UsageError(f"{option} needs validation images: {reason}; use --keep average to keep the average unscored")
    log.info("no validation: best.pt will be the average")
