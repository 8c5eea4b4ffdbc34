"""The loss: a sum of terms, right with ignored pixels, image and class weights, absent classes and mixed targets."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from segtool.core.images import IGNORE
from segtool.core.models import loss_terms
from segtool.core.models.loss_terms import TINY, Target, Targets
from segtool.settings.loss import LossSettings

# Weights of false and of missed pixels. Lovász-softmax is the other term that compares regions.
ERRORS = {"dice": (0.5, 0.5), "jaccard": (1.0, 1.0)}
REGION_TERMS = {*ERRORS, "tversky", "lovasz"}


class UpdateTotals(NamedTuple):
    """What a whole update holds, over all its micro-batches and processes.

    pixels: valid pixels, each counted with the weight of its class (`Criterion.pixels`).
    micro_batches: their number.
    """

    pixels: float | Tensor
    micro_batches: int


class Mixed(NamedTuple):
    """The second target of images that are mixed from two.

    masks: uint8 (N, H, W), 255 = ignored.
    share: float (N,), from 0 to 1: how much it counts; the first target counts 1 - share.
    """

    masks: Tensor
    share: Tensor


class Criterion:
    """A weighted sum of loss terms, such as `ce+0.5*dice`.

    Pixel-wise terms (ce, bce, focal) are means over the valid pixels of the whole update, so that accumulation and
    several processes change nothing. Batch-wise terms (topk, dice, jaccard, lovasz, tversky) are computed per
    micro-batch and averaged.

    Class weights weigh pixels in the means of ce, bce, focal and topk (sum of w * loss / sum of w), and the mean over
    classes in the other terms.
    Image weights multiply an image's loss and are relative to 1; means are not divided by them, which would cancel the
    weight of an image that is alone in its update. In the terms that compare regions they weigh the image's pixels, and
    their mean over the micro-batch's valid pixels multiplies the loss.
    Mixed targets: a pixel counts towards both, by their shares; ignored in one, it counts by the other alone.
    Soft targets: likewise towards all classes, so that a term is its expectation over the class. Not for lovasz, whose
    truth is a set, nor mixed.
    """

    def __init__(self, settings: LossSettings, class_weights: Sequence[float] | None = None) -> None:
        """
        Args:
            class_weights: not negative, one per class; by default all classes weigh 1.
        """
        self.settings = settings
        # Of every value a mask may hold.
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
        """This micro-batch's part of the update's loss; the parts add up to it.

        Args:
            logits: (N, K, H, W), any float dtype (half precision is raised to float32); K = 1 for two classes.
            masks: uint8 (N, H, W), 255 = ignored.
            weights: float (N,), of the images; 1 in the mean over an epoch.
            totals: see `UpdateTotals`.
            second: the second target of mixed images.
            soft: float (N, classes, H, W), how probable each class is where `masks` ignores nothing, which then says no
                more than that.

        Returns:
            A scalar; zero (with a zero gradient) where no pixel is valid.
        """
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logp = loss_terms.log_probabilities(logits)
        targets: Targets = [
            _target(ids, image_weights, logp) for ids, image_weights in _targets(masks, weights, second)
        ]
        if soft is not None:
            targets = soft.to(logp) * _target(masks, weights, logp).weights[:, None]
        loss = logp.new_zeros(())
        for weight, name in self.settings.terms:
            if name not in REGION_TERMS:
                loss = loss + weight * self._pixel_term(name, logp, targets, weights, totals)
        if any(name in REGION_TERMS for _, name in self.settings.terms):
            regions = self._region_terms(logp, targets, foreground=logits.shape[1] == 1)
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
        for ids, shares in _targets(masks, ones, second):
            counts = torch.stack([torch.bincount(mask.flatten(), minlength=len(weight_of)) for mask in ids])
            total += (counts.double() @ weight_of) @ shares.double()
        return total

    def _pixel_term(
        self, name: str, logp: Tensor, targets: Targets, image_weights: Tensor, totals: UpdateTotals
    ) -> Tensor:
        losses, weights = torch.zeros_like(logp[:, 0]), torch.zeros_like(logp[:, 0])
        if isinstance(targets, Tensor):
            parts = targets * self.weight_of.to(logp)[: targets.shape[1], None, None]
            losses, weights, targets = (parts * self._of_pixels(name, logp)).sum(1), parts.sum(1), []
        for ids, region_weights in targets:
            pixel_weights = region_weights * self.weight_of.to(logp)[ids]
            losses = losses + pixel_weights * self._of_pixels(name, logp, ids)
            weights = weights + pixel_weights
        if name == "topk":
            return loss_terms.hardest(losses, weights, image_weights, self.settings.topk) / totals.micro_batches
        return losses.sum() / _at_least_tiny(totals.pixels)

    def _of_pixels(self, name: str, logp: Tensor, ids: Tensor | None = None) -> Tensor:
        """A term's loss of each pixel, (N, H, W); without `ids` of each class, (N, K, H, W)."""
        if name == "focal":
            return loss_terms.focal(logp, ids, self.settings.focal_gamma)
        return loss_terms.cross_entropy(logp, ids, 0.0 if name == "topk" else self.settings.label_smoothing)

    def _region_terms(self, logp: Tensor, targets: Targets, *, foreground: bool) -> Tensor:
        """Sum the weighted terms that compare regions.

        Args:
            foreground: of two classes compare class 1 alone; or class 0 alone where no pixel is of class 1, so that
                false positives still count.
        """
        probs = logp.exp()
        sums = loss_terms.overlap(probs, targets)
        true = sums.true.clone()
        if isinstance(targets, Tensor):
            # Every class has some part of every pixel: those count that some pixel most probably is.
            most = (targets == targets.amax(1, keepdim=True)) & (targets > 0)
            true = true * most.flatten(2).any(2).any(0)
        if foreground:
            true[0] = torch.where(true[1] > 0, 0, true[0])
        class_weights = self.weight_of.to(logp)[: len(true)]
        loss = torch.zeros_like(true[0])
        for weight, name in self.settings.terms:
            if name == "lovasz":
                assert not isinstance(targets, Tensor)
                losses = loss_terms.lovasz(probs, targets, true)
            elif name in REGION_TERMS:
                errors = ERRORS.get(name, (self.settings.tversky_alpha, self.settings.tversky_beta))
                losses = loss_terms.tversky(sums, *errors)
            else:
                continue
            loss = loss + weight * loss_terms.class_mean(losses, true, class_weights)
        return loss


def _targets(masks: Tensor, weights: Tensor, second: Mixed | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The masks a batch is compared with, and the images' weights in each."""
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
    for ids, shares in _targets(masks, torch.ones_like(weights), second):
        valid += (ids != IGNORE).flatten(1).sum(1) * shares
    return (weights * valid).sum() / valid.sum().clamp(min=TINY)


def _at_least_tiny(pixels: float | Tensor) -> float | Tensor:
    """Guards the all-ignored update; any real one has a weighted pixel count far above the floor."""
    return pixels.clamp(min=TINY) if isinstance(pixels, Tensor) else max(pixels, TINY)
