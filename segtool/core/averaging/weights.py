"""Averages of networks' weights (Izmailov et al. 2018), and the batch-norm statistics that belong to them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

T = TypeVar("T")
Weights = Mapping[str, torch.Tensor]


class WeightSum:
    """The mean of networks' weights, taken in one after the other: a sum in float64, so that their order hardly counts.

    In memory are the sum and one network's weights. Torch's AveragedModel keeps a running mean in the weights' own
    dtype: the same within its rounding.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._last: Weights = {}

    def add(self, weights: Weights) -> None:
        """Take in one more network's state dict, with the names and shapes of the others'."""
        for name, value in weights.items():
            if value.is_floating_point() and self.count:
                self._sums[name] += value
            elif value.is_floating_point():
                self._sums[name] = value.to(torch.float64, copy=True)
        self._last = weights
        self.count += 1

    def mean(self) -> dict[str, torch.Tensor]:
        """The mean, in the weights' own dtypes; of integers, which are counts and indices, the last network's."""
        return {
            name: (self._sums[name] / self.count).to(value.dtype) if name in self._sums else value
            for name, value in self._last.items()
        }


@torch.no_grad()
def refresh_norms(
    network: nn.Module,
    batches: Iterable[T],
    answer: Callable[[T], object],
    total: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> None:
    """Replace the statistics of a network's batch norms by their means over batches: averaged weights have others.

    The network is as the caller has set it: norms in eval mode, those of a frozen encoder, keep theirs, and so does one
    that nothing goes through. Without a norm to refresh, no batch is read. As with torch's `update_bn` it is the mean
    of the batches' means and unbiased variances; here each batch weighs as much as it has images, and all norms have
    their momentum back whatever happens.

    Args:
        batches: of this process.
        answer: passes a batch through the network.
        total: the sum of a tensor over all processes, in place; None for one process.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.running_mean is not None]
    if not norms:
        return
    seen: Counter[_BatchNorm] = Counter()
    momenta = [norm.momentum for norm in norms]
    handles = [norm.register_forward_pre_hook(partial(_weigh, seen)) for norm in norms]
    try:
        for batch in batches:
            answer(batch)
    finally:
        for handle, norm, momentum in zip(handles, norms, momenta, strict=True):
            handle.remove()
            norm.momentum = momentum
    if total:
        for norm, images in seen.items():
            _pool(norm, images, total)


def _weigh(seen: Counter[_BatchNorm], norm: _BatchNorm, inputs: tuple[torch.Tensor]) -> None:
    """Before a batch goes through a norm: its share of all images up to now."""
    if not seen[norm]:
        norm.reset_running_stats()
    seen[norm] += len(inputs[0])
    norm.momentum = len(inputs[0]) / seen[norm]


def _pool(norm: _BatchNorm, images: int, total: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """One mean over all processes."""
    assert norm.running_mean is not None and norm.running_var is not None
    count = total(torch.tensor(float(images), device=norm.running_mean.device))
    for statistic in (norm.running_mean, norm.running_var):
        statistic.copy_(total(statistic * images) / count)
