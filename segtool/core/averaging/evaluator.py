"""Averages of checkpoints in one network, with refreshed batch norms, scored as `train` scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from segtool.core.averaging.job import AveragingJob
from segtool.core.averaging.runs import Checkpoint
from segtool.core.averaging.weights import WeightAverage, refresh_norms
from segtool.core.dataloading.batches import Batch
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint
from segtool.core.models.inputs import amp, network_input, too_few_for_batch_norm
from segtool.core.runtime.seeding import seed_torch
from segtool.core.training.batch_loader import BatchLoader
from segtool.core.training.context import RunContext, RunData, make_updater
from segtool.core.training.validation import Validation, Validator
from segtool.errors import SegtoolError, UsageError

# What checkpoints must have in common to be averaged.
SAME_IN_ALL = (
    "arch",
    "encoder",
    "classes",
    "channels",
    "dtype",
    "mean",
    "std",
    "low",
    "high",
    "clip",
    "resize",
    "aux_head",
)


class CheckpointEvaluator:
    """Averages checkpoints and scores the average, with the data, settings and validation images of one run."""

    def __init__(self, context: RunContext, *, epoch: int, frozen: bool) -> None:
        """
        Args:
            epoch: refresh batch norms on the augmented images of this epoch, counted from 0.
            frozen: the encoder has kept its batch-norm statistics throughout training.
        """
        self.context, self.epoch, self.frozen = context, epoch, frozen
        # The latest epoch of the checkpoints evaluated last.
        self.latest_epoch = 0
        self.updater = make_updater(context, pretrained=False)
        self.batches = BatchLoader(context)
        self.plan = self.batches.plan(range(epoch, epoch + 1))
        self.validator = Validator(context, self.updater.criterion, context.track)

    @property
    def network(self) -> nn.Module:
        """The network, with the weights evaluated last."""
        return self.updater.network

    def evaluate(self, checkpoints: Sequence[Checkpoint]) -> Validation | None:
        """Load the average of checkpoints, refresh its batch norms, and score it.

        A single checkpoint keeps its own batch-norm statistics. The result is None if there are no validation images.

        Raises:
            SegtoolError: a checkpoint is broken.
        """
        average, self.latest_epoch, shapes = WeightAverage(), 0, _shapes(self.network.state_dict())
        for checkpoint in checkpoints:
            content = load_checkpoint(checkpoint.file)
            if _shapes(content["weights"]) != shapes:
                raise SegtoolError(f"checkpoint {checkpoint.file} holds other weights than its network has")
            average.add(content["weights"])
            self.latest_epoch = max(self.latest_epoch, content["epoch"])
        self.network.load_state_dict(average.mean())
        label = checkpoints[0].name
        if len(checkpoints) > 1:
            self._refresh_norms()
            label = f"the average of {len(checkpoints)}"
        return self.validator.validate(self.network, f"validating {label}") if self.context.valid else None

    def _refresh_norms(self) -> None:
        context = self.context
        plan = self.plan.everything(self.epoch)
        self.updater.train(frozen=self.frozen)
        # Dropout is active, as in training.
        seed_torch(context.settings.loop.seed, self.epoch, context.world.rank)
        refresh_norms(
            self.network,
            context.track(self.batches.load(plan), total=len(plan), label="refreshing batch norms"),
            self._forward,
            context.world.all_reduce_sum if context.world.size > 1 else None,
        )

    def _forward(self, batch: Batch) -> None:
        spec, device, world = self.context.spec, self.context.device, self.context.world
        try:
            with amp(spec.precision, device):
                self.network(network_input(batch.images, spec, device))
        except ValueError as error:
            if world.size == 1 or not too_few_for_batch_norm(error):
                raise
            raise UsageError(
                f"--batch {self.context.settings.optimizer.batch} of the run leaves one image to each of {world.size}"
                f" processes, and {spec.arch} has batch norm over a single pixel: start fewer processes"
            ) from error


def run_data(job: AveragingJob) -> RunData:
    """Return the images of a job, and the description of the network that all its checkpoints share.

    Raises:
        UsageError: their networks differ.
        SegtoolError: a checkpoint is broken, or its network is for other classes or images than those of the data set.
    """
    spec, dataset = _common_spec(job.all_checkpoints), job.dataset
    if dataset.classes != spec.classes or (dataset.channels, dataset.dtype) != (spec.channels, spec.dtype):
        raise SegtoolError(
            f"{dataset.path} has the classes {', '.join(dataset.classes)} and {dataset.channels} channels of"
            f" {dataset.dtype}, but {job.runs[0].path} was trained with {', '.join(spec.classes)} and {spec.channels}"
            f" of {spec.dtype}"
        )
    return RunData(dataset, job.train, job.valid, spec)


def _common_spec(checkpoints: Sequence[Checkpoint]) -> NetworkSpec:
    first, *others = checkpoints
    expected = _spec(first.file)
    for checkpoint in others:
        spec = _spec(checkpoint.file)
        for name in SAME_IN_ALL:
            value, reference = getattr(spec, name), getattr(expected, name)
            if value != reference:
                raise UsageError(
                    f"only equal networks can be averaged: {name.replace('_', ' ')} is {_text(value)} in"
                    f" {checkpoint.name}, {_text(reference)} in {first.name}"
                )
    return expected


def _spec(file: Path) -> NetworkSpec:
    try:
        return NetworkSpec.from_plain(load_checkpoint(file)["network"])
    except (KeyError, TypeError) as error:
        raise SegtoolError(f"checkpoint {file} does not describe its network") from error


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in weights.items()}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
