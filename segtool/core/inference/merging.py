"""Merging the views of an image, in probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Avoids the logarithm of 0 and division by 0.
TINY = torch.finfo(torch.float32).tiny
# The distance of the largest number below 1 from it.
STEP = 2**-24


@dataclass(frozen=True)
class Merge:
    """How views are merged, with weights w that add up to one.

    mean, sum: Σ w p. gmean: Π p^w. max, min: over the views. tsharpen: Σ w p^exponent (Kaggle's temperature
    sharpening, as in ttach). All but mean and sum are then divided by their sum over the classes.
    """

    mode: str = "mean"
    exponent: float = 0.5

    @property
    def linear(self) -> bool:
        """Return whether merging commutes with resizing, blending windows and averaging runs."""
        return self.mode in ("mean", "sum")

    def __call__(self, views: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        """Merge the views' probabilities, float32 (C, ...) each, into one; `weights` add up to one.

        If every class has probability 0 in some view, `min` makes all classes equal, and `gmean` those that the fewest
        views (by weight) rule out.
        """
        merged = self._combine(views, weights)
        return merged if self.linear else merged / merged.sum(0, keepdim=True)

    def _combine(self, views: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        if self.mode == "max":
            return torch.stack(list(views)).amax(0)
        if self.mode == "min":
            return torch.stack(list(views)).amin(0).clamp_(min=TINY)
        if self.mode == "gmean":
            # In logarithms: a product of 16 small probabilities is 0 in float32. The largest class is put at 1.
            logs = _weighted([view.clamp(min=TINY).log_() for view in views], weights)
            return (logs - logs.amax(0, keepdim=True)).exp_()
        if self.mode == "tsharpen":
            return _weighted([view.pow(self.exponent) for view in views], weights)
        return _weighted(views, weights)


@dataclass(frozen=True)
class IndependentMerge(Merge):
    """How views of classes that may overlap are merged: each class on its own, without dividing by any sum.

    mean, sum, max, min: of the class's probability, as above. gmean and tsharpen: as of two classes, p and q = 1 - p,
    so that the result is a probability, and that of the complement is the complement of it:

        gmean:     Π p^w / (Π p^w + Π q^w), which is the sigmoid of the mean logit
        tsharpen:  Σ w p^exponent / (Σ w p^exponent + Σ w q^exponent)

    where p and q are at least 2^-24, the step of float32 below 1: beyond it they would be known on one side only.
    """

    def __call__(self, views: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
        """Merge the views' probabilities, float32 (C, ...) each, into one; `weights` add up to one."""
        if self.mode not in ("gmean", "tsharpen"):
            return self._combine(views, weights)
        pairs = self._combine([torch.stack([view, 1 - view]).clamp_(min=STEP) for view in views], weights)
        return pairs[0] / pairs.sum(0)


def make_merge(mode: str, exponent: float, *, multi: bool) -> Merge:
    """Return the merge of classes that exclude each other or, with `multi`, may overlap."""
    return (IndependentMerge if multi else Merge)(mode, exponent)


def _weighted(values: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    total = values[0] * weights[0]
    for value, weight in zip(values[1:], weights[1:], strict=True):
        total.add_(value, alpha=weight)
    return total
