"""Putting the parts of a run together, and bringing them to where the run stopped, or to its start."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from segtool.core.catalog import Dataset, Record
from segtool.core.data.augmentation import Augmentation
from segtool.core.data.batches import Batch, Collate, Key, Plan, TrainingSamples, round_up
from segtool.core.data.loader import make_loader
from segtool.core.data.sampling import repeat_factors
from segtool.core.data.seeding import seed_torch
from segtool.core.data.units import Units, count_units, read_units
from segtool.core.models.build import DIVISOR, NetworkSpec, build_network, check_size
from segtool.core.models.class_weights import class_weights
from segtool.core.models.losses import Criterion
from segtool.core.models.optim import make_optimizer
from segtool.core.models.pretrained import load_encoder_weights
from segtool.core.models.schedule import scheduled
from segtool.core.models.transfer import load_run_weights
from segtool.core.reporting.progress import Track
from segtool.core.selection import limit, refuse_seen
from segtool.core.training import planning, store
from segtool.core.training.course import Clock, Course
from segtool.core.training.distributed import World
from segtool.core.training.judges import Judges, Validate
from segtool.core.training.loop import Loop
from segtool.core.training.signals import Signals
from segtool.core.training.update import Updater
from segtool.errors import UsageError
from segtool.settings.options import Size
from segtool.settings.train import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a run is made from: the data, the network's description, the machine."""

    dataset: Dataset
    train: list[Record]
    valid: list[Record]
    spec: NetworkSpec
    device: str
    world: World
    track: Track
    # What an epoch draws from; by default the images.
    units: Units | None = None

    @property
    def drawn(self) -> Units:
        """What an epoch draws from."""
        return self.units or Units(tuple(self.train))


def find_units(settings: TrainSettings, parts: Parts) -> Units | None:
    """Windows, and pixels of each class, where they are asked for: counted once and kept with the run."""
    size, path = settings.size, settings.output.out / "units.csv"
    if not (size.window or size.crop_balance or settings.extras.oversample):
        return None

    def count() -> None:
        if not path.exists():
            count_units(path, parts.dataset, parts.train, size, parts.track)

    parts.world.decide(count)
    return read_units(path, parts.dataset, parts.train, windows=size.window is not None)


def prepare(settings: TrainSettings, parts: Parts) -> Loop:
    """The loop of a run, restored from its folder's checkpoint where there is one."""
    _check_validation(settings, parts)
    folder, world = settings.output.out, parts.world
    state = store.find_state(folder)
    updater = make_updater(settings, parts, pretrained=state is None)
    course = Course(settings.loop.epochs)
    if state:
        course = store.restore(updater, state, folder / "last.pt")
        log.info("going on after epoch %d, update %d", course.epoch, course.update)
    signals = Signals(alone=world.size == 1)
    judges = Judges(settings, parts.dataset, parts.valid, updater, signals.watched(parts.track))
    average = updater.average
    clock_file = folder / "clock.json" if world.main and settings.loop.time_limit else None
    loop = Loop(
        updater=updater,
        course=course,
        settings=settings.loop,
        optimizer=settings.optimizer,
        rate=partial(scheduled, settings.optimizer),
        plan_from=make_planner(settings, parts.drawn, world),
        load=load_plans(settings, parts),
        validate=judges.of(updater.network) if parts.valid else None,
        validate_average=judges.of(average.network) if average and parts.valid else None,
        store=store.RunStore(folder) if world.main else None,
        clock=Clock(course.seconds, clock_file),
        track=parts.track,
        go_back=lambda: _go_back(settings, parts, updater, course),
        picture=judges.draw if settings.loop.save_images and world.main else None,
        signals=signals,
    )
    if settings.loop.time_limit:
        few = limit(parts.valid, 4 * world.size)
        validate_few = judges.of(updater.network, few) if few else None
        _plan_time(loop, validate_few, len(parts.valid) / max(1, len(few)), fresh=state is None)
    return loop


def _check_validation(settings: TrainSettings, parts: Parts) -> None:
    """Raise UsageError for options that need validation images where there are none."""
    needing = {
        "--valid-every": settings.loop.valid_every > 1,
        "--patience": settings.loop.patience,
        "--save-images": settings.loop.save_images,
        "--schedule plateau": settings.optimizer.schedule == "plateau",
    }
    if not parts.valid and (given := [name for name, value in needing.items() if value]):
        raise UsageError(f"{given[0]} needs validation images, and --fold all leaves none")


