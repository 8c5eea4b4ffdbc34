"""Which classes an image made by SnapMix holds, and how much of each (Huang, Wang and Tao, 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segtool.core.dataloading.batches import Sources
from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import amp, network_input


def snapmix_targets(network: nn.Module, spec: NetworkSpec, sources: Sources, device: str) -> Tensor:
    """What the auxiliary head is to say of the images that SnapMix made: float (M, C) in [0, 1].

    A class counts by how much of its class-activation map is left in the image, plus how much of it comes with the
    partner's region, where their masks hold it: min(1, held_1 (1 - share_1) + held_2 share_2). The paper's two weights,
    which need not add up to one, are per class here, as an image holds several; of a class that both hold they add up
    to one at most.
    """
    made = sources.mixed
    pixels = network_input(sources.images[made].flatten(0, 1), spec, device)
    # In a context of its own: autocast would keep the weights it casts here, without gradient, for the forward pass.
    with amp(spec.precision, device):
        maps = class_maps(network, pixels)
    boxes, sizes, held = (part[made].to(device) for part in (sources.boxes, sources.sizes, sources.held))
    shares = semantic_shares(maps, boxes.flatten(0, 1), sizes.repeat_interleave(2, 0), pixels.shape[2:])
    one, other = shares.unflatten(0, (-1, 2)).unbind(1)
    held = held[:, :, : one.shape[1]]
    return (held[:, 0] * (1 - one) + held[:, 1] * other).clamp(0, 1)


@torch.no_grad()
def class_maps(network: nn.Module, pixels: Tensor) -> Tensor:
    """Class-activation maps: the auxiliary head's weights times the encoder's last features (Zhou et al. 2016).

    The encoder is in eval mode meanwhile: an image's maps depend on no other in the batch, and statistics stay as they
    are.

    Args:
        pixels: float (N, channels, H, W), normalised.

    Returns:
        float32 (N, C, h, w); without the head's bias, which the shares do not depend on.
    """
    encoder, head = network.get_submodule("encoder"), network.get_submodule("classification_head")
    training = encoder.training
    encoder.eval()
    features = encoder(pixels)
    encoder.train(training)
    # Vision transformers answer their prefix tokens, too.
    features = features[0] if isinstance(features, tuple) else features
    linear = next(layer for layer in head.modules() if isinstance(layer, nn.Linear))
    return F.conv2d(features[-1], linear.weight[:, :, None, None]).float()


def semantic_shares(maps: Tensor, boxes: Tensor, sizes: Tensor, padded: Sequence[int]) -> Tensor:
    """How much of each class's map lies in a box, after the map's smallest value is taken away, as the authors do.

    A cell of the map stands for the pixels under it and counts by those that lie in the box; padding counts nowhere.
    Of a map that is the same everywhere it is the box's part of the area.

    Args:
        maps: float (N, C, h, w).
        boxes: int (N, 4), top, left, height and width in pixels.
        sizes: int (N, 2), height and width of the images without padding.
        padded: height and width with it, to which the maps belong.

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
    """How many pixels of a box (N, 4) lie under each cell of a grid over the padded image; float (N, h, w)."""

    def along(start: Tensor, length: Tensor, pixels: int, cells: int) -> Tensor:
        edges = torch.arange(cells + 1, device=start.device) * (pixels / cells)
        stops = torch.minimum(edges[1:], (start + length)[:, None])
        return (stops - torch.maximum(edges[:-1], start[:, None])).clamp(min=0)

    top, left, height, width = boxes.T
    rows, columns = along(top, height, padded[0], grid[0]), along(left, width, padded[1], grid[1])
    return rows[:, :, None] * columns[:, None, :]
