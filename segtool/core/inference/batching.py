"""The number of tiles in a batch, and the images that are predicted together so that batches are full."""

import math
from collections.abc import Iterator, Sequence

from segtool.core.inference.plan import ImagePlan
from segtool.values import Size

# On a CPU small tiles are fastest four at once, larger ones alone, since features stay in its cache.
CPU_PIXELS = 256 * 256
CPU_TILES = 4
# A GPU starts here; out of memory halves it.
GPU_PIXELS = 32 * 512 * 512
FULL = 0.9


def batch_size(requested: int | None, device: str, tile: Size) -> int:
    """Return the number of tiles per forward pass, chosen by device and size if `requested` is None."""
    if requested:
        return requested
    pixels = tile.height * tile.width
    return max(1, GPU_PIXELS // pixels if device == "cuda" else min(CPU_TILES, CPU_PIXELS // pixels))


def group_alike(plans: Sequence[ImagePlan], requested: int | None, device: str) -> Iterator[list[int]]:
    """Yield the indices of images to predict together; images of one kind stay in order.

    A network may round differently in another batch. So the groups depend on all images, and neither on those still to
    do nor on the process, and resumed and sharded jobs use the same batches.
    """
    waiting: dict[tuple[object, ...], list[int]] = {}
    for index, plan in enumerate(plans):
        group = waiting.setdefault(plan.alike, [])
        group.append(index)
        if len(group) == images_per_batch(plan, requested, device):
            yield waiting.pop(plan.alike)
    yield from waiting.values()


def images_per_batch(plan: ImagePlan, requested: int | None, device: str) -> int:
    """Return how many such images are predicted together: the fewest whose tiles fill nine tenths of their batches."""
    layer = plan.layers[0]
    batch = batch_size(requested, device, layer.tile)
    tiles = len(layer.columns.starts) * sum(each.member == layer.passes[0].member for each in layer.passes)
    batches = {images: images * tiles / batch for images in range(1, batch + 1)}
    return next(images for images, full in batches.items() if full / math.ceil(full) >= FULL)
