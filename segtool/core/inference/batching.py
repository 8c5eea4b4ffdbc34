"""How many tiles a network gets at once, and which images are predicted together so that batches are full."""

import math
from collections.abc import Iterator, Sequence

from segtool.core.inference.plan import ImagePlan
from segtool.values import Size

# On a CPU small tiles run fastest four at once, larger ones alone, as features stay in its cache.
CPU_PIXELS = 256 * 256
CPU_TILES = 4
# A GPU starts here; out of memory halves it.
GPU_PIXELS = 32 * 512 * 512
FULL = 0.9


def batch_size(asked: int | None, device: str, tile: Size) -> int:
    """Tiles per forward pass; `asked` None chooses."""
    if asked:
        return asked
    pixels = tile.height * tile.width
    return max(1, GPU_PIXELS // pixels if device == "cuda" else min(CPU_TILES, CPU_PIXELS // pixels))


def group_alike(plans: Sequence[ImagePlan], asked: int | None, device: str) -> Iterator[list[int]]:
    """Indices of images that are predicted together; the order is kept among alike ones.

    A network may round otherwise in another batch: which images go together depends on all of them, not on what is
    still to do or on which process does it, so that resumed and sharded jobs use the same batches.
    """
    waiting: dict[tuple[object, ...], list[int]] = {}
    for index, plan in enumerate(plans):
        group = waiting.setdefault(plan.alike, [])
        group.append(index)
        if len(group) == _enough(plan, asked, device):
            yield waiting.pop(plan.alike)
    yield from waiting.values()


def _enough(plan: ImagePlan, asked: int | None, device: str) -> int:
    """The fewest images whose tiles fill batches to nine tenths."""
    layer = plan.layers[0]
    batch = batch_size(asked, device, layer.tile)
    tiles = len(layer.columns.starts) * sum(each.member == layer.passes[0].member for each in layer.passes)
    filled = (images * tiles / batch / math.ceil(images * tiles / batch) for images in range(1, batch + 1))
    return next(images for images, share in enumerate(filled, 1) if share >= FULL)
