"""Image labels, the classes that are in an image: the targets and the loss of the auxiliary head."""

import torch
import torch.nn.functional as F
from torch import Tensor

from segtool.core.images import IGNORE


def image_label_targets(masks: Tensor, classes: int) -> Tensor:
    """Return float (N, classes) for masks uint8 (N, H, W): 1 if a class has a pixel in the mask, else 0."""
    present = torch.zeros(len(masks), 256, device=masks.device)
    return present.scatter_(1, masks.flatten(1).long(), 1.0)[:, :classes]


def image_label_loss(
    logits: Tensor, targets: Tensor, masks: Tensor, weights: Tensor, shares: Tensor | None = None
) -> Tensor:
    """Average the binary cross-entropy over the classes and images of a micro-batch, times the images' weights.

    Images without a valid pixel do not count. The mean is not divided by the weights (see `Criterion`).

    Args:
        logits: (N, C), any float dtype.
        targets: float (N, C) in [0, 1].
        masks: uint8 (N, H, W), 255 = ignored.
        weights: float (N,), of the images; 1 in the mean over an epoch.
        shares: float (N,), the part of an image that each row represents; 1 by default.
    """
    known = (torch.ones_like(weights) if shares is None else shares) * (masks != IGNORE).flatten(1).any(1)
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(1)
    return (losses * known * weights).sum() / known.sum().clamp(min=1e-6)
