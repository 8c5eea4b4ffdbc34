"""How wide objects are, and what a resize makes of them and of the shape of images."""

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from segtool.core.images import Array
from segtool.values import Resize, Scale, Size

# Below this many pixels networks with a stride of 32 hardly see an object.
VISIBLE = 8
SPECK = 9
# From this on a change of the aspect ratio is told: 4:3 made square (1.33) is usual, 16:9 (1.78) is much.
MUCH = 1.5


def told_stretch(sizes: Iterable[Size], resize: Resize) -> str:
    """How many images a resize stretches much, and which size does not; nothing where there are none."""
    sizes = list(sizes)
    if isinstance(resize, Scale):
        return ""
    by, size = max((stretch(size, resize), size) for size in sizes)
    if by < MUCH:
        return ""
    count = sum(stretch(size, resize) >= MUCH for size in sizes)
    told = f"resizing to {resize} stretches {count} of {len(sizes)} images, by up to {by:.2f} ({size}, HxW)"
    # About as many pixels, in steps of 32, in which networks take them.
    scale = math.sqrt(resize.height * resize.width / (size.height * size.width))
    alike = Size(*(max(32, round(scale * length / 32) * 32) for length in size))
    return told if any(stretch(size, alike) >= MUCH for size in sizes) else f"{told}; --resize {alike} hardly does"


def stretch(size: Size, resize: Size) -> float:
    """The factor by which a resize changes the aspect ratio, from 1."""
    ratio = (resize.height * size.width) / (resize.width * size.height)
    return max(ratio, 1 / ratio)


def shrunk_away(masks: Iterable[Array], classes: Sequence[str], resize: Resize) -> list[tuple[str, float, float]]:
    """The classes whose median object a resize leaves narrower than it was, and narrower than 8 pixels.

    An object is an 8-connected component of at least 9 pixels (smaller ones are mostly slips of the pen); its width is
    the shorter side of its bounding box. Class 0 is the background, which is no object.

    Args:
        masks: uint8 (H, W), class ids and 255 = ignore; or planes of classes that may overlap, (C, H, W), 1 = in it.

    Returns:
        class name, median width before, median width after.
    """
    before: list[list[float]] = [[] for _ in classes]
    after: list[list[float]] = [[] for _ in classes]
    for mask in masks:
        size = Size(*mask.shape[-2:])
        factors = np.divide(resize.of(size), size)
        ids = range(1, len(classes)) if mask.ndim == 2 else range(len(classes))
        for index in ids:
            region = mask == index if mask.ndim == 2 else mask[index] == 1
            _, _, stats, _ = cv2.connectedComponentsWithStats(region.view(np.uint8), connectivity=8)
            objects = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= SPECK]
            sides = objects[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]]
            before[index] += sides.min(1).tolist()
            after[index] += (sides * factors).min(1).tolist()
    found = (
        (name, float(np.median(old)), float(np.median(new)))
        for name, old, new in zip(classes, before, after, strict=True)
        if old
    )
    return [(name, old, new) for name, old, new in found if new < min(VISIBLE, old)]