def _go_back(settings: TrainSettings, parts: Parts, updater: Updater, course: Course) -> None:
    """Weights and optimizer as they were at the start of the current epoch."""
    if course.epoch:
        state = store.epoch_start(settings.output.out)
        updater.load(state["weights"], state)
    else:
        fresh = make_updater(settings, parts, pretrained=True)
        updater.load(fresh.network.state_dict(), fresh.state())


def make_updater(settings: TrainSettings, parts: Parts, *, pretrained: bool) -> Updater:
    """A network with its optimizer; `pretrained`: with the weights it is to start from, else with random ones."""
    spec, world = parts.spec, parts.world
    seed_torch(settings.loop.seed)
    network = build_network(spec.arch, spec.encoder, spec.channels, spec.outputs, spec.presence)
    if pretrained:
        # On rank 0 alone: the others get its weights from the updater.
        log.info(world.decide(lambda: _load_weights(network, settings, spec)))
    network = network.to(parts.device).to(memory_format=torch.channels_last)
    check_size(network, spec.channels, _probe_size(settings))
    return Updater(
        network,
        spec,
        make_optimizer(network, settings.optimizer),
        Criterion(settings.loss, world.decide(lambda: _class_weights(settings, parts))),
        clip=settings.optimizer.clip,
        aux_weight=settings.model.aux_head,
        seed=settings.loop.seed,
        device=parts.device,
        world=world,
        ema=settings.loop.ema,
    )


def _load_weights(network: nn.Module, settings: TrainSettings, spec: NetworkSpec) -> str:
    if settings.model.init:
        refuse_seen(settings.output.out / "samples.csv", settings.model.init)
        return load_run_weights(network, spec, settings.model.init)
    return load_encoder_weights(network, settings.model, spec.channels)


def _class_weights(settings: TrainSettings, parts: Parts) -> tuple[float, ...] | None:
    kept = settings.output.out / "class_weights.csv"
    return class_weights(settings.loss.class_weights, parts.dataset, parts.train, kept, parts.track)


def make_planner(settings: TrainSettings, units: Units, world: World) -> Callable[[range, int], Plan]:
    """The micro-batches of some epochs, counted from 0, without those of the first so many updates."""
    factors = None
    if settings.extras.oversample and units.counts is not None:
        factors = repeat_factors(units.counts, settings.extras.oversample)
    return lambda epochs, skip: Plan(
        len(units),
        batch=settings.optimizer.batch,
        accumulate=settings.optimizer.accumulate,
        seed=settings.loop.seed,
        epochs=epochs,
        skip=skip,
        rank=world.rank,
        world=world.size,
        factors=factors,
    )


def load_plans(settings: TrainSettings, parts: Parts) -> Callable[[Iterable[list[Key]]], Iterator[Batch]]:
    """What reads and augments the images of micro-batches as the run sees them."""
    spec, units = parts.spec, parts.drawn
    augmentation = Augmentation(settings.augmentation, settings.size, spec.fill, units.shares)
    samples = TrainingSamples(parts.dataset, units, spec.resize, augmentation, settings.loop.seed)
    collate = Collate(spec.fill, DIVISOR)
    return lambda plan: make_loader(samples, plan, collate, settings.machine.workers)


def _plan_time(loop: Loop, validate_few: Validate | None, times: float, fresh: bool) -> None:
    """Plan the epochs of a new run and keep the plan; measure what the end of any run needs.

    Args:
        validate_few: validation of a few images, of which there are `times` as many.
    """
    updater, course, options = loop.updater, loop.course, loop.optimizer
    validation = planning.timed(lambda: validate_few("measuring")) * times if validate_few else 0.0
    # The average is validated as well.
    validation = planning.agree(validation, updater) * (2 if loop.validate_average else 1)
    saving = planning.agree(planning.timed(loop.save), updater) if fresh else 0.0
    loop.reserve = planning.MARGIN * (validation + saving) + planning.OUTSIDE
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
            validation / loop.settings.valid_every + saving,
            loop.settings.epochs,
        )
    )
    log.info(
        "time limit: %.2f s per update, %.0f s per validation: %d epochs planned", update, validation, course.epochs
    )
    loop.save()


def _probe_size(settings: TrainSettings) -> Size:
    """The size of training images where the settings say it, rounded up as batches are."""
    size = settings.size.crop or settings.size.window or settings.size.resize or Size(128, 128)
    return Size(round_up(size.height, DIVISOR), round_up(size.width, DIVISOR))
