"""The training loss: a weighted sum of terms that handles ignored pixels, weights, absent classes and mixed targets."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segtool.core.images import IGNORE
from segtool.core.losses import terms as loss_terms
from segtool.core.losses.terms import TINY, Regions, Target, Targets
from segtool.settings.loss import TERMS, LossSettings, LossTerm


class UpdateTotals(NamedTuple):
    """The totals of a whole update, over all its micro-batches and processes.

    pixels: valid pixels, each counted with the weight of its class (`Criterion.pixels`).
    micro_batches: their number.
    """

    pixels: float | Tensor
    micro_batches: int


class Mixed(NamedTuple):
    """The second target of images that are mixed from two.

    masks: uint8 (N, H, W), 255 = ignored.
    share: float (N,), from 0 to 1: the weight of the second target; the first has 1 - share.
    """

    masks: Tensor
    share: Tensor


class Criterion:
    """A weighted sum of loss terms, such as `ce+0.5*dice`.

    ce, bce and focal are means over the valid pixels of the whole update, so accumulation and multiple processes do not
    change them. topk, dice, jaccard, lovasz and tversky are computed per micro-batch and averaged.

    Class weights: ce, bce, focal and topk weight each pixel by its class (sum of w * loss / sum of w); the other terms
    weight their mean over classes.
    Image weights: multiply the loss of an image, and average 1 over an epoch. No mean is divided by them: that would
    cancel the weight of an image that is alone in its update. Terms that compare regions weight the pixels of an image,
    and are multiplied by the mean image weight of the micro-batch's valid pixels.
    Mixed targets: a pixel counts towards both masks by their shares; if one ignores it, towards the other alone.
    Soft targets: a pixel counts towards every class by its probability. Neither lovasz nor mixing supports them.
    Two classes with one logit: terms that compare regions compare the foreground, or the background in a micro-batch
    without foreground, where false positives would otherwise be free.
    """

    def __init__(self, settings: LossSettings, class_weights: Sequence[float] | None = None) -> None:
        """
        Args:
            class_weights: not negative, one per class; by default all classes weigh 1.
        """
        self.settings = settings
        self.terms = [(weight, TERMS[name]) for weight, name in settings.terms]
        # Indexed by the value of a mask pixel.
        self.weight_of = torch.ones(IGNORE + 1)
        if class_weights is not None:
            self.weight_of[: len(class_weights)] = torch.tensor(class_weights)
        self.weight_of[IGNORE] = 0

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
            logits: (N, K, H, W), any float dtype (half precision is raised to float32); K = 1 for two classes.
            masks: uint8 (N, H, W), 255 = ignored.
            weights: float (N,), of the images; they average 1 over an epoch.
            second: the second target of mixed images.
            soft: float (N, classes, H, W), the probability of each class; `masks` then only marks ignored pixels.

        Returns:
            A scalar; zero (with a zero gradient) where no pixel is valid.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logp = loss_terms.log_probabilities(logits)
        targets: Targets = [
            _target(ids, image_weights, logp) for ids, image_weights in weighted_masks(masks, weights, second)
        ]
        if soft is not None:
            targets = soft.to(logp) * _target(masks, weights, logp).weights[:, None]
        loss = logp.new_zeros(())
        for weight, term in self.terms:
            if term.kind != "region":
                loss = loss + weight * self._pixel_term(term, logp, targets, weights, totals)
        if any(term.kind == "region" for _, term in self.terms):
            regions = self._region_terms(logp, targets, one_logit=logits.shape[1] == 1)
            loss = loss + regions * _mean_weight(masks, weights, second).to(logp) / totals.micro_batches
        return loss

    def pixels(self, masks: Tensor, second: Mixed | None = None, soft: Tensor | None = None) -> Tensor:
        """Count a micro-batch's valid pixels, each with the weight of its class; a float64 scalar."""
        weight_of = self.weight_of.to(masks.device, torch.float64)
        ones = torch.ones(len(masks), device=masks.device)
        if soft is not None:
            parts = soft.float() * _target(masks, ones, ones).weights[:, None]
            return (parts.sum(dim=(0, 2, 3), dtype=torch.float64) * weight_of[: soft.shape[1]]).sum()
        total = weight_of.new_zeros(())
        for ids, shares in weighted_masks(masks, ones, second):
            counts = torch.stack([torch.bincount(mask.flatten(), minlength=len(weight_of)) for mask in ids])
            total += (counts.double() @ weight_of) @ shares.double()
        return total

    def _pixel_term(
        self, term: LossTerm, logp: Tensor, targets: Targets, image_weights: Tensor, totals: UpdateTotals
    ) -> Tensor:
        losses, weights = self._weighted_pixel_losses(term.name, logp, targets)
        if term.kind == "hard pixels":
            return loss_terms.hardest(losses, weights, image_weights, self.settings.topk) / totals.micro_batches
        return losses.sum() / at_least_tiny(totals.pixels)

    def _weighted_pixel_losses(self, name: str, logp: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Compute each pixel's loss times its weight, and its weight, both (N, H, W)."""
        pixel_loss, weight_of = loss_terms.PIXEL_LOSSES[name], self.weight_of.to(logp)
        if isinstance(targets, Tensor):
            class_parts = targets * weight_of[: targets.shape[1], None, None]
            return (class_parts * pixel_loss(logp, None, self.settings)).sum(1), class_parts.sum(1)
        losses, weights = torch.zeros_like(logp[:, 0]), torch.zeros_like(logp[:, 0])
        for ids, target_weights in targets:
            pixel_weights = target_weights * weight_of[ids]
            losses = losses + pixel_weights * pixel_loss(logp, ids, self.settings)
            weights = weights + pixel_weights
        return losses, weights

    def _region_terms(self, logp: Tensor, targets: Targets, *, one_logit: bool) -> Tensor:
        """Sum the weighted terms that compare regions."""
        probs = logp.exp()
        overlap = loss_terms.overlap(probs, targets)
        regions = Regions(probs, targets, overlap, _present(overlap.true, targets, one_logit=one_logit))
        class_weights = self.weight_of.to(logp)[: len(regions.present)]
        loss = logp.new_zeros(())
        for weight, term in self.terms:
            if term.kind == "region":
                losses = loss_terms.REGION_LOSSES[term.name](regions, self.settings)
                loss = loss + weight * loss_terms.class_mean(losses, regions.present, class_weights)
        return loss


def _present(true: Tensor, targets: Targets, *, one_logit: bool) -> Tensor:
    """Return the weighted true pixels (K,) of the classes to compare, and 0 for the others."""
    if isinstance(targets, Tensor):
        # Every class has a part of every pixel; a class is present if it is the most probable one of some pixel.
        most = (targets == targets.amax(1, keepdim=True)) & (targets > 0)
        true = true * most.flatten(2).any(2).any(0)
    if one_logit:
        background, foreground = true
        true = torch.stack([torch.where(foreground > 0, 0, background), foreground])
    return true


def weighted_masks(masks: Tensor, weights: Tensor, second: Mixed | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the masks that a batch is compared with, and the weights of the images in each."""
    if second is None:
        yield masks, weights
    else:
        yield masks, weights * (1 - second.share)
        yield second.masks, weights * second.share


def _target(masks: Tensor, image_weights: Tensor, like: Tensor) -> Target:
    valid = masks != IGNORE
    return Target(torch.where(valid, masks, 0).long(), valid * image_weights[:, None, None].to(like))


def _mean_weight(masks: Tensor, weights: Tensor, second: Mixed | None) -> Tensor:
    """Average the image weights over the valid pixels of a micro-batch; a float64 scalar."""
    valid = torch.zeros_like(weights, dtype=torch.float64)
    for ids, shares in weighted_masks(masks, torch.ones_like(weights), second):
        valid += (ids != IGNORE).flatten(1).sum(1) * shares
    return (weights * valid).sum() / valid.sum().clamp(min=TINY)


def at_least_tiny(pixels: float | Tensor) -> float | Tensor:
    """Guard against an update in which all pixels are ignored; any other count is far above the floor."""
    return pixels.clamp(min=TINY) if isinstance(pixels, Tensor) else max(pixels, TINY)
