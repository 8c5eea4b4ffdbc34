"""`segtool train`: one model, from a data set to a run folder."""

import logging
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from segtool import __version__
from segtool.core import artifacts
from segtool.core.artifacts import Output, State
from segtool.core.catalog import Dataset, Record, load_dataset
from segtool.core.data.augmentation import Augmentation
from segtool.core.data.batches import Batch, Collate, Plan, TrainingSamples, make_loader
from segtool.core.data.seeding import seed_torch
from segtool.core.inference.predictor import Member, Predictor, default_batch
from segtool.core.models.build import DIVISOR, NetworkSpec, build_network, untouched_parameters
from segtool.core.models.losses import Criterion
from segtool.core.models.optim import make_optimizer
from segtool.core.models.pretrained import load_encoder_weights, normalisation, weights_digest
from segtool.core.reporting.progress import Track, silent, tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.selection import limit, select, write_samples
from segtool.core.training import planning, store
from segtool.core.training.course import Clock, Course
from segtool.core.training.distributed import World, choose_device, join
from segtool.core.training.loop import Loop
from segtool.core.training.update import Updater
from segtool.core.training.validation import Validation, validate
from segtool.errors import UsageError
from segtool.settings.options import Size, comparable, flatten
from segtool.settings.train import TrainSettings

log = logging.getLogger(__name__)


def run(settings: TrainSettings) -> Result:
    """Train, resume, or find that all is done."""
    if settings.machine.threads:
        torch.set_num_threads(settings.machine.threads)
    device = choose_device(settings.machine.device)
    with join(device) as world:
        if not world.main:
            logging.getLogger("segtool").setLevel(logging.ERROR)
        if settings.optimizer.batch % world.size:
            raise UsageError(f"--batch {settings.optimizer.batch} does not divide among {world.size} processes")
        return _run(settings, device, world)


def _run(settings: TrainSettings, device: str, world: World) -> Result:
    folder = settings.output.out
    output = Output(folder, "train", owns=store.OWNS)
    dataset = load_dataset(settings.data)
    train, valid = select(dataset, settings.folds)
    spec = _spec(settings, dataset)

    def begin() -> State:
        inputs = {
            **{f"train {k}": v for k, v in dataset.digests(train).items()},
            **{f"valid {k}": v for k, v in dataset.digests(valid).items()},
            **weights_digest(settings.model),
        }
        return output.begin(comparable(settings), inputs, overwrite=settings.output.overwrite)

    if world.decide(begin) is State.DONE:
        return Result(f"{folder} is up to date")
    if not valid:
        log.info("no validation: training on all %d images; best.pt will be the last weights", len(train))
    elif settings.folds.folds is None:
        log.info("no --folds given: a fixed %d of %d images are held out", len(valid), len(train) + len(valid))
    loop = _prepare(settings, dataset, train, valid, spec, device, world)
    loop.run()
    world.barrier()
    if not world.main:
        return Result()
    return _finish(output, loop, settings)


def _spec(settings: TrainSettings, dataset: Dataset) -> NetworkSpec:
    colours = normalisation(settings.model, dataset.channels)
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
    )


def _prepare(
    settings: TrainSettings,
    dataset: Dataset,
    train: list[Record],
    valid: list[Record],
    spec: NetworkSpec,
    device: str,
    world: World,
) -> Loop:
    """Build all parts of the run and bring them to where it stopped, or to its start."""
    folder, options = settings.output.out, settings.optimizer
    track: Track = tracker(settings.output.quiet) if world.main else silent
    state = store.find_state(folder)
    seed_torch(settings.loop.seed)
    network = build_network(spec.arch, spec.encoder, spec.channels, spec.outputs)
    if state is None:
        # Rank 0 asks the hub first, so that the others find the file in its cache.
        log.info(world.decide(lambda: load_encoder_weights(network, settings.model, spec.channels)))
        if not world.main:
            load_encoder_weights(network, settings.model, spec.channels)
    network = network.to(device).to(memory_format=torch.channels_last)
    criterion = Criterion(settings.loss.loss)
    updater = Updater(
        network,
        spec,
        make_optimizer(network, options),
        criterion,
        clip=options.clip,
        seed=settings.loop.seed,
        device=device,
        world=world,
        untouched=untouched_parameters(network, spec.channels, _probe_size(settings)),
    )
    course = store.restore(updater, state, folder / "last.pt") if state else Course(settings.loop.epochs)
    if world.main and state is None:
        _describe_run(settings, dataset, train, valid, spec)
    elif state:
        log.info("going on after epoch %d, update %d", course.epoch, course.update)

    samples = TrainingSamples(
        dataset,
        train,
        spec.resize,
        Augmentation(settings.augmentation, settings.size.crop, spec.fill),
        settings.loop.seed,
    )
    collate = Collate(spec.fill, DIVISOR)

    def plan_from(epochs: range, skip: int) -> Plan:
        return Plan(
            len(train),
            batch=options.batch,
            accumulate=options.accumulate,
            seed=settings.loop.seed,
            epochs=epochs,
            skip=skip,
            rank=world.rank,
            world=world.size,
        )

    def load(plan: Plan) -> Iterator[Batch]:
        return iter(make_loader(samples, plan, collate, settings.machine.workers))

    predictor = Predictor([Member(spec, network)], device)

    def validate_on(records: list[Record]) -> Callable[[str], Validation]:
        return lambda label: validate(
            predictor,
            dataset,
            records,
            criterion,
            batch=default_batch(0, device),
            workers=settings.machine.workers,
            world=world,
            track=track,
            label=label,
        )

    clock_file = folder / "clock.json" if world.main and settings.loop.time_limit else None
    loop = Loop(
        updater=updater,
        course=course,
        settings=settings.loop,
        optimizer=options,
        plan_from=plan_from,
        load=load,
        validate=validate_on(valid) if valid else None,
        store=store.RunStore(folder) if world.main else None,
        clock=Clock(course.seconds, clock_file),
        track=track,
    )
    if settings.loop.time_limit:
        _plan_time(loop, limit(valid, 4 * world.size), len(valid), validate_on, fresh=state is None)
    return loop


