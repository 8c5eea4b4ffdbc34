"""One network that takes averaged weights in turn, has its batch norms refreshed, and is scored as `train` scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from segtool.core.data.batches import Batch
from segtool.core.data.seeding import seed_torch
from segtool.core.models.averaging import WeightSum, refresh_norms
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.models.inputs import amp, network_input
from segtool.core.training.judges import Judges
from segtool.core.training.setup import Parts, load_plans, make_planner, make_updater
from segtool.core.training.sources import Checkpoint
from segtool.core.training.validation import Validation
from segtool.errors import SegtoolError, UsageError
from segtool.settings.train import TrainSettings

# What checkpoints must have in common to be averaged.
ALIKE = ("arch", "encoder", "classes", "channels", "mean", "std", "resize", "aux_head")


class Bench:
    """Makes and scores averages of checkpoints with the data, settings and validation images of one run."""

    def __init__(self, settings: TrainSettings, parts: Parts, *, epoch: int, frozen: bool) -> None:
        """
        Args:
            epoch: whose augmentation the batch norms see, counted from 0.
            frozen: the encoder has kept its statistics all the time.
        """
        self.settings, self.parts, self.epoch, self.frozen = settings, parts, epoch, frozen
        # The latest epoch of the checkpoints taken last.
        self.newest = 0
        self.updater = make_updater(settings, parts, pretrained=False)
        self.load = load_plans(settings, parts)
        self.plan = make_planner(settings, parts.drawn, parts.world)(range(epoch, epoch + 1), 0)
        self.judge = Judges(settings, parts.dataset, parts.valid, self.updater, parts.track).of(self.updater.network)

    @property
    def network(self) -> nn.Module:
        """The network with the weights taken last."""
        return self.updater.network

    def take(self, checkpoints: Sequence[Checkpoint]) -> Validation | None:
        """Give the network the mean of the checkpoints' weights and statistics that belong to it, and score it.

        Of a single checkpoint it has both as they are. Without validation images there is no score.

        Raises:
            SegtoolError: a checkpoint is broken.
        """
        total, self.newest, shapes = WeightSum(), 0, _shapes(self.network.state_dict())
        for checkpoint in checkpoints:
            content = load_checkpoint(checkpoint.file)
            if _shapes(content["weights"]) != shapes:
                raise SegtoolError(f"checkpoint {checkpoint.file} holds other weights than its network has")
            total.add(content["weights"])
            self.newest = max(self.newest, content["epoch"])
        self.network.load_state_dict(total.mean())
        several = len(checkpoints) > 1
        if several:
            self._refresh()
        label = f"the average of {len(checkpoints)}" if several else checkpoints[0].name
        return self.judge(f"validating {label}") if self.parts.valid else None

    def _refresh(self) -> None:
        parts, settings = self.parts, self.settings
        plan = self.plan.everything(self.epoch)
        self.updater.train(frozen=self.frozen)
        # Dropout is as it is in training.
        seed_torch(settings.loop.seed, self.epoch, parts.world.rank)
        refresh_norms(
            self.network,
            parts.track(self.load(plan), total=len(plan), label="refreshing batch norms"),
            self._pass,
            parts.world.total if parts.world.size > 1 else None,
        )

    def _pass(self, batch: Batch) -> None:
        spec, device, world = self.parts.spec, self.parts.device, self.parts.world
        try:
            with amp(spec.precision, device):
                self.network(network_input(batch.images, spec, device))
        except ValueError as error:
            if world.size == 1 or "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"--batch {self.settings.optimizer.batch} of the run leaves one image to each of {world.size}"
                f" processes, and {spec.arch} has batch norm over a single pixel: start fewer"
            ) from error


def common_spec(checkpoints: Sequence[Checkpoint]) -> NetworkSpec:
    """The network that checkpoints are of.

    Raises:
        UsageError: they are of different ones, which cannot be averaged.
        SegtoolError: one is broken.
    """
    specs = [_spec(checkpoint.file) for checkpoint in checkpoints]
    for checkpoint, spec in zip(checkpoints, specs, strict=True):
        for name in ALIKE:
            if getattr(spec, name) != getattr(specs[0], name):
                raise UsageError(
                    f"only equal networks can be averaged: {name.replace('_', ' ')} is {_told(getattr(spec, name))} in"
                    f" {checkpoint.name}, {_told(getattr(specs[0], name))} in {checkpoints[0].name}"
                )
    return specs[0]


def _spec(file: Path) -> NetworkSpec:
    try:
        return NetworkSpec.from_plain(load_checkpoint(file)["network"])
    except (KeyError, TypeError) as error:
        raise SegtoolError(f"checkpoint {file} does not say of which network it is") from error


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
