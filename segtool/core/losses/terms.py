"""The loss terms as functions of log-probabilities and weighted targets.

A network with one logit also gives probabilities of two classes; terms that compare regions then compare only one of
them (see `Criterion`).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segtool.settings.loss import LossSettings

# Below any real sum of weights; keeps sums over nothing from dividing by zero.
TINY = 1e-6
# Below any sum of probabilities that still has a gradient, yet its inverse times a loss scale is finite in float32.
TINY_OVERLAP = 1e-20


class Target(NamedTuple):
    """A class for each pixel, and the weight of the pixel.

    ids: int64 (N, H, W); 0 where ignored.
    weights: float (N, H, W), not negative; 0 where ignored.
    """

    ids: Tensor
    weights: Tensor


# One target, or the two of mixed images; if soft, a tensor of each pixel's weight for each class, float (N, K, H, W).
Targets = Sequence[Target] | Tensor


class Regions(NamedTuple):
    """The input of the terms that compare regions.

    probs: (N, K, H, W).
    overlap: the sums of each class.
    present: (K,), weighted true pixels of each class that is compared; 0 for the others.
    """

    probs: Tensor
    targets: Targets
    overlap: "Overlap"
    present: Tensor


class Overlap(NamedTuple):
    """Weighted pixels of each class, (K,).

    hits: the sum of min(probability, target); of hard targets, the true pixels' probabilities.
    guessed: the sum of probabilities.
    true: the sum of targets.
    """

    hits: Tensor
    guessed: Tensor
    true: Tensor


def log_probabilities(logits: Tensor) -> Tensor:
    """Return the log-softmax, (N, K, H, W); for one logit, of background and foreground, (N, 2, H, W)."""
    if logits.shape[1] == 1:
        return F.logsigmoid(torch.cat([-logits, logits], 1))
    return F.log_softmax(logits, 1)


def cross_entropy(logp: Tensor, ids: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy of each pixel, (N, H, W), with targets 1 - S + S/K for its class and S/K for the others.

    Without `ids`, the loss that each class would have as the pixel's class, (N, K, H, W).
    """
    own = -logp if ids is None else F.nll_loss(logp, ids, reduction="none")
    return (1 - smoothing) * own - smoothing * logp.mean(1, keepdim=ids is None) if smoothing else own


def focal(logp: Tensor, ids: Tensor | None, gamma: float) -> Tensor:
    """Return (1 - p)^gamma * -log p of each pixel's class, (N, H, W) (Lin et al. 2017, of the softmax).

    Without `ids`, of each class, as in `cross_entropy`.

    Segmentation-models' multiclass focal loss uses one sigmoid per class instead, and so does not train the softmax.
    """
    return focal_of(cross_entropy(logp, ids), gamma)


def focal_of(losses: Tensor, gamma: float) -> Tensor:
    """Return (1 - p)^gamma * -log p, from -log p."""
    # The floor keeps the gradient of the power finite at p = 1 if gamma is below 1.
    return (-torch.expm1(-losses)).clamp(min=TINY) ** gamma * losses


