"""The training loss of classes that may overlap: each class on its own, as two classes that one logit tells apart."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segtool.core.images import IGNORE
from segtool.core.losses import terms as loss_terms
from segtool.core.losses.criterion import Mixed, UpdateTotals, at_least_tiny, weighted_masks
from segtool.core.losses.terms import TINY, Overlap, Regions, Target
from segtool.settings.loss import TERMS, LossSettings


class PlaneTarget(NamedTuple):
    """What a batch is compared with.

    truth: float (N, C, H, W) in [0, 1].
    weights: of the pairs of pixel and class, likewise, not negative; 0 where they are ignored or not annotated.
    shares: float (N,), the part of an image that this stands for.
    """

    truth: Tensor
    weights: Tensor
    shares: Tensor


class PlaneCriterion:
    """A weighted sum of loss terms, such as `bce+dice`, for planes (N, C, H, W) of 0, 1 and 255.

    bce and focal are means over all annotated pairs of pixel and class of the whole update. dice, jaccard, lovasz and
    tversky are computed for each class per micro-batch, of its foreground, or of its background where it has none, as
    false positives would be free, and averaged over the classes that are annotated in the micro-batch.

    Class weights: the pixel terms weight every pair by its class; the others weight their mean over classes.
    Image weights, mixed targets and soft targets: see `Criterion`; each holds class by class.
    """

    def __init__(self, settings: LossSettings, class_weights: Sequence[float] | None = None) -> None:
        """
        Args:
            class_weights: not negative, one per class; by default all classes weigh 1.
        """
        self.settings = settings
        self.terms = [(weight, TERMS[name]) for weight, name in settings.terms]
        self.class_weights = None if class_weights is None else torch.tensor(class_weights)

    def __call__(
        self,
        logits: Tensor,
        masks: Tensor,
        weights: Tensor,
        totals: UpdateTotals,
        second: Mixed | None = None,
        soft: Tensor | None = None,
    ) -> Tensor:
        """Compute this micro-batch's part of the update's loss; the loss is the sum of the parts.

        Args:
            logits: (N, C, H, W), any float dtype (half precision is raised to float32).
            masks: uint8 (N, C, H, W): 1 in the class, 0 outside, 255 = ignored or not annotated.
            weights: float (N,), of the images; they average 1 over an epoch.
            second: the second target of mixed images, masks like `masks`.
            soft: float (N, C, H, W), the probability of each class; `masks` then only marks what is ignored.

        Returns:
            A scalar; zero (with a zero gradient) where nothing is annotated.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = [
            _target(planes, shares, weights, soft, logits)
            for planes, shares in weighted_masks(masks, torch.ones_like(weights), second)
        ]
        class_weights = self._class_weights(logits, logits.shape[1])
        loss = logits.new_zeros(())
        for weight, term in self.terms:
            if term.kind == "pixel":
                loss = loss + weight * self._pixel_term(term.name, logits, targets, class_weights, totals)
        if any(term.kind == "region" for _, term in self.terms):
            loss = loss + self._region_terms(logits, targets, weights, class_weights, soft) / totals.micro_batches
        return loss

    def pixels(self, masks: Tensor, second: Mixed | None = None, soft: Tensor | None = None) -> Tensor:
        """Count a micro-batch's annotated pairs of pixel and class, each with the weight of its class, in float64."""
        ones = torch.ones(len(masks), dtype=torch.float64, device=masks.device)
        class_weights = self._class_weights(ones, masks.shape[1])
        total = ones.new_zeros(())
        for planes, shares in weighted_masks(masks, ones, second):
            total += shares @ ((planes != IGNORE).flatten(2).sum(2).double() @ class_weights)
        return total

    def _class_weights(self, like: Tensor, classes: int) -> Tensor:
        """Return the weights (C,), of the dtype and on the device of a tensor."""
        return like.new_ones(classes) if self.class_weights is None else self.class_weights.to(like)

    def _pixel_term(
        self, name: str, logits: Tensor, targets: Sequence[PlaneTarget], class_weights: Tensor, totals: UpdateTotals
    ) -> Tensor:
        total = logits.new_zeros(())
        for target in targets:
            losses = self._bce(logits, target.truth) if name == "bce" else self._focal(logits, target.truth)
            # Row by row first: one long float32 sum loses precision.
            total = total + ((losses * target.weights).sum((3, 2, 0)) * class_weights).sum()
        return total / at_least_tiny(totals.pixels)

    def _bce(self, logits: Tensor, truth: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        if smoothing:
            truth = truth * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")

    def _focal(self, logits: Tensor, truth: Tensor) -> Tensor:
        gamma = self.settings.focal_gamma
        inside, outside = (loss_terms.focal_of(F.softplus(part), gamma) for part in (-logits, logits))
        return truth * inside + (1 - truth) * outside

    def _region_terms(
        self,
        logits: Tensor,
        targets: Sequence[PlaneTarget],
        weights: Tensor,
        class_weights: Tensor,
        soft: Tensor | None,
    ) -> Tensor:
        """Sum the weighted terms that compare regions, each averaged over the annotated classes."""
        probs = logits.sigmoid()
        mass = torch.stack([target.weights for target in targets]).sum(0)
        true = torch.stack([target.truth * target.weights for target in targets]).sum(0)
        guessed = probs * mass
        hits, all_guessed, all_true, all_mass = (
            part.sum((3, 2, 0)) for part in (torch.minimum(guessed, true), guessed, true, mass)
        )
        annotated = all_mass > 0
        # Soft targets have a part of every pixel: a class is there if it is the likelier answer somewhere.
        there = all_true > 0 if soft is None else ((2 * true >= mass) & (mass > 0)).flatten(2).any(2).any(0)
        foreground = Overlap(hits, all_guessed, all_true)
        background = Overlap(all_mass - all_guessed - all_true + hits, all_mass - all_guessed, all_mass - all_true)
        compared = Overlap(*(torch.where(there, *pair) for pair in zip(foreground, background, strict=True)))
        class_weights = class_weights * annotated
        norm = class_weights.sum().clamp(min=TINY)
        class_weights = class_weights * _mean_weights(targets, weights)
        loss = logits.new_zeros(())
        for weight, term in self.terms:
            if term.kind == "region":
                if term.name == "lovasz":
                    losses = _lovasz(probs, targets, there, annotated)
                else:
                    losses = loss_terms.REGION_LOSSES[term.name](Regions(probs, [], compared, all_mass), self.settings)
                loss = loss + weight * (losses * class_weights).sum() / norm
        return loss


def _target(planes: Tensor, shares: Tensor, weights: Tensor, soft: Tensor | None, like: Tensor) -> PlaneTarget:
    own = (planes != IGNORE) * (weights * shares)[:, None, None, None].to(like)
    return PlaneTarget((planes == 1).to(like) if soft is None else soft.to(like), own, shares)


def _mean_weights(targets: Sequence[PlaneTarget], weights: Tensor) -> Tensor:
    """Average the image weights over the annotated pixels of each class, (C,)."""
    counts = torch.stack([(one.weights > 0).flatten(2).sum(2) * one.shares[:, None] for one in targets]).sum(0)
    return (counts * weights[:, None]).sum(0) / counts.sum(0).clamp(min=TINY)


def _lovasz(probs: Tensor, targets: Sequence[PlaneTarget], there: Tensor, annotated: Tensor) -> Tensor:
    """Return the Lovász extension of the Jaccard loss of each class, (C,), as `terms.lovasz` does.

    0 for a class that is not annotated; of the background for one that is not `there`.
    """
    losses = []
    for index, foreground in enumerate(there.tolist()):
        own = probs[:, index]
        if not annotated[index]:
            losses.append(0 * own.sum())
            continue
        pair = torch.stack([1 - own, own], 1)
        parts = [Target(one.truth[:, index].long(), one.weights[:, index]) for one in targets]
        present = pair.new_tensor([not foreground, foreground])
        nothing = Overlap(present, present, present)
        losses.append(loss_terms.lovasz(Regions(pair, parts, nothing, present)).sum())
    return torch.stack(losses)
