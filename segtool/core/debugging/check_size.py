"""The size of the images of `debug`, so that its checks end in time on a machine without a GPU."""

import logging
import math
import time
from dataclasses import replace

import torch
from torch import nn

from segtool.core.dataset.dataset import Dataset
from segtool.core.debugging.checks import OVERFIT_STEPS
from segtool.core.images import image_size
from segtool.core.models.build import DIVISOR, build_network
from segtool.core.runtime.distributed import choose_device
from segtool.settings.augmentation import PRESETS
from segtool.settings.train import TrainSettings
from segtool.values import Size

log = logging.getLogger(__name__)

# For the network alone, without reading, writing and the start of Python.
SECONDS = 60.0
# The limit is meant for this number of images, of passes over them, and of further images predicted; more take longer.
IMAGES, EPOCHS, PREDICTED = 32, 2, 24
# The forward part of a forward and backward pass.
FORWARD = 1 / 3
# No side is made smaller.
SMALLEST = 128
# Side of the images, and their number, on which a pass is timed.
PROBE, PROBES = 160, 2


def in_time(settings: TrainSettings, sample: Dataset) -> tuple[TrainSettings, float]:
    """Return the settings with images small enough, and the factor in pixels by which the real images are larger."""
    sizes = sorted((image_size(record.image) for record in sample.train), key=math.prod)
    whole = settings.size.resized(sizes[len(sizes) // 2])
    small = _fitting(settings, sample, whole)
    if small is None:
        return settings, 1.0
    log.warning(
        "checking on images of %s, since %s would take too long on this machine; small objects may be lost",
        *(small, whole),
    )
    crop, times = settings.size.crop, math.prod(whole) / math.prod(small)
    if crop:
        crop = Size(*map(min, _scaled(crop, times**-0.5), small))
    return replace(settings, size=replace(settings.size, resize=small, crop=crop)), times


def _fitting(settings: TrainSettings, sample: Dataset, whole: Size) -> Size | None:
    """Return the size to resize images to; None if they may keep theirs."""
    # The number of windows, and the sizes that a pipeline from a file accepts, are not known.
    if settings.size.window or settings.augmentation.augment not in PRESETS or math.prod(whole) <= SMALLEST**2:
        return None
    if choose_device(settings.machine.device) != "cpu":
        return None
    if settings.machine.threads:
        torch.set_num_threads(settings.machine.threads)
    network = build_network(settings.model.arch, settings.model.encoder, sample.channels, len(sample.classes))
    seconds = _work(whole, settings.size.crop or whole) * seconds_per_pixel(network, sample.channels)
    return _scaled(whole, math.sqrt(SECONDS / seconds)) if seconds > SECONDS else None


def seconds_per_pixel(network: nn.Module, channels: int) -> float:
    """Time a forward and backward pass on the CPU; 0 if the network does not accept such images."""
    images = torch.rand(PROBES, channels, PROBE, PROBE)
    network.train()
    started = 0.0
    try:
        # The first warms up.
        for _ in range(2):
            started = time.monotonic()
            network(images).mean().backward()
    except (RuntimeError, AssertionError, ValueError):
        return 0.0
    return (time.monotonic() - started) / (PROBES * PROBE**2)


def _work(whole: Size, crop: Size) -> float:
    """Return the pixels of all forward and backward passes of the checks; forward passes alone count in part."""
    held = IMAGES // 4
    trained = EPOCHS * (IMAGES - held) + 2 * (OVERFIT_STEPS + 1)
    predicted = (EPOCHS + 3) * held + PREDICTED
    return trained * math.prod(crop) + FORWARD * predicted * math.prod(whole)


def _scaled(size: Size, scale: float) -> Size:
    def side(length: int) -> int:
        return max(min(length, SMALLEST), int(length * scale) // DIVISOR * DIVISOR)

    return Size(side(size.height), side(size.width))
