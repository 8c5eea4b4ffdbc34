"""Test-time augmentation: the views of an image. Flips and rotations are ttach's; scales are other image sizes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import ttach

Turn = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    Attributes:
        name: such as `hflip+rot90:90`, or `identity`.
        scale: the factor of both sides.
        turn: (N, C, H, W) → the same pixels flipped and rotated.
        turn_back: its inverse.
    """

    name: str
    scale: float
    turn: Turn
    turn_back: Turn


def make_views(transforms: Sequence[str]) -> tuple[View, ...]:
    """Return all combinations of transforms, as `--tta` spells them, the identity first.

    Of views that show the same pixels (hflip and vflip together are rot90:180) the first is kept.
    """
    scales = [1.0]
    names, turns = [], []
    for transform in transforms:
        kind, _, values = transform.partition(":")
        if kind == "scale":
            scales += [float(factor) for factor in values.split("/")]
        elif kind == "rot90":
            angles = [int(angle) for angle in values.split("/")]
            turns.append(ttach.Rotate90([0, *angles]))
            names.append(["", *(f"rot90:{angle}" for angle in angles)])
        else:
            turns.append({"hflip": ttach.HorizontalFlip, "vflip": ttach.VerticalFlip}[kind]())
            names.append(["", kind])
    distinct: dict[object, tuple[str, Turn, Turn]] = {}
    for parts, chain in zip(product(*names), ttach.Compose(turns), strict=True):
        name = "+".join(filter(None, parts))
        distinct.setdefault(_looks(chain.augment_image), (name, chain.augment_image, chain.deaugment_mask))
    return tuple(
        View("+".join(filter(None, (name, f"scale:{scale:g}" if scale != 1 else ""))) or "identity", scale, turn, back)
        for scale in dict.fromkeys(scales)
        for name, turn, back in distinct.values()
    )


def _looks(turn: Turn) -> tuple[object, ...]:
    """Return a key of a turn: where it moves the pixels of a small image without symmetry."""
    shown = turn(torch.arange(6).view(1, 1, 2, 3))
    return (*shown.shape, *shown.flatten().tolist())
