"""Optimizers by name, and the learning rate as a pure function of the update."""

import math

import timm.optim
import torch
from torch import nn

from segtool.errors import UsageError, near
from segtool.settings.optimizer import OptimizerSettings


def check_optimizer(name: str) -> None:
    """Raise UsageError, with near matches, when timm has no optimizer of this name."""
    known = timm.optim.list_optimizers()
    # timm wraps any of them in Lookahead by this prefix.
    if name.lower().removeprefix("lookahead_") not in known:
        raise UsageError(f"--optimizer: timm has no {name!r}{near(name.lower(), known)}")


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Any of timm's optimizers; norms and biases (one-dimensional parameters) get no weight decay.

    Raises:
        UsageError: timm has no optimizer of this name.
    """
    check_optimizer(settings.optimizer)
    optimizer: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
        network, opt=settings.optimizer, lr=settings.lr, weight_decay=settings.weight_decay
    )
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def warmup_updates(settings: OptimizerSettings, epochs: int, updates_per_epoch: int) -> int:
    """Updates of warm-up: as asked, else one epoch, or a tenth of a run shorter than ten epochs."""
    asked = min(1.0, epochs / 10) if settings.warmup is None else settings.warmup
    return round(asked * updates_per_epoch)


def lr_factor(schedule: str, update: int, total: int, warmup: int) -> float:
    """The learning rate of an update, in units of the highest: linear warm-up, then cosine to zero or constant.

    Args:
        update: counted from 0.
        total: updates of the whole run.
        warmup: updates of warm-up among them.
    """
    if update < warmup:
        return (update + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set all groups to their own highest rate times `factor`; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
