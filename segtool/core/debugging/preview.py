"""A picture of training batches."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from segtool.core.dataloading.batches import Batch
from segtool.core.images import Array, Pixels
from segtool.core.reporting.pictures import write_preview


def preview_batches(
    path: Path,
    batches: Iterable[Batch],
    count: int,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    *,
    multi: bool = False,
) -> None:
    """Draw the first `count` images of some batches as the network sees them, each with its mask or masks.

    `multi`: masks are planes of classes that may overlap.
    """
    samples: list[tuple[str, Pixels, Sequence[Array]]] = []
    for batch in batches:
        for slot, (image, mask, weight) in enumerate(zip(batch.images, batch.masks, batch.weights, strict=True)):
            caption, masks = f"{len(samples) + 1}: weight {float(weight):.2g}", [mask.numpy()]
            if batch.masks2 is not None and batch.share is not None and batch.share[slot]:
                caption += f", second mask counts {float(batch.share[slot]):.0%}"
                masks.append(batch.masks2[slot].numpy())
            samples.append((caption, image.numpy(), masks))
        if len(samples) >= count:
            break
    write_preview(path, samples[:count], classes, palette, multi=multi)
