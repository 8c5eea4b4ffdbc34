"""A prediction as one graph: from the pixels of images, as they are stored, to probabilities and mask at their size."""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from timm.layers import Conv2dSame
from torch import nn

from segtool.core.inference.predictor import Member, to_probs
from segtool.core.inference.resampling import AnyAdaptivePool, Length, resize_like_opencv
from segtool.core.inference.tta import make_views
from segtool.core.models.build import DIVISOR, NetworkSpec
from segtool.core.models.folding import fold_norms
from segtool.core.models.outputs import MaskOnly
from segtool.core.predictions.probability_maps import SCALE, lowest_level
from segtool.values import Resize, Scale

# The pixels on which batch norms are folded.
FOLDED_SIDE = 256
# The number of types that a graph takes; what has 16 bits is given as float32.
INPUTS = {"uint8": torch.uint8, "uint16": torch.float32, "float32": torch.float32}


class ServedModel(nn.Module):
    """The average of networks over views, as `Predictor` computes it from whole images.

    (N, H, W, channels) → probabilities float32 (N, C, H, W), and the mask: class ids uint8 (N, H, W), or where classes
    may overlap bool (N, C, H, W). Pixels are uint8, or float32 for images of other depths, with NaN where they are
    missing.
    """

    def __init__(self, members: Sequence[Member], transforms: Sequence[str] = ()) -> None:
        """
        Args:
            members: networks of the same classes and images, on the CPU.
            transforms: flips and rotations, as `--tta` spells them, whose views are averaged.
        """
        super().__init__()
        views = [_Turn(view.name) for view in make_views(transforms)]
        self.networks = nn.ModuleList(ServedNetwork(member, views) for member in members)
        self.multi = members[0].spec.multi

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and mask."""
        pixels = image.permute(0, 3, 1, 2).float()
        probs = self.networks[0](pixels)
        for network in self.networks[1:]:
            probs = probs + network(pixels)
        probs = (probs / len(self.networks)).clamp(0, 1)
        if self.multi:
            # From 0.5 on, as it would be stored.
            return probs, (probs * SCALE + 0.5).floor() >= lowest_level(0.5)
        return probs, probs.argmax(1).to(torch.uint8)


class ServedNetwork(nn.Module):
    """One network: float32 (N, channels, H, W), as they are stored → probabilities (N, C, H, W)."""

    mean: torch.Tensor
    std: torch.Tensor
    fill: torch.Tensor
    low: torch.Tensor
    width: torch.Tensor

    def __init__(self, member: Member, views: "Sequence[_Turn]") -> None:
        super().__init__()
        spec = member.spec
        self.network = traceable(member.network, spec)
        self.views, self.spec = tuple(views), spec
        intensity = spec.intensity
        self.whole = spec.dtype != "float32"
        self.ranged = intensity.low is not None
        top = 1 if self.ranged else 255
        low, high = intensity.low or (0.0,), intensity.high or (1.0,)
        constants = {
            "mean": [mean * top for mean in spec.mean],
            "std": [std * top for std in spec.std],
            "fill": intensity.fill,
            "low": low,
            "width": [above - below for above, below in zip(high, low, strict=True)],
        }
        for name, values in constants.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return probabilities at the size of the pixels."""
        size = pixels.shape[2], pixels.shape[3]
        seen = self._seen(pixels)
        padded = self._padded(self._unit(seen))
        total = self._view(self.views[0], padded)
        for view in self.views[1:]:
            total = total + self._view(view, padded)
        probs = _cut(total / len(self.views), seen.shape[2], seen.shape[3])
        if self.spec.resize is None:
            return probs
        return F.interpolate(probs, size=size, mode="bilinear", align_corners=False)

    def _seen(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return pixels at the size at which the network sees them, NaN where they are missing."""
        spec = self.spec
        if spec.nodata is not None or not self._pictures:
            missing = ~torch.isfinite(pixels)
            if spec.nodata is not None:
                missing = missing | (pixels == spec.nodata)
            if spec.resize is None:
                return torch.where(missing, torch.full_like(pixels, torch.nan), pixels)
            # What a missing pixel has a share in is missing.
            filled = torch.where(missing, torch.zeros_like(pixels), pixels)
            gone = self._resized(missing.float()) > 0
            resized = self._resized(filled)
            return torch.where(gone, torch.full_like(resized, torch.nan), resized)
        return pixels if spec.resize is None else self._resized(pixels)

    def _resized(self, pixels: torch.Tensor) -> torch.Tensor:
        assert self.spec.resize is not None
        return resize_like_opencv(pixels, *_target(self.spec.resize, pixels.shape[2], pixels.shape[3]))

    @property
    def _pictures(self) -> bool:
        return self.spec.dtype == "uint8"

    def _unit(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what `Intensity.unit` returns."""
        spec = self.spec
        if self.whole and spec.resize is not None:
            # Images of 16 bits with missing pixels are read as float32, whose resizing does not round.
            exact = torch.isnan(pixels).float().amax((1, 2, 3), keepdim=True) > 0
            pixels = pixels.round() if self._pictures else torch.where(exact, pixels, pixels.round())
        if self.ranged:
            pixels = (pixels - self.low) / self.width
            pixels = pixels.clamp(0, 1) if spec.clip else pixels
        if spec.nodata is not None or not self._pictures:
            pixels = torch.where(torch.isnan(pixels), self.fill.expand_as(pixels), pixels)
        return pixels

    def _padded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return normalised pixels, with the fill beyond the right and lower edge, up to multiples of 32."""
        height, width = pixels.shape[2], pixels.shape[3]
        # Not F.pad, which torch.export follows with conditions on the sizes.
        rows, columns = (torch.arange(_round_up(length), device=pixels.device) for length in (height, width))
        inside = (rows < height)[:, None] & (columns < width)
        moved = pixels.index_select(2, rows.clamp(max=height - 1)).index_select(3, columns.clamp(max=width - 1))
        return (torch.where(inside, moved, self.fill) - self.mean) / self.std

    def _view(self, view: "_Turn", padded: torch.Tensor) -> torch.Tensor:
        return view.turn_back(to_probs(self.network(view.turn(padded)), multi=self.spec.multi))


class _Turn:
    """The flips and rotations of a view, of operators that ONNX has."""

    def __init__(self, name: str) -> None:
        """`name` is that of a `View` without a scale."""
        self.parts = [part for part in name.split("+") if part != "identity"]

    def turn(self, pixels: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            pixels = _turned(pixels, part)
        return pixels

    def turn_back(self, pixels: torch.Tensor) -> torch.Tensor:
        opposite = {"rot90:90": "rot90:270", "rot90:270": "rot90:90"}
        for part in reversed(self.parts):
            pixels = _turned(pixels, opposite.get(part, part))
        return pixels


def _turned(pixels: torch.Tensor, part: str) -> torch.Tensor:
    if part in ("rot90:90", "rot90:270"):
        return pixels.transpose(2, 3).flip(2 if part == "rot90:90" else 3)
    return pixels.flip({"vflip": (2,), "hflip": (3,), "rot90:180": (2, 3)}[part])


def _cut(probs: torch.Tensor, height: Length, width: Length) -> torch.Tensor:
    return probs.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))


def _round_up(length: Length) -> Length:
    return (length + DIVISOR - 1) // DIVISOR * DIVISOR


def _target(resize: Resize, height: Length, width: Length) -> tuple[Length, Length]:
    """Return what `resize.of` returns, for lengths that are variables of the graph."""
    if not isinstance(resize, Scale):
        return resize.height, resize.width
    sides = torch.stack([torch.arange(length, dtype=torch.float64)[-1] + 1 for length in (height, width)])
    by = {"long": sides.max(), "short": sides.min(), "factor": torch.ones((), dtype=torch.float64)}[resize.by]
    lengths = (sides * resize.number / by).round().clamp(min=1).long()
    return lengths[0], lengths[1]


def traceable(network: nn.Module, spec: NetworkSpec) -> nn.Module:
    """Return a copy of a network that a graph can hold: the mask alone, norms folded, layers without a choice by size.

    Raises:
        ValueError: the network has layers that cannot be.
    """
    network = copy.deepcopy(MaskOnly(network) if spec.aux_head else network).float()
    example = torch.zeros(1, spec.channels, FOLDED_SIDE, FOLDED_SIDE)
    network = fold_norms(network, example)
    for name, module in list(network.named_modules()):
        if (made := _replacement(module)) is not None:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, made)
    return network.to(memory_format=torch.contiguous_format).eval()


def _replacement(module: nn.Module) -> nn.Module | None:
    if isinstance(module, PSPBlock):
        return _AnyPspBlock(module)
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size not in (1, (1, 1)):
        size = module.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        if height is None or width is None:
            raise ValueError("a pooling layer whose output depends on the size of its input")
        return AnyAdaptivePool(height, width)
    if isinstance(module, Conv2dSame):
        return _StaticSame(module)
    return None


class _AnyPspBlock(nn.Module):
    """A block of PSPNet; segmentation-models' own takes another way while ONNX traces it, which ONNX does not take."""

    def __init__(self, block: PSPBlock) -> None:
        super().__init__()
        self.pool = AnyAdaptivePool(block.pool_size, block.pool_size)
        self.conv = block.pool[1]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        size = features.shape[2], features.shape[3]
        return F.interpolate(self.conv(self.pool(features)), size=size, mode="bilinear", align_corners=True)


class _StaticSame(nn.Module):
    """TensorFlow's padding "same": of an input whose sides are multiples of the stride it is always the same."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            dilation=conv.dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        self.conv.weight, self.conv.bias = conv.weight, conv.bias
        self.pads: list[int] = []
        for kernel, stride, dilation in zip(
            conv.kernel_size[::-1], conv.stride[::-1], conv.dilation[::-1], strict=True
        ):
            total = max((kernel - 1) * dilation + 1 - stride, 0)
            self.pads += [total // 2, total - total // 2]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.conv(F.pad(features, self.pads))
        return output
