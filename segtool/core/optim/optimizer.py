"""Optimizers by name."""

from typing import Any

import timm.optim
import torch
from torch import nn

from segtool.errors import UsageError, did_you_mean
from segtool.settings.optimizer import OptimizerSettings

# Of which torch has a kernel that steps in one pass over the weights; on a CPU it takes a third of the time.
FUSED = ("adam", "adamw", "sgd", "momentum", "nesterov")


def check_optimizer(name: str) -> None:
    """Raise UsageError, with near matches, when timm has no optimizer of this name."""
    known = timm.optim.list_optimizers()
    # timm wraps any of them in Lookahead by this prefix.
    if name.lower().removeprefix("lookahead_") not in known:
        raise UsageError(f"--optimizer: timm has no {name!r}{did_you_mean(name.lower(), known)}")


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Any of timm's optimizers; norms and biases get no weight decay, the encoder its own learning rate.

    Lookahead (Zhang et al. 2019) takes six steps, then goes half the way back to where its slow weights are; what is
    validated are the fast weights.

    Raises:
        UsageError: timm has no optimizer of this name.
    """
    check_optimizer(settings.optimizer)
    name = settings.optimizer.lower()
    if settings.lookahead and not name.startswith("lookahead_"):
        name = f"lookahead_{name}"
    more = {"fused": True} if name.removeprefix("lookahead_") in FUSED else {}
    optimizer: torch.optim.Optimizer = timm.optim.create_optimizer_v2(
        _groups(network, settings), opt=name, lr=settings.lr, **more
    )
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def _groups(network: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Parameter groups: with and without decay; of the encoder behind the others', when its rate is another."""
    scale = settings.encoder_lr_scale
    if scale == 1:
        return _decay_groups(network, settings)
    rest = nn.ModuleDict({name: child for name, child in network.named_children() if name != "encoder"})
    encoder = [
        {**group, "lr": settings.lr * scale} for group in _decay_groups(network.get_submodule("encoder"), settings)
    ]
    return _decay_groups(rest, settings) + encoder


def _decay_groups(module: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    # timm gives groups that say nothing of it the full decay, so each says its own.
    groups = timm.optim.param_groups_weight_decay(module, weight_decay=settings.weight_decay)
    return [group for group in groups if group["params"]]


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set all groups to their own highest rate times `factor`; returns the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
