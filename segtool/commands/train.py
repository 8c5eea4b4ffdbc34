"""`segtool train`: one model, from a data set to a run folder."""

import logging
import platform
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch

from segtool import __version__
from segtool.core.artifacts import Output, State
from segtool.core.catalog import Dataset, Record, load_dataset
from segtool.core.data.augmentation import rehearse
from segtool.core.data.extra import extra_digests, read_extras
from segtool.core.data.presets import pipeline_digest
from segtool.core.data.relabel import RELABELLED, relabel
from segtool.core.data.seeding import make_deterministic
from segtool.core.data.soft import check_soft
from segtool.core.files import write_json
from segtool.core.images import image_size
from segtool.core.memory import memory_errors
from segtool.core.models.build import NetworkSpec, check_names
from segtool.core.models.class_weights import class_weights_digest
from segtool.core.models.normalisation import Normalisation, normalisation
from segtool.core.models.optim import check_optimizer
from segtool.core.models.pretrained import weights_digest
from segtool.core.models.transfer import init_digest, init_spec
from segtool.core.reporting.progress import silent, tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.selection import only_digest, select, without_twins, write_samples
from segtool.core.training import store
from segtool.core.training.distributed import World, choose_device, join
from segtool.core.training.loop import Loop
from segtool.core.training.setup import Parts, find_units, prepare
from segtool.errors import SegtoolError, UsageError
from segtool.settings.model import ModelSettings
from segtool.settings.options import comparable, flatten
from segtool.settings.train import TrainSettings

log = logging.getLogger(__name__)


def run(settings: TrainSettings) -> Result:
    """Train, resume, or find that all is done."""
    loop = fit(settings)
    if loop is None:
        return Result(f"{settings.output.out} is up to date")
    return _result(loop, settings) if loop.updater.world.main else Result()


def fit(settings: TrainSettings, on_update: Callable[[float], None] | None = None) -> Loop | None:
    """Do what is left of a run and write its folder; returns the loop at its end, None where nothing was left.

    `on_update` is called with the loss of each update.
    """
    if settings.machine.threads:
        torch.set_num_threads(settings.machine.threads)
    device = choose_device(settings.machine.device)
    if device == "cuda":
        make_deterministic()
    with join(device) as world:
        if settings.optimizer.batch % world.size:
            raise UsageError(f"--batch {settings.optimizer.batch} does not divide among {world.size} processes")
        if not world.main:
            logging.getLogger("segtool").setLevel(logging.ERROR)
        parts = read_parts(settings, device, world)
        output = Output(settings.output.out, "train", owns=store.OWNS)
        if world.decide(lambda: _begin(output, settings, parts)) is State.DONE:
            if not world.main:
                # Rank 0 says so.
                raise SystemExit(0)
            return None
        parts = replace(parts, train=without_twins(output.path / "samples.csv", parts.dataset, parts.train))
        # Until there is a checkpoint, nothing is lost by starting afresh.
        mistakes = output.discarded_on_error(unless="*.pt") if world.main else nullcontext()
        with mistakes, memory_errors("try a smaller --batch (--accumulate makes up for it), --crop or --workers"):
            loop = prepare(settings, replace(parts, units=find_units(settings, parts)))
            loop.on_update = on_update
            loop.run()
        world.barrier()
        if world.main:
            _finish(output, loop)
    return loop


def read_parts(settings: TrainSettings, device: str, world: World) -> Parts:
    """Read the data set, choose the images, and describe the network; names that are unknown end here."""
    check_names(settings.model.arch, settings.model.encoder)
    check_optimizer(settings.optimizer.optimizer)
    dataset = load_dataset(settings.data)
    settings.loss.check_classes(len(dataset.classes))
    train, valid = select(dataset, settings.folds)
    train = relabel(settings.extras, dataset, train)
    train += read_extras(settings.extras, dataset, settings.folds.max_samples)
    check_soft(train, settings.augmentation, settings.loss)
    rehearse(settings.augmentation, settings.size.resize or image_size(train[0].image), dataset.channels)
    track = tracker(settings.output.quiet) if world.main else silent
    return Parts(dataset, train, valid, _spec(settings, dataset), device, world, track)


