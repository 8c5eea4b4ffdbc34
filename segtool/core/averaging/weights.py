"""Averages of weights (Izmailov et al. 2018), and batch-norm statistics that fit them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

T = TypeVar("T")
Weights = Mapping[str, torch.Tensor]


class WeightAverage:
    """The mean of state dicts that are added one by one.

    Sums are in float64, so that the order hardly matters; memory holds the sums and one state dict. Torch's
    AveragedModel keeps a running mean in the weights' own dtypes instead: the same within its rounding.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._last: Weights = {}

    def add(self, weights: Weights) -> None:
        """Add a state dict with the same names and shapes as the others."""
        for name, value in weights.items():
            if value.is_floating_point() and self.count:
                self._sums[name] += value
            elif value.is_floating_point():
                self._sums[name] = value.to(torch.float64, copy=True)
        self._last = weights
        self.count += 1

    def mean(self) -> dict[str, torch.Tensor]:
        """Return the mean in the weights' own dtypes; integers (counts and indices) are those added last."""
        return {
            name: (self._sums[name] / self.count).to(value.dtype) if name in self._sums else value
            for name, value in self._last.items()
        }


@torch.no_grad()
def refresh_norms(
    network: nn.Module,
    batches: Iterable[T],
    forward: Callable[[T], object],
    all_reduce_sum: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> None:
    """Replace the batch-norm statistics of a network, which do not fit averaged weights, by means over batches.

    Norms in eval mode (of a frozen encoder) keep their statistics, and so do norms that no batch passes through.
    Without a norm to refresh, no batch is read. As in torch's `update_bn`, the result is the mean of the batches' means
    and unbiased variances, but each batch is weighted by its number of images. The norms' momentum is restored even
    after an error.

    Args:
        batches: the batches of this process.
        forward: passes a batch through the network.
        all_reduce_sum: sums a tensor over all processes in place; None for one process.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]
    if not norms:
        return
    images: Counter[_BatchNorm] = Counter()
    momenta = [norm.momentum for norm in norms]
    handles = [norm.register_forward_pre_hook(partial(_weight_batch, images)) for norm in norms]
    try:
        for batch in batches:
            forward(batch)
    finally:
        for handle, norm, momentum in zip(handles, norms, momenta, strict=True):
            handle.remove()
            norm.momentum = momentum
    if all_reduce_sum:
        for norm, count in images.items():
            _average_processes(norm, count, all_reduce_sum)


def _weight_batch(images: Counter[_BatchNorm], norm: _BatchNorm, inputs: tuple[torch.Tensor]) -> None:
    """Set the momentum of a norm to the batch's share of all images so far."""
    if not images[norm]:
        norm.reset_running_stats()
    images[norm] += len(inputs[0])
    norm.momentum = len(inputs[0]) / images[norm]


def _average_processes(norm: _BatchNorm, count: int, all_reduce_sum: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Average the statistics of a norm over all processes, weighted by their number of images."""
    assert norm.running_mean is not None and norm.running_var is not None
    total = all_reduce_sum(torch.tensor(float(count), device=norm.running_mean.device))
    for statistic in (norm.running_mean, norm.running_var):
        statistic.copy_(all_reduce_sum(statistic * count) / total)
