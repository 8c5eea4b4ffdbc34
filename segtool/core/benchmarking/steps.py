"""One update, or the prediction of one batch, of random images: what is measured, by the code of the commands."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from segtool.core.benchmarking.cases import Case
from segtool.core.dataloading.batches import Collate
from segtool.core.dataloading.mixing import Sample
from segtool.core.images import Pixels
from segtool.core.inference.backends import Backend, accelerate
from segtool.core.inference.batching import images_per_batch
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.models.build import DIVISOR, NetworkSpec, build_network
from segtool.core.runtime.distributed import World
from segtool.core.runtime.seeding import seed_torch
from segtool.core.training.context import assemble_updater
from segtool.settings.inference import ViewSettings, WindowSettings, parse_tta
from segtool.settings.train import TrainSettings
from segtool.values import Size

Step = Callable[[], Any]


class Training:
    """Updates of a network on random images of a size, as `train` makes them, without reading or augmenting them."""

    def __init__(self, settings: TrainSettings, spec: NetworkSpec, size: Size, batch: int, device: str) -> None:
        self.network = network = _network(spec, device)
        self.updater = assemble_updater(settings, spec, network, device, World())
        self.updater.train(frozen=settings.loop.freeze_encoder >= settings.loop.epochs)
        samples = [_sample(spec, size, seed) for seed in range(batch)]
        self.batches = [Collate(spec.intensity.fill, DIVISOR)(samples)] * settings.optimizer.accumulate
        self.images, self.updates = batch * len(self.batches), 0

    def __call__(self) -> None:
        """Do one update."""
        self.updates += 1
        self.updater.step(self.batches, 1.0, 0, self.updates)

    @property
    def shortage(self) -> str:
        """Say what was done about memory that ran short; empty if it was enough."""
        splits = self.updater.micro_splits
        return f"batches are split in {splits}" if splits > 1 else ""


class Prediction:
    """Predictions of random images of a size in full batches, as `predict` makes them, without files."""

    def __init__(self, spec: NetworkSpec, case: Case, device: str) -> None:
        size, batch, engine = case.size, case.batch, case.engine
        self.network = network = _network(spec, device).eval()
        backend: Backend = "torch" if engine == "compile" else engine  # type: ignore[assignment]
        forward = accelerate(network, spec, backend, compiled=engine == "compile", device=device)
        member = Member(spec, network, None if forward is network else forward)
        chosen = ViewSettings(tta=parse_tta(case.views) if case.views else None)
        self.predictor = Predictor([member], device, chosen, WindowSettings(window=case.window), batch)
        self.batch, self.plan = batch, self.predictor.plan(size)
        self.images = images_per_batch(self.plan, batch, device)
        self.pixels = [_pixels(spec, size, seed) for seed in range(self.images)]

    def __call__(self) -> None:
        """Predict the images once."""
        for _ in self.predictor.stream(self.pixels):
            pass

    @property
    def shortage(self) -> str:
        """Say what was done about memory that ran short; empty if it was enough."""
        now = self.predictor.batch
        return f"batches become {now}" if now != self.batch else ""


def time_calls(step: Step, device: str, *, seconds: float, most: int = 1000) -> list[float]:
    """Return the seconds of each call: at least one, and no more after so many seconds."""
    begun = time.monotonic()
    times: list[float] = []
    while not times or (time.monotonic() - begun < seconds and len(times) < most):
        started = time.monotonic()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - started)
    return times


def with_batch(settings: TrainSettings, batch: int) -> TrainSettings:
    """Return the settings of training with another batch."""
    return replace(settings, optimizer=replace(settings.optimizer, batch=batch))


def _network(spec: NetworkSpec, device: str) -> nn.Module:
    seed_torch(0)
    network = build_network(spec.arch, spec.encoder, spec.channels, spec.outputs, spec.aux_outputs)
    return network.to(device).to(memory_format=torch.channels_last)


def _pixels(spec: NetworkSpec, size: Size, seed: int) -> Pixels:
    """Return an image of random pixels as a data set reads it, (H, W, channels)."""
    random, shape = np.random.default_rng(seed), (*size, spec.channels)
    if spec.dtype == "uint8":
        return random.integers(0, 256, shape, np.uint8)
    top = 1.0 if spec.high is None else max(spec.high)
    return (random.random(shape, np.float32) * top).astype(spec.dtype)


def _sample(spec: NetworkSpec, size: Size, seed: int) -> Sample:
    """Return a training sample of random pixels and classes."""
    random, classes = np.random.default_rng(seed), len(spec.classes)
    shape, highest = ((classes, *size), 2) if spec.multi else (tuple(size), classes)
    mask = random.integers(0, highest, shape, np.uint8)
    return Sample(spec.intensity.unit(_pixels(spec, size, seed)), mask, 1.0)
