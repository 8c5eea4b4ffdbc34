"""What an averaging is to do: which checkpoints, with whose data and settings, scored on which images."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from segtool.core.averaging.continuation import Branch, branch
from segtool.core.averaging.evaluator import common_spec
from segtool.core.averaging.runs import Checkpoint, Source, best_of, choose, held_out, read_records, read_source
from segtool.core.dataloading.pipeline_file import pipeline_digest
from segtool.core.dataset.extra import extra_digests
from segtool.core.files import digest_file
from segtool.core.training.context import RunData
from segtool.errors import SegtoolError, UsageError
from segtool.settings.swa import AverageSettings, SwaSettings
from segtool.settings.train import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is averaged, and what it is done with: data, settings and validation images of the first run.

    checkpoints: those to be averaged; with `branch` they are yet to be trained.
    bests: of the runs, as what the average is compared with.
    scored_alike: the first run has scored its epochs on just these validation images.
    """

    sources: Sequence[Source]
    checkpoints: Sequence[Checkpoint]
    branch: Branch | None
    bests: Sequence[Checkpoint]
    settings: TrainSettings
    data: RunData
    scored_alike: bool

    @property
    def epochs(self) -> int:
        """Epochs of training that the newest checkpoint may have behind it."""
        done = {run.path: run.stamp["epochs"] for run in self.sources}
        return self.branch.last if self.branch else max(c.epoch or done[c.run] for c in self.checkpoints)

    @property
    def frozen(self) -> bool:
        """Whether the encoders have kept their batch-norm statistics all the time."""
        return self.epochs <= min(run.settings.loop.freeze_encoder for run in self.sources)

    def knows(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is a state of the loop that was scored on just these validation images."""
        alike = self.branch is not None or (self.scored_alike and checkpoint.run == self.sources[0].path)
        return alike and checkpoint.epoch is not None

    def inputs(self) -> dict[str, str]:
        """Digests of everything that is read."""
        starts = [self.branch.start] if self.branch else []
        weights = {c.file: c.run for c in (*self.checkpoints, *self.bests, *starts)}
        dataset, train = self.data.dataset, self.data.train
        digests = {f"train {k}": v for k, v in dataset.digests([r for r in train if r.origin is None]).items()}
        digests |= {**extra_digests(train), **pipeline_digest(self.settings.augmentation.augment)}
        digests |= {f"valid {k}": v for k, v in dataset.digests(self.data.valid).items()}
        for number, run in enumerate(self.sources, 1):
            files = [run.path / "config.json", run.path / "samples.csv"]
            files += [file for file, path in weights.items() if path == run.path]
            digests |= {f"run {number} {file.name}": digest_file(file) for file in files}
        return digests


def read_job(settings: SwaSettings, processes: int) -> Job:
    """Open the runs and the data set, and find what is averaged and how it can be scored.

    Raises:
        SegtoolError: a run is unfinished, a file of it is gone, or the data are others than it has seen.
        UsageError: checkpoints that are not there, or a choice by validation where there is none to trust.
    """
    sources = [read_source(path) for path in settings.runs]
    first, going_on = sources[0], settings.going_on
    if first.settings.optimizer.batch % processes:
        raise UsageError(
            f"--batch {first.settings.optimizer.batch} of {first.path} does not divide among {processes} processes"
        )
    part = branch(first, going_on) if going_on.start is not None else None
    checkpoints = [] if part else choose(sources, settings.average)
    held, lost = held_out(sources)
    _check_validation(settings.average, held, lost)
    bests = [best_of(run.path) for run in sources]
    spec = common_spec([*([part.start] if part else checkpoints), *bests])
    dataset, train, valid = read_records(first, settings.data, held)
    if dataset.classes != spec.classes or dataset.channels != spec.channels:
        raise SegtoolError(
            f"{dataset.path} has the classes {', '.join(dataset.classes)} and {dataset.channels} channels, {first.path}"
            f" was trained with {', '.join(spec.classes)} and {spec.channels}"
        )
    own = part.train_settings(first.settings) if part else first.settings
    own = replace(own, data=settings.data or own.data, output=settings.output, machine=settings.machine)
    data = RunData(dataset, train, valid, spec)
    return Job(
        sources,
        checkpoints,
        part,
        bests,
        own,
        data,
        held == {(image_id, identity.file) for image_id, identity in first.samples.held},
    )


def _check_validation(settings: AverageSettings, held: Collection[object], lost: str) -> None:
    """Refuse to choose by scores that would mean nothing."""
    if settings.greedy and lost:
        raise UsageError(f"--greedy: {lost}, so that scores on them would mean nothing; take runs of the same fold")
    if lost:
        log.info("%s: these are not scored", lost)
    if not held:
        if settings.greedy or settings.keep == "better":
            asked = "--greedy" if settings.greedy else "--keep better"
            why = lost or "the runs have held out no images (trained with --fold all?)"
            raise UsageError(f"{asked} needs validation images: {why}; --keep average takes the average unseen")
        log.info("no validation: best.pt will be the average")
