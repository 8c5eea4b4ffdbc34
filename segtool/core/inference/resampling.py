"""Resizing and pooling as products with matrices whose entries follow from the sizes.

So a graph that is traced once resizes images of any size to any other: there is no branch in it, and no operator that
wants to know the sizes beforehand. All matrices are (target, source), float32; `source` and `target` are lengths in
pixels, whole numbers or what stands for them while a graph is traced.
"""

from typing import Any

import torch
from torch import nn

# A length: a number, or what stands for one while a graph is traced.
Length = Any


def resize_like_opencv(pixels: torch.Tensor, height: Length, width: Length) -> torch.Tensor:
    """Resize float32 (N, C, H, W) as `images.resize_image` does, but for the rounding of whole numbers.

    That is OpenCV's INTER_AREA if the image becomes smaller, else INTER_LINEAR. Where a side grows while the area
    shrinks, INTER_AREA is an interpolation of its own, without averages.
    """
    source = _length(pixels.shape[2]), _length(pixels.shape[3])
    target = _length(height), _length(width)
    shrinks = target[0] * target[1] < source[0] * source[1]
    both = (target[0] <= source[0]) & (target[1] <= source[1])
    rows, columns = (
        torch.where(shrinks, torch.where(both, _area(*axis), _mixed(*axis)), _linear(*axis)).float()
        for axis in zip(
            (_indices(pixels.shape[2]), _indices(pixels.shape[3])),
            (_indices(height), _indices(width)),
            strict=True,
        )
    )
    return rows @ (pixels @ columns.T)


class AnyAdaptivePool(nn.Module):
    """`nn.AdaptiveAvgPool2d` for a graph whose input has any size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C, height, width), the means of bins that may overlap, of (N, C, H, W)."""
        rows = _bins(_indices(features.shape[2]), self.height).to(features.dtype)
        columns = _bins(_indices(features.shape[3]), self.width).to(features.dtype)
        return rows @ (features @ columns.T)


def _length(length: Length) -> torch.Tensor:
    """Return a length as a tensor, which stays a variable of the graph."""
    return _indices(length)[-1] + 1


def _indices(length: Length) -> torch.Tensor:
    # In float32 the places of pixels in an image of some thousands would be known to a thousandth only.
    return torch.arange(length, dtype=torch.float64)


def _area(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the share of each source pixel in the area of each target pixel."""
    step = (source[-1] + 1) / (target[-1] + 1)
    start, end = target[:, None] * step, (target[:, None] + 1) * step
    return (torch.minimum(end, source + 1) - torch.maximum(start, source)).clamp(min=0) / step


def _linear(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the weights of linear interpolation between the centres of pixels."""
    step = (source[-1] + 1) / (target[-1] + 1)
    place = torch.minimum(((target + 0.5) * step - 0.5).clamp(min=0), source[-1])
    return (1 - (place[:, None] - source).abs()).clamp(min=0)


def _mixed(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the weights of INTER_AREA where the other side, or this one, grows."""
    # Rounded where OpenCV rounds.
    inverse = (target[-1] + 1) / (source[-1] + 1)
    first = (target * (1 / inverse)).floor()
    share = ((target + 1) - (first + 1) * inverse).float()
    share = torch.where(share <= 0, torch.zeros_like(share), share - share.floor())
    second = torch.minimum(first + 1, source[-1])
    weights = (source == first[:, None]) * (1 - share[:, None])
    return weights + (source == second[:, None]) * share[:, None]


def _bins(source: torch.Tensor, target: int) -> torch.Tensor:
    """Return the means over the bins of adaptive pooling."""
    length = source[-1] + 1
    number = torch.arange(target, dtype=torch.float64)[:, None]
    start, end = (number * length / target).floor(), ((number + 1) * length / target).ceil()
    inside = (source >= start) & (source < end)
    return inside / (end - start)
