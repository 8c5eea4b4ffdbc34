"""A run folder from its first file to its stamp: `config.json`, `samples.csv`, the training, `done.json`."""

import logging
import math
import platform
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from segtool import __version__
from segtool.core.artifacts.output import Output
from segtool.core.dataset.relabel import RELABELLED
from segtool.core.dataset.seen_images import TEACHERS, read_samples, write_samples
from segtool.core.dataset.selection import limit
from segtool.core.documents import read_json
from segtool.core.files import write_json
from segtool.core.images import image_size
from segtool.core.models.build import DIVISOR
from segtool.core.models.complexity import measure_complexity
from segtool.core.reporting.plots import draw_beside, learning_curves
from segtool.core.reporting.progress import tracker
from segtool.core.runtime.distributed import compute
from segtool.core.runtime.memory import memory_errors
from segtool.core.scoring.pixel_counts import NAME as PIXEL_COUNTS
from segtool.core.scoring.widths import told_stretch
from segtool.core.tracking.tracker import Target, check_packages
from segtool.core.tracking.trackers import Trackers
from segtool.core.training.checkpoints import EPOCH_START, OWNS, write_history
from segtool.core.training.context import RunContext, RunData, read_data, with_intensity
from segtool.core.training.inputs import digests, how_to_train_on, settings_for
from segtool.core.training.trainer import Trainer
from segtool.errors import SegtoolError, UsageError
from segtool.settings.options import flatten
from segtool.settings.train import TrainSettings
from segtool.values import Size

log = logging.getLogger(__name__)

# From this many crops in an image on it is far larger than the crop.
MANY_CROPS = 16
# Pixels of a large image and of one of usual size, and the number of images that are measured.
LARGE, USUAL = 1024**2, 512**2
LOOKED_AT = 50


def fit(settings: TrainSettings, on_update: Callable[[float], None] | None = None) -> Trainer | None:
    """Train what is left of a run and write its folder.

    Args:
        on_update: called with the loss of each update.

    Returns:
        The trainer at the end of the run; None if nothing was left to do.
    """
    check_packages(settings.tracking.track)
    with compute(settings.machine, deterministic=True) as (device, world):
        if settings.optimizer.batch % world.size:
            raise UsageError(f"--batch {settings.optimizer.batch} does not divide among {world.size} processes")
        data = read_data(settings)
        settings = settings_for(settings, data.dataset)
        inputs = world.run_on_main(lambda: digests(settings, data.dataset, data.train, data.valid))
        output = Output(settings.output, "train", owns=OWNS, source="last.pt")
        # Until there is a checkpoint, nothing is lost by starting again.
        with (
            output.writing(settings, inputs, keep="*.pt", processes=world, advice=partial(how_to_train_on, settings)),
            memory_errors("try a smaller --batch (--accumulate makes up for it), --crop or --workers"),
        ):
            if output.done:
                if not world.is_main:
                    # Rank 0 reports it.
                    raise SystemExit(0)
                return None
            data = world.run_on_main(lambda: _begin(output.path, settings, data))
            trainer = Trainer(RunContext.create(settings, data, device, world), on_update=on_update)
            if world.is_main:
                _write_complexity(output.path / "config.json", trainer)
            with _trackers(settings, trainer) as trainer.trackers:
                trainer.run()
            world.barrier()
            if world.is_main:
                _keep_sent(settings, trainer)
                _finish(output, trainer)
    return trainer


def describe(settings: TrainSettings, data: RunData) -> dict[str, Any]:
    """Return the content of `config.json`."""
    versions = {"segtool": __version__, "python": platform.python_version(), "torch": torch.__version__}
    about = {"settings": flatten(settings), "network": data.spec.plain(), "versions": versions, "git": _git_state()}
    return about | ({"palette": data.dataset.palette} if data.dataset.palette else {})


def best_score(trainer: Trainer) -> float | None:
    """Return the best value of the monitored score; a loss is kept negated while training."""
    best = trainer.state.best
    return -best if best is not None and trainer.settings.monitor == "loss" else best


def _begin(folder: Path, settings: TrainSettings, data: RunData) -> RunData:
    """Measure the images, write `config.json` and `samples.csv`, and log how images are held out."""
    if not data.valid:
        log.info("no validation: training on all %d images; best.pt will be the last weights", len(data.train))
    elif settings.folds.folds is None:
        own = sum(r.origin is None or r.origin.name == RELABELLED for r in data.train)
        held, total = len(data.valid), len(data.valid) + own
        log.info("no --folds given: a fixed %d of %d images are held out", held, total)
    if data.dataset.multi:
        log.info("classes may overlap: a sigmoid for each, and the loss %s", settings.loss.loss)
    data = with_intensity(data, settings, folder, tracker(settings.output.quiet))
    path = folder / "config.json"
    kept = read_json(path, dict[str, Any]) if path.exists() else {}
    # Counted once the network is there; what is refused before that changes nothing.
    size = {"complexity": kept["complexity"]} if "complexity" in kept else {}
    write_json(path, {**describe(settings, data), **size})
    _write_samples(folder / "samples.csv", settings, data)
    return data


def _trackers(settings: TrainSettings, trainer: Trainer) -> Trackers:
    """Return the trackers of this process: those of --track in the first, none in the others."""
    folder, context = settings.output.out, trainer.context
    names = settings.tracking.track if context.world.is_main else ()
    config = read_json(folder / "config.json", dict[str, Any]) if names else {}
    return Trackers(
        names,
        Target(folder, settings.tracking.track_project, config, context.dataset.classes, trainer.updates_done()),
    )


