"""Losses: sums of pixel-wise and batch-wise terms, right with ignored pixels, image weights and absent classes."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segtool.core.images import IGNORE


class Share(NamedTuple):
    """What part of an update a micro-batch is.

    pixels: the weighted count of valid pixels of the whole update, over all its micro-batches and processes.
    parts: the number of these micro-batches, over all processes.
    """

    pixels: float | Tensor
    parts: int


class Criterion:
    """A sum of loss terms, such as `ce+dice`.

    Pixel-wise terms are means over the valid pixels of the whole update, so that accumulation and several processes
    change nothing. Batch-wise terms are computed per micro-batch and averaged.
    """

    def __init__(self, loss: str) -> None:
        self.terms = loss.split("+")

    def __call__(self, logits: Tensor, masks: Tensor, weights: Tensor, share: Share) -> Tensor:
        """This micro-batch's part of the update's loss; the parts add up to it.

        Args:
            logits: (N, K, H, W), any float dtype; K = 1 for two classes.
            masks: uint8 (N, H, W), 255 = ignored.
            weights: float (N,), of the images.
            share: see `Share`.

        Returns:
            A float32 scalar; zero (with a zero gradient) where no pixel is valid.
        """
        logits = logits.float()
        valid = masks != IGNORE
        pixel_weights = valid * weights[:, None, None]
        targets = torch.where(valid, masks, 0).long()
        loss = logits.sum() * 0.0
        for term in self.terms:
            if term == "ce":
                loss = loss + (cross_entropy(logits, targets) * pixel_weights).sum() / _at_least_one(share.pixels)
            else:
                loss = loss + dice_loss(logits, targets, pixel_weights) / share.parts
        return loss


def weighted_pixels(masks: Tensor, weights: Tensor) -> Tensor:
    """Valid pixels of a micro-batch, each counted with its image's weight; a float64 scalar."""
    return ((masks != IGNORE).sum(dim=(1, 2)) * weights.double()).sum()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each pixel, (N, H, W); of the sigmoid where there is one logit."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], targets.float(), reduction="none")
    return F.cross_entropy(logits, targets, reduction="none")


def dice_loss(logits: Tensor, targets: Tensor, pixel_weights: Tensor) -> Tensor:
    """1 - Dice, the mean over the classes that occur in the targets (Milletari et al. 2016).

    Sums in the denominator, not squares. Segmentation-models' Dice divides by all classes, so that its scale hangs on
    how many a batch happens to hold.
    With one logit it is the foreground's. Zero where no class (or no foreground) has a valid pixel.
    """
    if logits.shape[1] == 1:
        probs = logits[:, 0].sigmoid() * pixel_weights
        truth = targets * pixel_weights
        hits, guessed, true = ((probs * targets).sum()[None], probs.sum()[None], truth.sum()[None])
    else:
        classes = logits.shape[1]
        probs = logits.softmax(1) * pixel_weights[:, None]
        of_target = probs.gather(1, targets[:, None]).flatten()
        zeros = probs.new_zeros(classes)
        hits = zeros.index_add(0, targets.flatten(), of_target)
        true = zeros.index_add(0, targets.flatten(), pixel_weights.flatten().to(probs.dtype))
        guessed = probs.sum(dim=(0, 2, 3))
    present = true > 0
    dice = 2 * hits / (guessed + true).clamp(min=1e-6)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def _at_least_one(pixels: float | Tensor) -> float | Tensor:
    """Guards the all-ignored update; any real one has a weighted pixel count far above the floor."""
    return pixels.clamp(min=1e-6) if isinstance(pixels, Tensor) else max(pixels, 1e-6)
