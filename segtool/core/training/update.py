"""One optimizer step: micro-batches in, weights moved."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segtool.core.data.batches import Batch
from segtool.core.data.seeding import seed_torch
from segtool.core.memory import PassMemoryError, pass_memory_errors
from segtool.core.models.build import NetworkSpec
from segtool.core.models.ema import Average
from segtool.core.models.inputs import amp, network_input
from segtool.core.models.losses import Criterion, Mixed, Share
from segtool.core.models.optim import set_lr
from segtool.core.models.outputs import read_answer
from segtool.core.models.presence import presence_loss, presence_targets
from segtool.core.training.cutting import cut, more_pieces
from segtool.core.training.distributed import World
from segtool.errors import SegtoolError, UsageError


class Updater:
    """Moves a network's weights; the same update for any number of micro-batches and processes it is cut into."""

    def __init__(
        self,
        network: nn.Module,
        spec: NetworkSpec,
        optimizer: torch.optim.Optimizer,
        criterion: Criterion,
        *,
        clip: float,
        seed: int,
        device: str,
        world: World,
        untouched: Sequence[str] = (),
        aux_weight: float = 0.0,
        ema: float = 0.0,
    ) -> None:
        """
        Args:
            aux_weight: of the auxiliary head's loss, where the network has that head.
            ema: decay of the average of the weights, 0 for no average.
            clip: largest gradient norm, 0 for none.
            untouched: names of parameters that never get a gradient; processes must not wait for them.
        """
        self.network, self.spec, self.optimizer, self.criterion = network, spec, optimizer, criterion
        self.clip, self.seed, self.device, self.world = clip, seed, device, world
        self.aux_weight = aux_weight
        self.scaler = torch.amp.GradScaler(device, enabled=spec.precision == "fp16")
        self.untouched, self.frozen = untouched, False
        # Into which each micro-batch is cut since memory was short.
        self.pieces = 1
        self.parallel = self._parallel()
        # Of the weights that all processes have now.
        self.average = Average(network, ema) if ema else None

    def _parallel(self) -> DistributedDataParallel | None:
        if self.world.size == 1:
            return None
        ids = [self.world.local_rank] if self.device == "cuda" else None
        return DistributedDataParallel(self.network, device_ids=ids, find_unused_parameters=bool(self.untouched))

    def train(self, *, frozen: bool = False) -> None:
        """Put the network in training mode; `frozen`: its encoder learns nothing and keeps its statistics."""
        self.network.train()
        if frozen != self.frozen:
            self.frozen = frozen
            self.network.get_submodule("encoder").requires_grad_(not frozen)
            # Processes wait for the gradients of the parameters that needed them when they were joined.
            self.parallel = self._parallel()
        if frozen:
            self.network.get_submodule("encoder").eval()

    def step(self, batches: Sequence[Batch], lr_factor: float, *key: int) -> float:
        """One update from the micro-batches of this process.

        Args:
            lr_factor: the learning rate in units of the highest.
            key: epoch and update, which with the seed decide dropout and the like.

        Returns:
            The loss of the whole update over all processes; NaN where it or a gradient is not finite: then nothing has
            moved.

        Raises:
            SegtoolError: out of memory with one image at a time.
            PassMemoryError: out of memory with several processes, of which the others wait for this one.
            UsageError: the network normalises over the batch, and one image is too few for it.
        """
        set_lr(self.optimizer, lr_factor)
        while True:
            try:
                return self._step(cut(batches, self.pieces), *key)
            except PassMemoryError:
                if self.world.size > 1:
                    raise
            # Outside of the exception, which holds what memory is short of.
            self.pieces = more_pieces(self.pieces, len(batches[0].images))

    def _step(self, batches: Sequence[Batch], *key: int) -> float:
        seed_torch(self.seed, *key, self.world.rank)
        buffers = list(self.network.buffers())
        before = [buffer.clone() for buffer in buffers]
        moved = False
        try:
            loss = self._losses(batches)
            moved = math.isfinite(loss) and self._move()
        finally:
            self.network.zero_grad(set_to_none=True)
            if not moved:
                # The forward passes have left their statistics, which may be NaN too.
                for buffer, value in zip(buffers, before, strict=True):
                    buffer.copy_(value)
        return loss if moved else math.nan

    def _losses(self, batches: Sequence[Batch]) -> float:
        """The loss of an update, its gradients left in the parameters."""
        local = torch.stack([self._pixels(batch) for batch in batches]).sum()
        share = Share(float(self.world.total(local.to(self.device))), len(batches) * self.world.size)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, batch in enumerate(batches, 1):
            last = number == len(batches)
            with pass_memory_errors(), self.parallel.no_sync() if self.parallel and not last else nullcontext():
                total += self._backward(batch, share).detach()
        return float(self.world.total(total))

    def gradients(self, batch: Batch) -> None:
        """Leave the gradients of one batch's loss in the parameters."""
        self._backward(batch, Share(float(self._pixels(batch)), 1))

    def _pixels(self, batch: Batch) -> torch.Tensor:
        return self.criterion.pixels(batch.masks, batch.weights, _second(batch), batch.soft)

    def _backward(self, batch: Batch, share: Share) -> torch.Tensor:
        images = network_input(batch.images, self.spec, self.device)
        masks = batch.masks.to(self.device, non_blocking=True)
        weights = batch.weights.to(self.device, non_blocking=True)
        second = _second(batch, self.device)
        soft = None if batch.soft is None else batch.soft.to(self.device, non_blocking=True)
        try:
            with amp(self.spec.precision, self.device):
                answer = read_answer((self.parallel or self.network)(images))
        except ValueError as error:
            if len(images) > 1 or "more than 1 value per channel" not in str(error):
                raise
            if self.pieces > 1:
                raise SegtoolError(
                    f"out of memory with two images at a time, and {self.spec.arch} needs two"
                ) from error
            raise UsageError(
                f"--arch {self.spec.arch} with --encoder {self.spec.encoder} has batch norm over a single pixel and"
                f" cannot learn from one image at a time: use --batch {2 * self.world.size} or more"
            ) from error
        loss = self.criterion(answer.logits, masks, weights, share, second, soft)
        if answer.presence is not None:
            aux = _presence_loss(answer.presence, masks, weights, second)
            loss = loss + self.aux_weight * aux / share.parts
        # Processes' gradients are averaged, but their losses are parts of one sum.
        self.scaler.scale(loss * self.world.size).backward()
        return loss

    def _move(self) -> bool:
        """Step along the gradients; False where they are not finite. With loss scaling that is its way to find its
        scale: a step is left out and nothing is at fault.
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
            self.average.follow(self.network)
        return True

    def state(self) -> dict[str, Any]:
        """All that moves beside the network's weights, for a checkpoint; not copied."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.average.state_dict() if self.average else None,
            "pieces": self.pieces,
        }

    def load(self, weights: dict[str, Any], state: dict[str, Any]) -> None:
        """Put back the network's weights and what `state` gave."""
        self.network.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["ema"])
        self.pieces = max(self.pieces, state["pieces"])

    def sync_statistics(self) -> None:
        """Give all processes rank 0's batch-norm statistics, as they are at the start of each forward pass."""
        if self.world.size > 1:
            networks = [self.network, self.average.network] if self.average else [self.network]
            for buffer in (buffer for network in networks for buffer in network.buffers()):
                torch.distributed.broadcast(buffer, 0)


def _second(batch: Batch, device: str = "cpu") -> Mixed | None:
    """The second target of a batch, where images are mixed."""
    if batch.masks2 is None or batch.share is None:
        return None
    return Mixed(batch.masks2.to(device, non_blocking=True), batch.share.to(device, non_blocking=True))


def _presence_loss(
    logits: torch.Tensor, masks: torch.Tensor, weights: torch.Tensor, second: Mixed | None
) -> torch.Tensor:
    """The loss of the auxiliary head; an image mixed from two counts as either, by their shares."""
    if second is not None:
        logits, masks = torch.cat([logits, logits]), torch.cat([masks, second.masks])
        weights = torch.cat([weights * (1 - second.share), weights * second.share])
    return presence_loss(logits, presence_targets(masks, logits.shape[1]), masks, weights)