def _plan_time(
    loop: Loop,
    few: list[Record],
    valid: int,
    validate_on: Callable[[list[Record]], Callable[[str], Validation]],
    fresh: bool,
) -> None:
    """Plan the epochs of a new run and keep the plan; measure what the end of any run needs."""
    updater, course, options = loop.updater, loop.course, loop.optimizer
    updater.network.eval()
    validation = 0.0
    if few:
        validation = planning.timed(lambda: validate_on(few)("measuring")) / len(few) * valid
    validation = planning.agree(validation, updater)
    loop.reserve = planning.MARGIN * validation + planning.OUTSIDE
    if not fresh:
        return
    plan = loop.plan_from(range(1 + planning.TIMED_UPDATES), 0)
    update = planning.agree(planning.measure_update(updater, loop.load(plan), options.accumulate), updater)
    assert loop.settings.time_limit is not None
    course.epochs = updater.world.decide(
        lambda: planning.plan_epochs(
            loop.settings.time_limit or 0.0,
            loop.clock.seconds(),
            update * plan.updates_per_epoch,
            validation,
            loop.settings.epochs,
        )
    )
    log.info(
        "time limit: %.2f s per update, %.0f s per validation: %d epochs planned", update, validation, course.epochs
    )
    if loop.store:
        loop.store.save_last(updater, course)


def _probe_size(settings: TrainSettings) -> Size:
    size = settings.size.crop or Size(128, 128)
    return Size(max(128, -(-size.height // DIVISOR) * DIVISOR), max(128, -(-size.width // DIVISOR) * DIVISOR))


def _describe_run(
    settings: TrainSettings, dataset: Dataset, train: list[Record], valid: list[Record], spec: NetworkSpec
) -> None:
    folder = settings.output.out
    versions = {"segtool": __version__, "python": platform.python_version(), "torch": torch.__version__}
    content = {"settings": flatten(settings), "network": spec.plain(), "versions": versions, "git": _git_state()}
    artifacts.write_json(folder / "config.json", content)
    write_samples(folder / "samples.csv", dataset, train, valid)


def _git_state() -> str | None:
    """Commit of the working folder, with `-dirty` where files are changed; None outside git."""
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()


def _finish(output: Output, loop: Loop, settings: TrainSettings) -> Result:
    course, folder = loop.course, output.path
    names = ["config.json", "samples.csv", "history.csv", "last.pt", "best.pt"]
    names += ["per_image.csv"] if loop.validate else []
    files: list[Path] = [folder / name for name in names] + sorted(folder.glob("epoch_*.pt"))
    best = course.best if settings.loop.monitor != "loss" or course.best is None else -course.best
    (folder / "clock.json").unlink(missing_ok=True)
    output.finish(
        files,
        epochs=course.epoch,
        planned=course.epochs,
        stopped=course.stopped,
        best_epoch=course.best_epoch,
        best=best,
    )
    rows = [
        [int(r["epoch"]), *(r[k] for k in ("train_loss", "valid_loss", "miou", "image_miou", "lr")), r["images_per_s"]]
        for r in course.history
    ]
    columns = ["epoch", "train loss", "valid loss", "mIoU", "image mIoU", "lr", "images/s"]
    ended = f", ended by {course.stopped}" if course.stopped else ""
    told = f"; best {settings.loop.monitor} {best:.4f} in epoch {course.best_epoch}" if best is not None else ""
    return Result(f"{folder}: {course.epoch} epochs{ended}{told}", [Table("History", columns, rows)])
