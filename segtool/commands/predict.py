"""`segtool predict`: runs and images in, a prediction folder out."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from segtool.core import artifacts
from segtool.core.artifacts import Output, State
from segtool.core.catalog import Dataset, Record, load_dataset, with_masks
from segtool.core.files import digest_bytes, digest_file
from segtool.core.images import image_size
from segtool.core.inference.predictor import Member, Predictor, default_batch, equal_size_batches
from segtool.core.inference.stream import read_ahead
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.core.prediction_writer import OWNS, PredictionWriter, is_whole, output_files, write_index
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.selection import Samples, members_for, out_of_fold, read_samples
from segtool.core.training.distributed import choose_device, memory_errors, require_one_process
from segtool.errors import SegtoolError, UsageError
from segtool.settings.options import Size, comparable
from segtool.settings.predict import PredictSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A trained run to predict with."""

    path: Path
    checkpoint: Path
    digest: str
    samples: Samples


@dataclass(frozen=True)
class Group:
    """Images of one size that the same runs predict: one forward pass."""

    records: tuple[Record, ...]
    runs: tuple[str, ...]


def run(settings: PredictSettings) -> Result:
    """Predict what is not there yet."""
    require_one_process("predict")
    if settings.machine.threads:
        torch.set_num_threads(settings.machine.threads)
    device = choose_device(settings.machine.device)
    dataset = load_dataset(settings.data)
    runs = {str(path): _open_run(path, settings.inference.checkpoint) for path in settings.run}
    if len({path.resolve() for path in settings.run}) < len(settings.run):
        raise UsageError("--run: the same run is given twice")
    records = _records(dataset, settings.subset)
    if not records:
        raise UsageError(f"--subset {settings.subset}: {dataset.path} has no such images")
    digests = {record.image_id: digest_file(record.image) for record in records}
    samples = {name: its.samples for name, its in runs.items()}
    members = members_for(settings.subset, digests, samples)
    chosen = [record for record in records if record.image_id in members]

    output = Output(settings.output.out, "predict", owns=OWNS)
    inputs = {**dataset.digests(chosen), **{f"run {i}": r.digest for i, r in enumerate(runs.values(), 1)}}
    inputs["members"] = digest_bytes(repr([members[r.image_id] for r in chosen]).encode())
    state = output.begin(comparable(settings), inputs, overwrite=settings.output.overwrite)
    if state is State.DONE:
        return Result(f"{output.path} is up to date")

    batch = default_batch(settings.inference.batch, device)
    with output.discarded_on_error(unless="masks/**/*.png"), memory_errors("try --batch 1 or --device cpu"):
        sizes = {r.image_id: image_size(r.image) for r in chosen}
        groups = _group(chosen, sizes, members, batch)
        todo = [g for g in groups if state is State.NEW or not _is_done(g, sizes, dataset, settings)]
        if len(todo) < len(groups):
            log.info("%d of %d images are there already", len(chosen) - sum(len(g.records) for g in todo), len(chosen))
        rate = _predict(todo, dataset, runs, settings, device) if todo else ""
    unseen = out_of_fold(members, digests, samples)
    listed = [
        {
            "run": str(r.path),
            "checkpoint": r.checkpoint.name,
            "digest": r.digest,
            "tta": list(settings.inference.tta or ()),
        }
        for r in runs.values()
    ]
    write_index(output.path, sizes, unseen, classes=dataset.classes, subset=settings.subset, members=listed)
    output.finish(output_files(output.path, sizes, keep_probs=settings.probs))
    return Result(f"{output.path}: {len(sizes)} images ({settings.subset}) by {len(runs)} run(s){rate}")


def _records(dataset: Dataset, subset: str) -> list[Record]:
    """The images a subset is taken from; those to be scored have a mask."""
    if subset == "test":
        return list(dataset.test)
    return list(dataset.train) if subset == "train" else with_masks(dataset.train)


def _open_run(path: Path, checkpoint: str) -> Run:
    artifacts.require_done(path, "run folder")
    file = path / f"{checkpoint}.pt"
    if not file.is_file():
        raise SegtoolError(f"{path} has no {file.name}: not a run folder, or its checkpoint is gone")
    return Run(path, file, digest_file(file), read_samples(path / "samples.csv"))


def _group(
    records: list[Record], sizes: dict[str, Size], members: dict[str, tuple[str, ...]], batch: int
) -> list[Group]:
    """The forward passes: a function of all images, not of what is still to do, so that a resumed job repeats them."""
    groups = []
    for names in dict.fromkeys(members[r.image_id] for r in records):
        same = [r for r in records if members[r.image_id] == names]
        for indices in equal_size_batches([sizes[r.image_id] for r in same], batch):
            groups.append(Group(tuple(same[i] for i in indices), names))
    return groups


def _is_done(group: Group, sizes: dict[str, Size], dataset: Dataset, settings: PredictSettings) -> bool:
    return all(
        is_whole(settings.output.out, r.image_id, sizes[r.image_id], len(dataset.classes), keep_probs=settings.probs)
        for r in group.records
    )


def _load_members(runs: dict[str, Run], dataset: Dataset, device: str) -> dict[str, Member]:
    members = {}
    for name, its in runs.items():
        spec, network = restore_network(load_checkpoint(its.checkpoint), its.checkpoint)
        if spec.classes != dataset.classes:
            raise SegtoolError(
                f"{its.checkpoint} was trained on other classes ({', '.join(spec.classes)}) than {dataset.path} has"
                f" ({', '.join(dataset.classes)})"
            )
        if spec.channels != dataset.channels:
            raise SegtoolError(
                f"{its.checkpoint} takes {spec.channels} channels, {dataset.path} has {dataset.channels}"
            )
        members[name] = Member(spec, network.to(device).to(memory_format=torch.channels_last))
    return members


def _predict(
    groups: list[Group], dataset: Dataset, runs: dict[str, Run], settings: PredictSettings, device: str
) -> str:
    members = _load_members(runs, dataset, device)
    track = tracker(settings.output.quiet)
    started = time.monotonic()
    reading = read_ahead(lambda g: [dataset.read_image(r) for r in g.records], groups, settings.machine.workers)
    with PredictionWriter(settings.output.out, keep_probs=settings.probs, palette=dataset.palette) as writer:
        for group, images in track(reading, total=len(groups), label="predicting"):
            predictor = Predictor([members[name] for name in group.runs], device, settings.inference.tta or ())
            for record, probs in zip(group.records, predictor(images), strict=True):
                writer.write(record.image_id, probs)
    count = sum(len(group.records) for group in groups)
    return f", {count / max(time.monotonic() - started, 1e-9):.1f} images/s"
