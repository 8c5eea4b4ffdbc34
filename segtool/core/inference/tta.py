"""Test-time augmentation: the views of an image, as pairs of a transform and its inverse (ttach's)."""

from collections.abc import Callable, Sequence

import torch
import ttach

_TRANSFORMS = {"hflip": ttach.HorizontalFlip, "vflip": ttach.VerticalFlip}


def mean_over_views(
    probs: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, names: Sequence[str]
) -> torch.Tensor:
    """The mean of `probs` over all views of (N, C, H, W) images; views multiply, the identity is one of them."""
    if not names:
        return probs(images)
    views = ttach.Compose([_TRANSFORMS[name]() for name in dict.fromkeys(names)])
    merged = torch.stack([view.deaugment_mask(probs(view.augment_image(images))) for view in views])
    return merged.mean(0)
