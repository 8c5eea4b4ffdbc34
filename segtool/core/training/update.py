"""One optimizer step: micro-batches in, weights moved."""

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from segtool.core.data.batches import Batch
from segtool.core.data.seeding import seed_torch
from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import amp, network_input
from segtool.core.models.losses import Criterion, Mixed, Share
from segtool.core.models.optim import set_lr
from segtool.core.models.outputs import read_answer
from segtool.core.models.presence import presence_loss, presence_targets
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
    ) -> None:
        """
        Args:
            aux_weight: of the auxiliary head's loss, where the network has that head.
            clip: largest gradient norm, 0 for none.
            untouched: names of parameters that never get a gradient; processes must not wait for them.
        """
        self.network, self.spec, self.optimizer, self.criterion = network, spec, optimizer, criterion
        self.clip, self.seed, self.device, self.world = clip, seed, device, world
        self.aux_weight = aux_weight
        self.scaler = torch.amp.GradScaler(device, enabled=spec.precision == "fp16")
        self.parallel: DistributedDataParallel | None = None
        if world.size > 1:
            ids = [world.local_rank] if device == "cuda" else None
            self.parallel = DistributedDataParallel(network, device_ids=ids, find_unused_parameters=bool(untouched))

    def step(self, batches: Sequence[Batch], lr_factor: float, *key: int) -> float:
        """One update from the micro-batches of this process.

        Args:
            lr_factor: the learning rate in units of the highest.
            key: epoch and update, which with the seed decide dropout and the like.

        Returns:
            The loss of the whole update over all processes.

        Raises:
            SegtoolError: the loss is NaN or infinite.
            UsageError: the network normalises over the batch, and one image is too few for it.
        """
        seed_torch(self.seed, *key, self.world.rank)
        lr = set_lr(self.optimizer, lr_factor)
        local = torch.stack(
            [self.criterion.pixels(batch.masks, batch.weights, _second(batch)) for batch in batches]
        ).sum()
        share = Share(float(self.world.total(local.to(self.device))), len(batches) * self.world.size)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, batch in enumerate(batches, 1):
            last = number == len(batches)
            with self.parallel.no_sync() if self.parallel and not last else nullcontext():
                total += self._backward(batch, share).detach()
        loss = float(self.world.total(total))
        if not math.isfinite(loss):
            raise SegtoolError(
                f"the loss became {loss} in epoch {key[0] + 1}, update {key[1] + 1} (learning rate {lr:.3g});"
                " try a lower --lr, --clip 1, or --precision fp32"
            )
        self._move()
        return loss

    def gradients(self, batch: Batch) -> None:
        """Leave the gradients of one batch's loss in the parameters."""
        self._backward(batch, Share(float(self.criterion.pixels(batch.masks, batch.weights, _second(batch))), 1))

    def _backward(self, batch: Batch, share: Share) -> torch.Tensor:
        images = network_input(batch.images, self.spec, self.device)
        masks = batch.masks.to(self.device, non_blocking=True)
        weights = batch.weights.to(self.device, non_blocking=True)
        second = _second(batch, self.device)
        try:
            with amp(self.spec.precision, self.device):
                answer = read_answer((self.parallel or self.network)(images))
        except ValueError as error:
            if len(images) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"--arch {self.spec.arch} with --encoder {self.spec.encoder} has batch norm over a single pixel and"
                f" cannot learn from one image at a time: use --batch {2 * self.world.size} or more"
            ) from error
        loss = self.criterion(answer.logits, masks, weights, share, second)
        if answer.presence is not None:
            aux = _presence_loss(answer.presence, masks, weights, second)
            loss = loss + self.aux_weight * aux / share.parts
        # Processes' gradients are averaged, but their losses are parts of one sum.
        self.scaler.scale(loss * self.world.size).backward()
        return loss

    def _move(self) -> None:
        if self.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def sync_statistics(self) -> None:
        """Give all processes rank 0's batch-norm statistics, as they are at the start of each forward pass."""
        if self.world.size > 1:
            for buffer in self.network.buffers():
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
