"""One network that takes averaged weights in turn, has its batch norms refreshed, and is scored as `train` scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from segtool.core.averaging.runs import Checkpoint
from segtool.core.averaging.weights import WeightSum, refresh_norms
from segtool.core.dataloading.batches import Batch
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.models.inputs import amp, network_input, too_few_for_batch_norm
from segtool.core.runtime.seeding import seed_torch
from segtool.core.training.batch_loader import BatchLoader
from segtool.core.training.context import RunContext, make_updater
from segtool.core.training.validation import Validation, Validator
from segtool.errors import SegtoolError, UsageError

# What checkpoints must have in common to be averaged.
ALIKE = ("arch", "encoder", "classes", "channels", "mean", "std", "resize", "aux_head")


class Bench:
    """Makes and scores averages of checkpoints with the data, settings and validation images of one run."""

    def __init__(self, context: RunContext, *, epoch: int, frozen: bool) -> None:
        """
        Args:
            epoch: whose augmentation the batch norms see, counted from 0.
            frozen: the encoder has kept its statistics all the time.
        """
        self.context, self.epoch, self.frozen = context, epoch, frozen
        # The latest epoch of the checkpoints taken last.
        self.newest = 0
        self.updater = make_updater(context, pretrained=False)
        self.batches = BatchLoader(context)
        self.plan = self.batches.plan(range(epoch, epoch + 1))
        self.validator = Validator(context, self.updater.criterion, context.track)

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
        return self.validator.validate(self.network, f"validating {label}") if self.context.valid else None

    def _refresh(self) -> None:
        context = self.context
        plan = self.plan.everything(self.epoch)
        self.updater.train(frozen=self.frozen)
        # Dropout is as it is in training.
        seed_torch(context.settings.loop.seed, self.epoch, context.world.rank)
        refresh_norms(
            self.network,
            context.track(self.batches.load(plan), total=len(plan), label="refreshing batch norms"),
            self._pass,
            context.world.all_reduce_sum if context.world.size > 1 else None,
        )

    def _pass(self, batch: Batch) -> None:
        spec, device, world = self.context.spec, self.context.device, self.context.world
        try:
            with amp(spec.precision, device):
                self.network(network_input(batch.images, spec, device))
        except ValueError as error:
            if world.size == 1 or not too_few_for_batch_norm(error):
                raise
            raise UsageError(
                f"--batch {self.context.settings.optimizer.batch} of the run leaves one image to each of {world.size}"
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
