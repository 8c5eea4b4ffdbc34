"""Test-time augmentation: the views of an image, as pairs of a transform and its inverse (ttach's)."""

from collections.abc import Callable, Iterator, Sequence

import torch
import ttach

_TRANSFORMS = {"hflip": ttach.HorizontalFlip, "vflip": ttach.VerticalFlip}

Transform = Callable[[torch.Tensor], torch.Tensor]


def views(names: Sequence[str]) -> Iterator[tuple[Transform, Transform]]:
    """Each view of (N, C, H, W) images as a transform and its inverse; views multiply, the identity is one of them."""
    for view in ttach.Compose([_TRANSFORMS[name]() for name in dict.fromkeys(names)]):
        yield view.augment_image, view.deaugment_mask
