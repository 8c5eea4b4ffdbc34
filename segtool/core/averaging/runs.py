"""Finished runs as averaging takes them: how they were trained, on which images, and the checkpoints they have kept."""

import re
from collections.abc import Sequence
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
from segtool.core.models.checkpoint import epoch_files
from segtool.errors import SegtoolError, UsageError
from segtool.settings.options import unflatten
from segtool.settings.swa import AverageSettings
from segtool.settings.train import TrainSettings


class RunStamp(Stamp):
    """What a run's `done.json` says beside the facts of all stamps."""

    epochs: Required[int]
    planned: Required[int]


class Config(TypedDict):
    """What stands in `config.json`."""

    settings: dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A finished run.

    settings: those it was trained with.
    stamp: its `done.json`.
    """

    path: Path
    settings: TrainSettings
    stamp: dict[str, Any]
    samples: Samples


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run: `epoch`, or its best where that is None."""

    run: Path
    file: Path
    epoch: int | None = None

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"{self.run} {self.file.stem if self.epoch is None else f'epoch {self.epoch}'}"


def read_source(run: Path) -> Source:
    """Open a run folder.

    Raises:
        SegtoolError: it is unfinished or no run folder, or a file of it is gone or broken.
    """
    stamp = require_done(run, "run folder", RunStamp)
    try:
        settings = unflatten(TrainSettings, read_json(run / "config.json", Config)["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise SegtoolError(f"{run / 'config.json'} is not what this version of `segtool train` writes") from error
    augment = pipeline_digest(settings.augmentation.augment)
    if augment and augment["augment"] != stamp.get("inputs", {}).get("augment"):
        raise SegtoolError(f"{settings.augmentation.augment} is no longer what {run} was trained with")
    return Source(run, settings, stamp, read_samples(run / "samples.csv"))


def choose(sources: Sequence[Source], settings: AverageSettings) -> list[Checkpoint]:
    """The checkpoints to be averaged: the epochs asked for, else all that a single run has kept, or the runs' best.

    Raises:
        UsageError: a run has not kept these epochs, or it is one checkpoint only.
        SegtoolError: a run's best.pt is gone.
    """
    epochs = settings.last or settings.epochs or len(sources) == 1
    chosen = [c for run in sources for c in (_epochs(run.path, settings) if epochs else [best_of(run.path)])]
    if len(chosen) < 2:
        raise UsageError(f"{chosen[0].name} is one checkpoint only, an average takes two or more")
    return chosen


def best_of(run: Path) -> Checkpoint:
    """The best checkpoint of a run."""
    file = run / "best.pt"
    if not file.is_file():
        raise SegtoolError(f"{run} has no best.pt: not a run folder, or its checkpoint is gone")
    return Checkpoint(run, file)


def start_of(source: Source, share: float) -> Checkpoint:
    """The state after this share of a run's epochs.

    Raises:
        UsageError: the run has not kept it.
    """
    planned, done = source.stamp["planned"], source.stamp["epochs"]
    epoch = max(1, round(share * planned))
    file = epoch_files(source.path).get(epoch)
    last = source.path / "last.pt"
    if file is None and epoch == done and last.is_file():
        file = last
    if file is None:
        raise UsageError(
            f"--start {share:g} is the end of epoch {epoch} of {planned}, of which {source.path} has no checkpoint"
            f" ({_kept(source.path)}); train with --keep-last {max(1, planned - epoch + 1)}"
        )
    return Checkpoint(source.path, file, epoch)


def held_out(sources: Sequence[Source]) -> tuple[frozenset[tuple[str, str]], str]:
    """The images that a run held out and none was trained on, by image_id and digest; and what was left out, if any."""
    held, lost = set[tuple[str, str]](), ""
    for run in sources:
        for image_id, identity in sorted(run.samples.held):
            other = next((one for one in sources if identity.among(one.samples.trained)), None)
            if other is None:
                held.add((image_id, identity.file))
            else:
                lost = lost or f"{other.path} was trained on images that {run.path} held out (such as {image_id})"
    return frozenset(held), lost


def read_records(
    source: Source, data: Path | None, held: frozenset[tuple[str, str]]
) -> tuple[Dataset, list[Record], list[Record]]:
    """The data set of a run, the images it was trained on, and those of image_id and digest in `held`.

    Args:
        data: where the data set is now; None for where it was.

    Raises:
        SegtoolError: the data set, or an image of it, is not there, or is not what the run has seen.
    """
    try:
        dataset = load_dataset(data or source.settings.data)
    except SegtoolError as error:
        if data:
            raise
        raise SegtoolError(f"{error}; if the data of {source.path} has moved, say --data") from error
    rows = [row for row in read_roles(source.path / "samples.csv") if row["role"] == "train"]
    # The data set's own name may have become another.
    trained = {_key(row["source"], row["image_id"]): row["digest"] for row in rows}
    own = with_masks(dataset.train)
    corrected = {row["image_id"] for row in rows if row["source"] == RELABELLED}
    masks = _relabel(source, dataset, [record for record in own if record.image_id in corrected])
    extras = read_extras(source.settings.extras, dataset, source.settings.folds.max_samples)
    others = {(dataset.source(record), record.image_id): record for record in extras}
    originals = {("", record.image_id): record for record in own}
    train = _found({**originals, **masks, **others}, trained, source, dataset)
    validated = {("", image_id): digest for image_id, digest in held}
    return dataset, train, _found(originals, validated, source, dataset)


def _relabel(source: Source, dataset: Dataset, records: list[Record]) -> dict[tuple[str, str], Record]:
    """Give records the masks that the run's --relabel gave them.

    Raises:
        SegtoolError: the corrected masks no longer include one of them.
    """
    settings = source.settings.extras
    changed = relabel(settings, dataset, records)
    if settings.relabel and (gone := [record.image_id for record in changed if record.origin is None]):
        raise SegtoolError(
            f"{source.path} was trained with a mask of image {gone[0]!r} from --relabel {settings.relabel}, which no"
            " longer has one"
        )
    return {("", record.image_id): record for record in changed}


def _found(
    records: dict[tuple[str, str], Record], wanted: dict[tuple[str, str], str], source: Source, dataset: Dataset
) -> list[Record]:
    """The records of keys, in the data set's order, if their contents have the digests wanted."""
    if missing := [key for key in wanted if key not in records]:
        raise SegtoolError(
            f"{dataset.path} has no mask of image {missing[0][1]!r}, which {source.path} has seen; is it another data"
            " set?"
        )
    found = {key: record for key, record in records.items() if key in wanted}
    for key, record in found.items():
        if file_digest(record.image) != wanted[key]:
            raise SegtoolError(f"{record.image} is no longer what {source.path} has seen")
    return list(found.values())


def _key(source: str, image_id: str) -> tuple[str, str]:
    return (source if re.fullmatch(r"extra \d+", source) else "", image_id)


def _epochs(run: Path, settings: AverageSettings) -> list[Checkpoint]:
    kept = epoch_files(run)
    wanted = sorted(kept)
    if settings.last:
        wanted = wanted[-settings.last :]
    if settings.epochs:
        wanted = list(range(settings.epochs.first, settings.epochs.last + 1))
    if not wanted or len(wanted) < (settings.last or 0) or not kept.keys() >= set(wanted):
        asked = f"--last {settings.last}" if settings.last else f"--epochs {settings.epochs}"
        asked = f"{asked}: " if settings.last or settings.epochs else ""
        raise UsageError(f"{asked}{run} has not kept these epochs ({_kept(run)}); train with --keep-last N")
    return [Checkpoint(run, kept[epoch], epoch) for epoch in wanted]


def _kept(run: Path) -> str:
    kept = sorted(epoch_files(run))
    return f"it has kept {', '.join(map(str, kept))}" if kept else "it has kept none"