def hardest(losses: Tensor, weights: Tensor, image_weights: Tensor, percent: float) -> Tensor:
    """Average the largest `percent` % of the pixels' losses, at least one; zero where no pixel counts.

    The weights decide how much a pixel counts in the average, but not which pixels are the hardest.

    Args:
        losses: each pixel's loss times its weight, (N, H, W).
        weights: (N, H, W), with those of the images; a pixel of weight 0 is no candidate.
        image_weights: (N,); the average is not divided by them.
    """
    size = losses.shape[1:].numel()
    losses, weights = losses.flatten(), weights.flatten()
    counted = int((weights > 0).sum())
    hardness = torch.where(weights > 0, losses.detach() / weights, -1)
    chosen = hardness.topk(min(max(1, round(counted * percent / 100)), counted), sorted=False).indices
    own_weights = weights.gather(0, chosen) / image_weights.to(weights)[chosen // size]
    return losses.gather(0, chosen).sum() / own_weights.sum().clamp(min=TINY)


def overlap(probs: Tensor, targets: Targets) -> Overlap:
    """Sum probabilities (N, K, H, W), targets and what they share over all pixels of the batch.

    The minimum of both instead of their product gives the same with hard targets, and with soft ones a loss that is
    least where the probabilities are the targets: the semimetric losses of Wang et al. 2023 ("Jaccard Metric Losses:
    Optimizing the Jaccard Index with Soft Labels"; "Dice Semimetric Losses: Optimizing the Dice Score with Soft
    Labels"). Since |p - t| = p + t - 2 min(p, t), their L1 norms are these three sums.
    """
    if isinstance(targets, Tensor):
        guessed = probs * targets.sum(1, keepdim=True)
        return Overlap(*(part.sum(dim=(0, 2, 3)) for part in (torch.minimum(guessed, targets), guessed, targets)))
    pixel_weights = torch.stack([target.weights for target in targets]).sum(0)
    guessed = (probs * pixel_weights[:, None]).sum(dim=(0, 2, 3))
    hits, true = torch.zeros_like(guessed), torch.zeros_like(guessed)
    for ids, weights in _distinct(targets):
        shared = probs.gather(1, ids[:, None])[:, 0] * pixel_weights
        if len(targets) > 1:
            shared = torch.minimum(shared, weights)
        hits = hits + _sum_by_class(shared, ids, probs.shape[1])
        true = true + _sum_by_class(weights, ids, probs.shape[1])
    return Overlap(hits, guessed, true)


def _distinct(targets: Sequence[Target]) -> Sequence[Target]:
    """Where two targets have the same class, move the weight of the second to the first."""
    if len(targets) == 1:
        return targets
    (ids, weights), (ids2, weights2) = targets
    moved = weights2 * (ids == ids2)
    return [Target(ids, weights + moved), Target(ids2, weights2 - moved)]


def tversky(sums: Overlap, alpha: float, beta: float) -> Tensor:
    """Return 1 - hits / (hits + alpha * false + beta * missed) of each class, (K,): Tversky (Salehi et al. 2017).

    Dice (Milletari et al. 2016, with sums, not squares, below the line) at 0.5 and 0.5, Jaccard at 1 and 1.
    """
    hits, guessed, true = sums
    return 1 - hits / (hits + alpha * (guessed - hits) + beta * (true - hits)).clamp(min=TINY_OVERLAP)


def lovasz(regions: Regions) -> Tensor:
    """Return the Lovász extension of each class's Jaccard loss, (K,) (Berman et al. 2018); 0 for absent classes.

    A pixel of weight w counts as w pixels, in the Jaccard sets too. Soft targets are refused by `check_soft`.
    """
    probs, targets = regions.probs, regions.targets
    assert not isinstance(targets, Tensor)
    slopes, offsets = torch.zeros_like(probs), torch.zeros_like(regions.present)
    weights = torch.cat([target.weights.flatten() for target in targets])
    for index in regions.present.nonzero().flatten().tolist():
        truth = torch.cat([(target.ids == index).flatten() for target in targets]).to(probs)
        own = probs.detach()[:, index].flatten().repeat(len(targets))
        slope = _lovasz_slopes((truth - own).abs(), truth, weights)
        # An error is p or 1 - p, so the loss is linear in p.
        offsets[index] = (slope * truth).sum()
        slopes[:, index] = (slope * (1 - 2 * truth)).view(len(targets), *probs[:, index].shape).sum(0)
    return offsets + (probs * slopes).sum(dim=(0, 2, 3))


def class_mean(losses: Tensor, present: Tensor, class_weights: Tensor) -> Tensor:
    """Average the losses of the classes that have a true pixel, all (K,); zero if there are none.

    Segmentation-models divides by the number of all classes, so its scale depends on how many a batch happens to hold.
    """
    weights = class_weights * (present > 0)
    return (losses * weights).sum() / weights.sum().clamp(min=TINY)


def _sum_by_class(values: Tensor, ids: Tensor, classes: int) -> Tensor:
    """Sum (N, H, W) values by class, (K,): row by row first, since one long float32 sum loses precision."""
    rows = torch.arange(ids[..., 0].numel(), device=ids.device).view(*ids.shape[:-1], 1)
    sums = values.new_zeros(rows.numel() * classes)
    return sums.index_add(0, (ids + rows * classes).flatten(), values.flatten()).view(-1, classes).sum(0)


def _lovasz_slopes(errors: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Compute by how much each pixel (P,) raises the Jaccard loss of the pixels with larger errors; `truth` is 0 or 1.

    In closed form, since differences of consecutive Jaccard losses lose most digits in float32.
    """
    order = _descending(errors)
    truth, weights = truth.index_select(0, order), weights.index_select(0, order)
    inside, outside = (truth * weights).cumsum(0), ((1 - truth) * weights).cumsum(0)
    shared, union = inside[-1] - inside, inside[-1] + outside
    slopes = weights / union * (truth + (1 - truth) * shared / (union - weights).clamp(min=TINY))
    return torch.empty_like(errors).scatter_(0, order, slopes)


def _descending(values: Tensor) -> Tensor:
    """Sort (P,) values in descending order and return the indices. On a CPU NumPy takes a seventh of torch's time."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(-values.numpy()))
    return values.argsort(descending=True)


# The loss of each pixel, (N, H, W), from log-probabilities (N, K, H, W) and classes; without classes, (N, K, H, W).
PIXEL_LOSSES: dict[str, Callable[[Tensor, Tensor | None, LossSettings], Tensor]] = {
    "ce": lambda logp, ids, settings: cross_entropy(logp, ids, settings.label_smoothing),
    "bce": lambda logp, ids, settings: cross_entropy(logp, ids, settings.label_smoothing),
    "focal": lambda logp, ids, settings: focal(logp, ids, settings.focal_gamma),
    "topk": lambda logp, ids, _: cross_entropy(logp, ids),
}
# The loss of each class, (K,).
REGION_LOSSES: dict[str, Callable[[Regions, LossSettings], Tensor]] = {
    "dice": lambda regions, _: tversky(regions.overlap, 0.5, 0.5),
    "jaccard": lambda regions, _: tversky(regions.overlap, 1, 1),
    "lovasz": lambda regions, _: lovasz(regions),
    "tversky": lambda regions, settings: tversky(regions.overlap, settings.tversky_alpha, settings.tversky_beta),
}
