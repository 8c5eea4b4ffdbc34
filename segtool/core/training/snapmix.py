"""The image labels of images made by SnapMix: how much of each class is in the image (Huang, Wang and Tao, 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segtool.core.dataloading.batches import Sources
from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import amp, network_input


def snapmix_targets(network: nn.Module, spec: NetworkSpec, sources: Sources, device: str) -> Tensor:
    """Return the targets of the auxiliary head for the images that SnapMix made: float (M, C) in [0, 1].

    A class counts by the part of its class-activation map that is left in the image, plus the part that comes with the
    partner's region, if their masks hold it: min(1, present_1 (1 - share_1) + present_2 share_2). The paper's two
    weights, which need not add up to one, are per class here, as an image holds several classes; for a class in both
    images they add up to at most one.
    """
    mixed = sources.mixed
    pixels = network_input(sources.images[mixed].flatten(0, 1), spec, device)
    # A separate context: autocast would reuse the weights that it casts here, without gradient, in the forward pass.
    with amp(spec.precision, device):
        maps = class_maps(network, pixels)
    boxes, sizes, present = (part[mixed].to(device) for part in (sources.boxes, sources.sizes, sources.present))
    shares = semantic_shares(maps, boxes.flatten(0, 1), sizes.repeat_interleave(2, 0), pixels.shape[2:])
    covered, pasted = shares.unflatten(0, (-1, 2)).unbind(1)
    present = present[:, :, : covered.shape[1]]
    return (present[:, 0] * (1 - covered) + present[:, 1] * pasted).clamp(0, 1)


@torch.no_grad()
def class_maps(network: nn.Module, pixels: Tensor) -> Tensor:
    """Return class-activation maps: the auxiliary head's weights times the encoder's last features (Zhou et al. 2016).

    The encoder is in eval mode meanwhile: an image's maps do not depend on the batch, and statistics do not change.

    Args:
        pixels: float (N, channels, H, W), normalised.

    Returns:
        float32 (N, C, h, w); without the head's bias, on which the shares do not depend.
    """
    encoder, head = network.get_submodule("encoder"), network.get_submodule("classification_head")
    training = encoder.training
    encoder.eval()
    features = encoder(pixels)
    encoder.train(training)
    # Vision transformers also return their prefix tokens.
    features = features[0] if isinstance(features, tuple) else features
    linear = next(layer for layer in head.modules() if isinstance(layer, nn.Linear))
    return F.conv2d(features[-1], linear.weight[:, :, None, None]).float()


def semantic_shares(maps: Tensor, boxes: Tensor, sizes: Tensor, padded: Sequence[int]) -> Tensor:
    """Return the share of each class's map in a box, after subtracting the map's minimum, as the authors do.

    A cell of the map counts by the number of its pixels that lie in the box; padding does not count. For a constant map
    the share is that of the area.

    Args:
        maps: float (N, C, h, w).
        boxes: int (N, 4), top, left, height and width in pixels.
        sizes: int (N, 2), height and width of the images without padding.
        padded: height and width with padding, which the maps cover.

    Returns:
        (N, C), from 0 to 1.
    """
    whole = torch.cat([torch.zeros_like(sizes), sizes], 1)
    inside, real = (_pixels_under(cut, padded, maps.shape[2:])[:, None] for cut in (boxes, whole))
    maps = maps - maps.masked_fill(real == 0, torch.inf).amin((2, 3), keepdim=True)
    total = (maps * real).sum((2, 3))
    area = inside.sum((2, 3)) / real.sum((2, 3))
    return torch.where(total == 0, area, (maps * inside).sum((2, 3)) / total)


def _pixels_under(boxes: Tensor, padded: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Count the pixels of a box (N, 4) under each cell of a grid over the padded image; float (N, h, w)."""

    def along(start: Tensor, length: Tensor, pixels: int, cells: int) -> Tensor:
        edges = torch.arange(cells + 1, device=start.device) * (pixels / cells)
        stops = torch.minimum(edges[1:], (start + length)[:, None])
        return (stops - torch.maximum(edges[:-1], start[:, None])).clamp(min=0)

    top, left, height, width = boxes.T
    rows, columns = along(top, height, padded[0], grid[0]), along(left, width, padded[1], grid[1])
    return rows[:, :, None] * columns[:, None, :]
