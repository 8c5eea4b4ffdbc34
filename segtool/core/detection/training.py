"""Train the detector, and save it after every epoch, so that a kill costs at most one."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from segtool.core.dataloading.sampling import BatchPlan
from segtool.core.detection.examples import Example, Examples
from segtool.core.detection.network import build_detector, train_mode
from segtool.core.images import Pixels
from segtool.core.models.build import NetworkSpec
from segtool.core.models.checkpoint import load_checkpoint, save_checkpoint
from segtool.core.models.inputs import network_input, too_few_for_batch_norm
from segtool.core.models.pretrained import load_encoder_weights
from segtool.core.optim.optimizer import make_optimizer, set_lr
from segtool.core.optim.schedule import scheduled
from segtool.core.reporting.progress import Track
from segtool.core.runtime.seeding import seed_torch
from segtool.errors import SegtoolError, UsageError
from segtool.settings.optimizer import OptimizerSettings
from segtool.settings.roi import DetectorSettings

log = logging.getLogger(__name__)

# Gradients are clipped to this norm: the first ones, of random heads, can be huge.
CLIP = 10.0


class DetectorTrainer:
    """Trains a detector. Every random choice depends only on seed, epoch and update.

    Attributes:
        losses: the mean loss of each finished epoch.
    """

    def __init__(self, settings: DetectorSettings, spec: NetworkSpec, examples: Examples, device: str) -> None:
        self.settings, self.spec, self.examples, self.device = settings, spec, examples, device
        seed_torch(settings.seed)
        self.network = build_detector(spec.encoder, spec.channels, len(examples.labels)).to(device)
        self.options = OptimizerSettings(batch=settings.batch, lr=settings.lr)
        self.optimizer = make_optimizer(self.network, self.options)
        self.losses: list[float] = []

    def run(self, path: Path, track: Track) -> None:
        """Train to the end of the last epoch; resume from the state in `path`, and save it there after each epoch.

        Raises:
            SegtoolError: the loss became NaN or infinite, or the state in `path` is broken.
        """
        if path.exists():
            self._restore(path)
        else:
            log.info(load_encoder_weights(self.network.backbone, self.settings.model, self.spec.channels))
        while len(self.losses) < self.settings.epochs:
            self.losses.append(self._epoch(len(self.losses), track))
            log.info("detector: epoch %d/%d: loss %.4f", len(self.losses), self.settings.epochs, self.losses[-1])
            self._save(path)

    def inputs(self, image: Pixels) -> torch.Tensor:
        """Convert an image (H, W, C) to the input of the network, float32 (C, H, W)."""
        return network_input(torch.from_numpy(self.spec.intensity.unit(image))[None], self.spec, self.device)[0]

    def _epoch(self, epoch: int, track: Track) -> float:
        settings = self.settings
        train_mode(self.network, pretrained=settings.encoder_weights != "none")
        plan = BatchPlan(
            len(self.examples.records),
            batch=settings.batch,
            accumulate=1,
            seed=settings.seed,
            epochs=range(epoch, epoch + 1),
        )
        losses: list[float] = []
        label = f"detector, epoch {epoch + 1}/{settings.epochs}"
        for keys in track(plan, total=len(plan), label=label, note=lambda: f"loss {_mean(losses):.4f}"):
            factor = scheduled(self.options, epoch * len(plan) + len(losses), settings.epochs, len(plan))
            set_lr(self.optimizer, factor)
            seed_torch(settings.seed, epoch, len(losses))
            losses.append(self._step([self.examples[key] for key in keys]))
            if not math.isfinite(losses[-1]):
                raise SegtoolError(
                    f"the detector's loss or its gradient became NaN or infinite in epoch {epoch + 1}, update"
                    f" {len(losses)} of {len(plan)}: use a lower --lr than {settings.lr:g}"
                )
        return _mean(losses)

    def _step(self, examples: Sequence[Example]) -> float:
        """Make one update, and return its loss; or return NaN, without an update, if loss or gradient is not finite.

        Raises:
            UsageError: the encoder has batch norm, and one image is too few for it.
        """
        targets = [
            {
                "boxes": torch.from_numpy(example.boxes).to(self.device),
                "labels": torch.from_numpy(example.labels).to(self.device),
            }
            for example in examples
        ]
        try:
            losses = self.network([self.inputs(example.image) for example in examples], targets)
        except ValueError as error:
            if not too_few_for_batch_norm(error):
                raise
            raise UsageError(
                f"--encoder {self.spec.encoder} has batch norm over a single pixel and cannot learn from one image at a"
                " time: use --batch 2 or more"
            ) from error
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        if not torch.isfinite(loss) or not torch.isfinite(norm):
            return math.nan
        self.optimizer.step()
        return float(loss.detach())

    def _save(self, path: Path) -> None:
        # A finished detector does not need the optimizer, which is two thirds of the file.
        done = len(self.losses) == self.settings.epochs
        state = {} if done else {"optimizer": self.optimizer.state_dict()}
        save_checkpoint(path, self.spec, self.network, epoch=len(self.losses), losses=self.losses, **state)

    def _restore(self, path: Path) -> None:
        state = load_state(path)
        try:
            self.network.load_state_dict(state["weights"])
            self.losses = list(state["losses"])
            if len(self.losses) < self.settings.epochs:
                self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise SegtoolError(f"checkpoint {path} is of another model or version: {str(error)[:200]}") from error
        log.info("detector: resuming after epoch %d", len(self.losses))


def load_state(path: Path) -> dict[str, Any]:
    """Load the state that a trainer saved. Raises SegtoolError if it is broken."""
    try:
        return load_checkpoint(path)
    except SegtoolError as error:
        raise SegtoolError(f"{error}; remove it to train the detector again") from error


def _mean(losses: Sequence[float]) -> float:
    return sum(losses) / max(1, len(losses))
