"""Image labels, the classes that are in an image: the targets and the loss of the auxiliary head."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segtool.core.images import IGNORE


def image_label_targets(masks: Tensor, classes: int) -> Tensor:
    """Return float (N, classes): 1 if a class has a pixel in the mask, else 0.

    Args:
        masks: uint8 (N, H, W), class ids; of classes that may overlap (N, C, H, W), 1 in the class.
    """
    if masks.dim() == 4:
        return (masks == 1).flatten(2).any(2).float()
    present = torch.zeros(len(masks), 256, device=masks.device)
    return present.scatter_(1, masks.flatten(1).long(), 1.0)[:, :classes]


def image_label_loss(
    logits: Tensor, targets: Tensor, masks: Tensor, weights: Tensor, shares: Tensor | None = None
) -> Tensor:
    """Average the binary cross-entropy over the classes and images of a micro-batch, times the images' weights.

    Images without a valid pixel do not count, nor classes that are not annotated. The mean is not divided by the
    weights (see `Criterion`).

    Args:
        logits: (N, C), any float dtype.
        targets: float (N, C) in [0, 1].
        masks: uint8 (N, H, W) or (N, C, H, W), 255 = ignored.
        weights: float (N,), of the images; 1 in the mean over an epoch.
        shares: float (N,), the part of an image that each row represents; 1 by default.
    """
    shares = torch.ones_like(weights) if shares is None else shares
    if masks.dim() == 4:
        return _class_label_loss(logits, targets, masks, weights, shares)
    known = shares * (masks != IGNORE).flatten(1).any(1)
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(1)
    return (losses * known * weights).sum() / known.sum().clamp(min=1e-6)


def _class_label_loss(logits: Tensor, targets: Tensor, masks: Tensor, weights: Tensor, shares: Tensor) -> Tensor:
    """Average over the pairs of image and class that are annotated somewhere in the image."""
    known = (masks != IGNORE).flatten(2).any(2) * shares[:, None]
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (losses * known * weights[:, None]).sum() / known.sum().clamp(min=1e-6)
