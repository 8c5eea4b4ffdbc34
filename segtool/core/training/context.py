"""The context of a run: settings, images, the description of the network and the machine."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import nn

from segtool.core.dataloading.augmentation import check_pipeline
from segtool.core.dataloading.training_units import TrainingUnits, count_units, read_units
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.intensity import measure_intensity, of_8_bits
from segtool.core.dataset.seen_images import refuse_trained, without_duplicates
from segtool.core.documents import read_json
from segtool.core.geometry import round_up
from segtool.core.images import image_size
from segtool.core.losses.class_weights import class_weights
from segtool.core.losses.criterion import Criterion
from segtool.core.losses.plane_criterion import PlaneCriterion
from segtool.core.models.build import DIVISOR, NetworkSpec, build_network, check_size, check_weights
from segtool.core.models.names import check_names
from segtool.core.models.normalisation import measured_kind, normalisation
from segtool.core.models.pretrained import load_encoder_weights
from segtool.core.models.transfer import init_spec, load_run_weights
from segtool.core.optim.optimizer import check_optimizer, make_optimizer
from segtool.core.reporting.progress import Track, silent, tracker
from segtool.core.runtime.distributed import World
from segtool.core.runtime.seeding import seed_torch
from segtool.core.training.inputs import read_images
from segtool.core.training.update import Updater
from segtool.settings.train import TrainSettings
from segtool.values import Size

log = logging.getLogger(__name__)

# Channels whose values are logged.
LISTED = 5


@dataclass(frozen=True)
class RunData:
    """The images of a run, and the description of its network."""

    dataset: Dataset
    train: list[Record]
    valid: list[Record]
    spec: NetworkSpec


@dataclass(frozen=True)
class RunContext:
    """Everything that a run depends on, once its folder has been begun.

    train: the training images, without duplicates of validation images.
    units: what an epoch draws from: the images, or windows of them.
    """

    settings: TrainSettings
    dataset: Dataset
    train: list[Record]
    valid: list[Record]
    spec: NetworkSpec
    units: TrainingUnits
    device: str
    world: World
    track: Track

    @classmethod
    def create(cls, settings: TrainSettings, data: RunData, device: str, world: World) -> "RunContext":
        """Leave out duplicates of validation images, which the folder's `samples.csv` lists, and find the units."""
        track = tracker(settings.output.quiet) if world.is_main else silent
        train = without_duplicates(settings.output.out / "samples.csv", data.dataset, data.train)
        units = _find_units(settings, data.dataset, train, world, track)
        return cls(settings, data.dataset, train, data.valid, data.spec, units, device, world, track)


def read_data(settings: TrainSettings) -> RunData:
    """Read the data set, choose the images, and describe the network.

    Raises:
        UsageError: an unknown name of an architecture, encoder or optimizer, or options that do not fit the data.
    """
    check_names(settings.model.arch, settings.model.encoder)
    check_weights(settings.model.encoder)
    check_optimizer(settings.optimizer.optimizer)
    dataset, train, valid = read_images(settings)
    spec = _describe_network(settings, dataset)
    kind = None if settings.model.init else measured_kind(settings.model, dataset)
    scaled = dataset.dtype != "uint8" or spec.low is not None or kind == "percentile"
    size = settings.size.resized(image_size(train[0].image))
    check_pipeline(settings.augmentation, size, dataset.channels, np.float32 if scaled else np.uint8)
    return RunData(dataset, train, valid, spec)


def with_intensity(data: RunData, settings: TrainSettings, folder: Path, track: Track) -> RunData:
    """Return the data with the intensity of its images measured, unless the encoder or another run decides it.

    A run that is resumed keeps what its `config.json` says.
    """
    spec, config = data.spec, folder / "config.json"
    kind = None if settings.model.init else measured_kind(settings.model, data.dataset)
    source = "the run"
    if kind and config.exists():
        kept = NetworkSpec.from_plain(read_json(config, ConfigFile)["network"]).intensity
        spec = replace(spec, **vars(kept))
    elif kind:
        spec = replace(spec, **vars(measure_intensity(data.dataset, data.train, kind, track)))
        source = "the training images"
    if kind:
        _log_intensity(spec, source)
    return replace(data, spec=spec)


class ConfigFile(TypedDict):
    """What is read of a run's `config.json`."""

    network: dict[str, Any]