def _begin(output: Output, settings: TrainSettings, parts: Parts) -> State:
    """Compare with what is there; of a new run, write what it is made of."""
    inputs = digests(settings, parts.dataset, parts.train, parts.valid)
    state = output.begin(comparable(settings), inputs, overwrite=settings.output.overwrite)
    if state is State.DONE:
        return state
    for path in output.broken:
        path.unlink(missing_ok=True)
    if not parts.valid:
        log.info("no validation: training on all %d images; best.pt will be the last weights", len(parts.train))
    elif settings.folds.folds is None:
        own = sum(r.origin is None or r.origin.name == RELABELLED for r in parts.train)
        held, total = len(parts.valid), len(parts.valid) + own
        log.info("no --folds given: a fixed %d of %d images are held out", held, total)
    write_json(output.path / "config.json", describe(settings, parts.spec))
    samples = output.path / "samples.csv"
    # It takes reading every image: a resumed run, whose inputs are the same, has it already.
    if not samples.exists() and (twins := write_samples(samples, parts.dataset, parts.train, parts.valid)):
        if twins == len(parts.train):
            raise SegtoolError("every training image has the same content as a validation image: nothing is left")
        log.info("%d training image(s) have the same content as a validation image: left out", twins)
    return state


def describe(settings: TrainSettings, spec: NetworkSpec) -> dict[str, Any]:
    """The `config.json` of a run."""
    versions = {"segtool": __version__, "python": platform.python_version(), "torch": torch.__version__}
    return {"settings": flatten(settings), "network": spec.plain(), "versions": versions, "git": _git_state()}


def digests(settings: TrainSettings, dataset: Dataset, train: list[Record], valid: list[Record]) -> dict[str, str]:
    """Digests of what a run reads: its images on both sides, and a file of encoder weights."""
    return {
        **{f"train {k}": v for k, v in dataset.digests([r for r in train if r.origin is None]).items()},
        **extra_digests(train),
        **{f"valid {k}": v for k, v in dataset.digests(valid).items()},
        **({} if settings.model.init else weights_digest(settings.model)),
        **init_digest(settings.model.init),
        **only_digest(settings.folds.only),
        **pipeline_digest(settings.augmentation.augment),
        **class_weights_digest(settings.loss.class_weights),
    }


def _spec(settings: TrainSettings, dataset: Dataset) -> NetworkSpec:
    colours = _colours(settings.model, dataset.channels)
    log.info(
        "mean %s, std %s (%s)",
        ",".join(f"{v:.3f}" for v in colours.mean),
        ",".join(f"{v:.3f}" for v in colours.std),
        colours.source,
    )
    return NetworkSpec(
        arch=settings.model.arch.lower(),
        encoder=settings.model.encoder,
        classes=dataset.classes,
        channels=dataset.channels,
        mean=colours.mean,
        std=colours.std,
        resize=settings.size.resize,
        precision=settings.optimizer.precision,
        aux_head=settings.model.aux_head > 0,
    )


def _colours(settings: ModelSettings, channels: int) -> Normalisation:
    """Weights know the colours they were trained on: those of another run, where the run starts from it."""
    if settings.init and settings.mean is None:
        spec = init_spec(settings.init)
        return Normalisation(spec.mean, spec.std, f"those of {settings.init}")
    return normalisation(settings, channels)


def _git_state() -> str | None:
    """Commit of the working folder, with `-dirty` where files are changed; None outside git."""
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()


def _finish(output: Output, loop: Loop) -> None:
    course, folder = loop.course, output.path
    # Not last.pt and the epochs' checkpoints: a user may remove them from a finished run to save space.
    names = ["config.json", "samples.csv", "history.csv", "best.pt"]
    names += ["per_image.csv"] if loop.validate else []
    names += ["ema.pt"] if loop.updater.average else []
    store.write_history(folder / "history.csv", course)
    if gone := [name for name in names if not (folder / name).exists()]:
        raise SegtoolError(
            f"{folder / gone[0]} is gone or was changed, and only training makes it: remove {folder / 'last.pt'}, then"
            " the same command trains again"
        )
    for needless in ("clock.json", store.EPOCH_START):
        (folder / needless).unlink(missing_ok=True)
    output.finish(
        [folder / name for name in names],
        epochs=course.epoch,
        planned=course.epochs,
        stopped=course.stopped,
        best_epoch=course.best_epoch,
        monitor=loop.settings.monitor,
        best=_best(loop),
    )


def _best(loop: Loop) -> float | None:
    """The best value of the monitored score; a loss is kept negated while training."""
    best = loop.course.best
    return -best if best is not None and loop.settings.monitor == "loss" else best


def _result(loop: Loop, settings: TrainSettings) -> Result:
    course = loop.course
    shown = {
        "train loss": "train_loss",
        "valid loss": "valid_loss",
        "mIoU": "miou",
        "image mIoU": "image_miou",
        "lr": "lr",
        "images/s": "images_per_s",
    }
    rows = [[int(row["epoch"]), *(row[key] for key in shown.values())] for row in course.history]
    ended = f", ended by {course.stopped}" if course.stopped else ""
    best = _best(loop)
    told = f"; best {settings.loop.monitor} {best:.4f} in epoch {course.best_epoch}" if best is not None else ""
    summary = f"{settings.output.out}: {course.epoch} epochs{ended}{told}"
    return Result(summary, [Table("History", ["epoch", *shown], rows)])
