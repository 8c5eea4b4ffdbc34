"""Optimizers by name."""

from typing import Any

import timm.optim
import torch
from torch import nn

from segtool.errors import UsageError, did_you_mean
from segtool.settings.optimizer import OptimizerSettings

# Optimizers with a torch kernel that steps in one pass over the weights; on a CPU it takes a third of the time.
FUSED = ("adam", "adamw", "sgd", "momentum", "nesterov")


def check_optimizer(name: str) -> None:
    """Raise UsageError, with similar names, if timm has no optimizer of this name."""
    known = timm.optim.list_optimizers()
    # With this prefix, timm wraps any of them in Lookahead.
    if name.lower().removeprefix("lookahead_") not in known:
        raise UsageError(f"--optimizer: timm has no {name!r}{did_you_mean(name.lower(), known)}")


def make_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Create any of timm's optimizers; norms and biases get no weight decay, the encoder its own learning rate.

    Lookahead (Zhang et al. 2019) takes six steps, then moves half the way back to its slow weights; the fast weights
    are validated.

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
    """Return parameter groups with and without decay; if the encoder has its own rate, its groups come last."""
    scale = settings.encoder_lr_scale
    if scale == 1:
        return _decay_groups(network, settings)
    rest = nn.ModuleDict({name: child for name, child in network.named_children() if name != "encoder"})
    encoder = [
        {**group, "lr": settings.lr * scale} for group in _decay_groups(network.get_submodule("encoder"), settings)
    ]
    return _decay_groups(rest, settings) + encoder


def _decay_groups(module: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    # Explicit in every group, as timm gives the full decay to groups without a value.
    groups = timm.optim.param_groups_weight_decay(module, weight_decay=settings.weight_decay)
    return [group for group in groups if group["params"]]


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group to its highest rate times `factor`, and return the rate of the first group."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])