def make_updater(context: RunContext, *, pretrained: bool) -> Updater:
    """Build the network with its optimizer and loss.

    Args:
        pretrained: load the weights that the run starts from; otherwise they are random.
    """
    settings, spec, world = context.settings, context.spec, context.world
    seed_torch(settings.loop.seed)
    network = build_network(spec.arch, spec.encoder, spec.channels, spec.outputs, spec.aux_outputs)
    if pretrained:
        # On rank 0 only: the updater broadcasts its weights.
        log.info(world.run_on_main(lambda: _load_weights(network, settings, spec)))
    network = network.to(context.device).to(memory_format=torch.channels_last)
    check_size(network, spec.channels, _probe_size(settings))
    weights = world.run_on_main(lambda: _class_weights(context))
    return assemble_updater(settings, spec, network, context.device, world, weights)


def assemble_updater(
    settings: TrainSettings,
    spec: NetworkSpec,
    network: nn.Module,
    device: str,
    world: World,
    weights: Sequence[float] | None = None,
) -> Updater:
    """Give a network on its device the optimizer and loss of the settings.

    Args:
        weights: of the classes, in the loss.
    """
    return Updater(
        network,
        spec,
        make_optimizer(network, settings.optimizer),
        (PlaneCriterion if spec.multi else Criterion)(settings.loss, weights),
        clip=settings.optimizer.clip,
        aux_weight=settings.model.aux_head,
        seed=settings.loop.seed,
        device=device,
        world=world,
        ema=settings.loop.ema,
    )


def _find_units(
    settings: TrainSettings, dataset: Dataset, train: list[Record], world: World, track: Track
) -> TrainingUnits:
    """Return windows and pixels per class if options need them, counted once and kept with the run; else the images."""
    size, path = settings.size, settings.output.out / "units.csv"
    if not (size.window or size.crop_balance or settings.extras.oversample):
        return TrainingUnits(tuple(train))

    def count() -> None:
        if not path.exists():
            count_units(path, dataset, train, size, track)

    world.run_on_main(count)
    return read_units(path, dataset, train, windows=size.window is not None)


def _describe_network(settings: TrainSettings, dataset: Dataset) -> NetworkSpec:
    init = init_spec(settings.model.init) if settings.model.init and settings.model.mean is None else None
    if init:
        intensity, source = init.intensity, f"those of {settings.model.init}"
    else:
        colours = normalisation(settings.model, dataset.channels)
        intensity, source = of_8_bits(colours.mean, colours.std), colours.source
    spec = NetworkSpec(
        arch=settings.model.arch.lower(),
        encoder=settings.model.encoder,
        classes=dataset.classes,
        channels=dataset.channels,
        resize=settings.size.resize,
        precision=settings.optimizer.precision,
        aux_head=settings.model.aux_head > 0,
        dtype=dataset.dtype,
        nodata=dataset.nodata,
        labels=dataset.labels,
        **vars(intensity),
    )
    if init or measured_kind(settings.model, dataset) is None:
        _log_intensity(spec, source)
    return spec


def _log_intensity(spec: NetworkSpec, source: str) -> None:
    if spec.low is not None and spec.high is not None:
        ends = dict.fromkeys(f"{low:g} to {high:g}" for low, high in zip(spec.low, spec.high, strict=True))
        log.info("values from %s become 0 to 1%s", _listed(list(ends), ", "), ", cut off" if spec.clip else "")
    mean, std = (_listed([f"{value:.3f}" for value in values], ",") for values in (spec.mean, spec.std))
    log.info("mean %s, std %s (%s)", mean, std, source)


def _listed(texts: Sequence[str], between: str) -> str:
    return between.join([*texts[:LISTED], *(["..."] if len(texts) > LISTED else [])])


def _load_weights(network: nn.Module, settings: TrainSettings, spec: NetworkSpec) -> str:
    if settings.model.init:
        refuse_trained(settings.output.out / "samples.csv", settings.model.init)
        return load_run_weights(network, spec, settings.model.init)
    return load_encoder_weights(network, settings.model, spec.channels)


def _class_weights(context: RunContext) -> tuple[float, ...] | None:
    kept = context.settings.output.out / "class_weights.csv"
    return class_weights(context.settings.loss.class_weights, context.dataset, context.train, kept, context.track)


def _probe_size(settings: TrainSettings) -> Size:
    """Return the size of training images where the settings give one, rounded up as batches are."""
    resize = settings.size.resize if isinstance(settings.size.resize, Size) else None
    size = settings.size.crop or settings.size.window or resize or Size(128, 128)
    return Size(round_up(size.height, DIVISOR), round_up(size.width, DIVISOR))