def _keep_sent(settings: TrainSettings, trainer: Trainer) -> None:
    """Remember which trackers got everything, so that `segtool track` sends the run to the others alone."""
    target = Target(settings.output.out, settings.tracking.track_project, {}, ())
    failed = trainer.trackers.failed if trainer.trackers is not None else []
    for name in set(settings.tracking.track) - set(failed):
        target.keep_sent(name)


def _write_complexity(path: Path, trainer: Trainer) -> None:
    """Add to `config.json` how large the network is, and how much it computes on an image as it is trained on."""
    config = read_json(path, dict[str, Any])
    if "complexity" in config:
        return
    context = trainer.context
    sizes = context.settings.size
    seen = sizes.crop or sizes.window or sizes.resized(image_size(context.train[0].image))
    size = Size(*(-(-side // DIVISOR) * DIVISOR for side in seen))
    complexity = measure_complexity(trainer.updater.network, context.spec.channels, size)
    write_json(path, {**config, "complexity": complexity._asdict()})


def _write_samples(path: Path, settings: TrainSettings, data: RunData) -> None:
    """List the images of a new run, and warn about problems of its images and its validation scores.

    This decodes every image, so it is skipped in a resumed run, whose inputs are the same.
    """
    if path.exists():
        return
    _warn_of_sizes(settings, data)
    init = settings.model.init / "samples.csv" if settings.model.init else None
    sources = {
        record.origin.name: record.origin.dataset.path.parent / TEACHERS for record in data.train if record.origin
    }
    teachers = {name: file for name, file in sources.items() if file.is_file()}
    duplicates = write_samples(path, data.dataset, data.train, data.valid, init=init, teachers=teachers)
    if duplicates == len(data.train):
        raise SegtoolError("every training image has the same content as a validation image: nothing is left")
    if duplicates:
        log.info("%d training image(s) have the same content as a validation image: left out", duplicates)
    samples = read_samples(path)
    if taught := sum(identity.among(samples.taught) for _, identity in samples.held):
        log.warning(
            "models that were trained on %d of the %d validation images made the pseudo-labels, so the validation score"
            " is too high; the strictest comparison gives each fold the pseudo-labels of its own run",
            *(taught, len(samples.held)),
        )


def _warn_of_sizes(settings: TrainSettings, data: RunData) -> None:
    """Warn about a resize that stretches images, and about large images without a size, and name helpful options."""
    sizes = sorted((image_size(record.image) for record in limit(data.train, LOOKED_AT)), key=math.prod)
    if settings.size.resize and (stretch := told_stretch(sizes, settings.size.resize)):
        log.warning("%s; --crop trains on crops without a resize", stretch)
    median = settings.size.resized(sizes[len(sizes) // 2])
    crop = settings.size.crop
    if crop and not settings.size.window and math.prod(median) >= MANY_CROPS * math.prod(crop):
        log.warning(
            "a crop of %s is 1/%.0f of an image of %s, so an epoch sees that share of the pixels; --resize 0.5 shows"
            " more context in each crop, --window %s sees every pixel in each epoch",
            *(crop, math.prod(median) / math.prod(crop), median, Size(crop.height * 2, crop.width * 2)),
        )
    if settings.size.resize or crop or settings.size.window or math.prod(median) < LARGE:
        return
    scale = math.sqrt(USUAL / math.prod(median))
    smaller = Size(*(max(DIVISOR, round(side * scale / DIVISOR) * DIVISOR) for side in median))
    crop = Size(*(min(side, math.isqrt(USUAL)) for side in median))
    log.warning(
        "training on whole images of %s, %.0f times the pixels of 512x512: it takes that much more time and memory;"
        " --crop %s trains on crops, --resize %s on smaller images",
        *(median, math.prod(median) / USUAL, crop, smaller),
    )


def _finish(output: Output, trainer: Trainer) -> None:
    state, folder = trainer.state, output.path
    # Without last.pt and the epochs' checkpoints, which a user may remove from a finished run to save space.
    names = ["config.json", "samples.csv", "best.pt"]
    names += ["per_image.csv"] if trainer.context.valid else []
    # Where an older version wrote the best weights and this one finished the run, it is missing.
    names += [PIXEL_COUNTS] if (folder / PIXEL_COUNTS).exists() else []
    names += ["ema.pt"] if trainer.updater.average else []
    write_history(folder / "history.csv", state.history)
    draw_beside(folder / "curves.png", lambda: learning_curves(state.history))
    if gone := [name for name in names if not (folder / name).exists()]:
        raise SegtoolError(
            f"{folder / gone[0]} is missing or was changed, and only training writes it: remove {folder}, then run the"
            " same command to train again"
        )
    for temporary in ("clock.json", EPOCH_START):
        (folder / temporary).unlink(missing_ok=True)
    output.finish(
        [folder / name for name in names],
        # A spreadsheet may save it again, which must not make a finished run train anew.
        editable=[folder / "history.csv"],
        epochs=state.epoch,
        planned=state.epochs,
        stopped=state.stopped,
        best_epoch=state.best_epoch,
        monitor=trainer.settings.monitor,
        best=best_score(trainer),
    )


def _git_state() -> str | None:
    """Return the commit of the working folder, with `-dirty` if files are changed; None outside git."""
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()
