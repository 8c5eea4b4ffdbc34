"""One update of the weights from micro-batches."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from segtool.core.dataloading.batches import Batch
from segtool.core.losses.criterion import Criterion, Mixed, UpdateTotals
from segtool.core.losses.image_labels import image_label_loss, image_label_targets
from segtool.core.losses.plane_criterion import PlaneCriterion
from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import amp, network_input, too_few_for_batch_norm
from segtool.core.models.outputs import read_output
from segtool.core.optim.ema import Average
from segtool.core.optim.optimizer import set_lr
from segtool.core.runtime.distributed import World
from segtool.core.runtime.memory import PassMemoryError, pass_memory_errors
from segtool.core.runtime.seeding import seed_torch
from segtool.core.training.snapmix import snapmix_targets
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)


class Updater:
    """Update a network's weights, with the same result for any split into micro-batches and processes."""

    def __init__(
        self,
        network: nn.Module,
        spec: NetworkSpec,
        optimizer: torch.optim.Optimizer,
        criterion: Criterion | PlaneCriterion,
        *,
        clip: float,
        seed: int,
        device: str,
        world: World,
        aux_weight: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        """
        Args:
            aux_weight: of the auxiliary head's loss, if the network has that head.
            ema: decay of the average of the weights, 0 for no average.
            clip: largest gradient norm, 0 for none.
        """
        self.network, self.spec, self.optimizer, self.criterion = network, spec, optimizer, criterion
        self.clip, self.seed, self.device, self.world = clip, seed, device, world
        self.aux_weight = aux_weight
        self.scaler = torch.amp.GradScaler(device, enabled=spec.precision == "fp16")
        self.frozen = False
        # Parts into which each micro-batch is split because memory was short.
        self.micro_splits = 1
        self.buffers = list(network.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        # Only rank 0 has loaded weights.
        world.broadcast([*network.parameters(), *self.buffers])
        self.average = Average(network, ema) if ema else None

    def train(self, *, frozen: bool = False) -> None:
        """Put the network in training mode; a `frozen` encoder keeps its weights and statistics."""
        self.network.train()
        if frozen != self.frozen:
            self.frozen = frozen
            self.network.get_submodule("encoder").requires_grad_(not frozen)
        if frozen:
            self.network.get_submodule("encoder").eval()

    def step(self, batches: Sequence[Batch], lr_factor: float, *key: int) -> float:
        """Do one update from the micro-batches of this process.

        Args:
            lr_factor: the learning rate in units of the highest.
            key: epoch and update, which with the seed determine dropout and the like.

        Returns:
            The loss of the whole update over all processes; NaN if the loss or a gradient is not finite and the weights
            have not changed.

        Raises:
            SegtoolError: out of memory with one image at a time.
            UsageError: the network has batch norm, for which one image is too few.
        """
        set_lr(self.optimizer, lr_factor)
        while True:
            try:
                return self._step(split_micro_batches(batches, self.micro_splits), *key)
            except PassMemoryError:
                pass
            # Outside of the handler, since the exception keeps tensors in memory.
            self.micro_splits = _more_splits(self.micro_splits, len(batches[0].images))

    def _step(self, batches: Sequence[Batch], *key: int) -> float:
        seed_torch(self.seed, *key, self.world.rank)
        # Statistics differ between processes, and checkpoints hold those of rank 0.
        self.world.broadcast(self.buffers)
        _copy(self.before, self.buffers)
        moved = False
        try:
            loss = self._losses(batches)
            moved = math.isfinite(loss) and self._move()
        finally:
            self.network.zero_grad(set_to_none=True)
            if not moved:
                # The forward passes have changed the statistics, which may be NaN too.
                _copy(self.buffers, self.before)
        return loss if moved else math.nan

    def _losses(self, batches: Sequence[Batch]) -> float:
        """Return the loss of an update over all processes, with its gradients left in the parameters.

        Raises:
            PassMemoryError: memory was too short in this process or in another.
        """
        local = torch.stack([self._pixels(batch) for batch in batches]).sum()
        totals = UpdateTotals(float(self.world.all_reduce_sum(local)), len(batches) * self.world.size)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        try:
            for batch in batches:
                with pass_memory_errors():
                    sums[0] += self._backward(batch, totals).detach()
        except PassMemoryError:
            sums[1] = 1
        loss, short = self.world.all_reduce_sum(sums).tolist()
        if short:
            raise PassMemoryError("in one or more processes")
        self.world.all_reduce([p.grad for p in self.network.parameters() if p.grad is not None])
        return float(loss)

    def gradients(self, batch: Batch) -> None:
        """Leave the gradients of one batch's loss in the parameters."""
        self._backward(batch, UpdateTotals(float(self._pixels(batch)), 1))

    def _pixels(self, batch: Batch) -> torch.Tensor:
        return self.criterion.pixels(batch.masks, _second(batch), batch.soft)

    def _backward(self, batch: Batch, totals: UpdateTotals) -> torch.Tensor:
        images = network_input(batch.images, self.spec, self.device)
        masks = batch.masks.to(self.device, non_blocking=True)
        weights = batch.weights.to(self.device, non_blocking=True)
        second = _second(batch, self.device)
        soft = None if batch.soft is None else batch.soft.to(self.device, non_blocking=True)
        # Before the forward pass, which changes the statistics.
        targets = self._image_label_targets(batch, masks) if self.spec.aux_outputs else None
        try:
            with amp(self.spec.precision, self.device):
                logits, image_logits = read_output(self.network(images))
        except ValueError as error:
            if len(images) > 1 or not too_few_for_batch_norm(error):
                raise
            if self.micro_splits > 1:
                raise SegtoolError(
                    f"out of memory with two images at a time, and {self.spec.arch} needs two"
                ) from error
            raise UsageError(
                f"--arch {self.spec.arch} with --encoder {self.spec.encoder} has batch norm over a single pixel and"
                f" cannot learn from one image at a time: use --batch {2 * self.world.size} or more"
            ) from error
        loss = self.criterion(logits, masks, weights, totals, second, soft)
        if image_logits is not None and targets is not None:
            aux = _image_label_loss(image_logits, targets, masks, weights, second)
            loss = loss + self.aux_weight * aux / totals.micro_batches
        self.scaler.scale(loss).backward()
        return loss

    def _image_label_targets(self, batch: Batch, masks: torch.Tensor) -> torch.Tensor:
        """Return the targets of the auxiliary head, (N, C)."""
        targets = image_label_targets(masks, self.spec.aux_outputs)
        if batch.sources is not None and batch.sources.mixed.any():
            targets[batch.sources.mixed] = snapmix_targets(self.network, self.spec, batch.sources, self.device)
        return targets

    def _move(self) -> bool:
        """Do the optimizer's step; return False if the gradients are not finite.

        With loss scaling, return True even then: the step is skipped and the scale reduced, which is not a fault.
        """
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = bool(norm.isfinite())
        if not finite and not self.scaler.is_enabled():
            return False
        if self.clip and finite:
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), self.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average and finite:
            self.average.follow()
        return True

    def state(self) -> dict[str, Any]:
        """Return the state besides the network's weights, for a checkpoint; not copied."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.average.state_dict() if self.average else None,
            "pieces": self.micro_splits,
        }

    def load(self, weights: dict[str, Any], state: dict[str, Any]) -> None:
        """Restore the network's weights and what `state` returned."""
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["ema"])
        self.micro_splits = max(self.micro_splits, state["pieces"])

    def sync_statistics(self) -> None:
        """Copy rank 0's batch-norm statistics to all processes, as at the start of each update."""
        self.world.broadcast([*self.buffers, *(self.average.network.buffers() if self.average else ())])


def split_micro_batches(batches: Sequence[Batch], pieces: int) -> list[Batch]:
    """Split each micro-batch into `pieces` parts, at most one per image."""
    pieces = min(pieces, len(batches[0].images))
    return list(batches) if pieces == 1 else [part for batch in batches for part in _split(batch, pieces)]


def _split(value: Any, pieces: int) -> Any:
    """Split a tensor, or a tuple of tensors and None, along the first axis."""
    if value is None:
        return [None] * pieces
    if isinstance(value, torch.Tensor):
        return value.tensor_split(pieces)
    return [type(value)(*parts) for parts in zip(*(_split(field, pieces) for field in value), strict=True)]


def _more_splits(pieces: int, images: int) -> int:
    """Double the number of parts of a micro-batch of `images` images, and log it.

    Raises:
        SegtoolError: each part held a single image.
    """
    if pieces >= images:
        raise SegtoolError(
            "out of memory with one image at a time: use a smaller --crop or --resize, or a smaller network"
        )
    pieces = min(2 * pieces, images)
    log.info(
        "out of memory: from now on %d images at a time instead of %d, with the same images in an update",
        *(images // pieces, images),
    )
    return pieces


def _copy(targets: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    """Copy tensors in one call, which does not accept empty lists."""
    if targets:
        torch._foreach_copy_(targets, values)


def _second(batch: Batch, device: str = "cpu") -> Mixed | None:
    """Return the second target of a batch, if images are mixed."""
    if batch.masks2 is None or batch.share is None:
        return None
    return Mixed(batch.masks2.to(device, non_blocking=True), batch.share.to(device, non_blocking=True))


def _image_label_loss(
    logits: torch.Tensor, targets: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor, second: Mixed | None
) -> torch.Tensor:
    """Return the loss of the auxiliary head; an image mixed by mixup counts as both images, by their shares."""
    if second is None:
        return image_label_loss(logits, targets, masks, weights)
    targets = torch.cat([targets, image_label_targets(second.masks, targets.shape[1])])
    masks, shares = torch.cat([masks, second.masks]), torch.cat([1 - second.share, second.share])
    return image_label_loss(logits.repeat(2, 1), targets, masks, weights.repeat(2), shares)
