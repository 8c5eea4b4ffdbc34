"""Write the index masks of a data set: keep those that an interrupted command finished, and count the pixels."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.dataset.dataset import Labels, Record
from segtool.core.reporting.progress import Track
from segtool.core.reporting.tables import Table
from segtool.core.workers import map_in_processes
from segtool.errors import SegtoolError
from segtool.values import Size

log = logging.getLogger(__name__)

Counts = npt.NDArray[np.int64]


class Painted(NamedTuple):
    """A mask, uint8 (H, W), and how many of its pixels are marked as several classes or objects."""

    mask: images.Array
    overlap: int = 0


class Tally:
    """The number of pixels with each mask value (0 to 255), and of images that contain it.

    `overlaps` holds, for the images that have some, the number of pixels that are marked several times.
    """

    def __init__(self) -> None:
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.overlaps: dict[str, int] = {}

    def add(self, counts: Counts, image_id: str, overlap: int) -> None:
        """Add one mask, by how many of its pixels have each value."""
        self.pixels += counts
        self.images += counts > 0
        if overlap:
            self.overlaps[image_id] = overlap

    def table(self, classes: Sequence[str]) -> Table:
        """Return each class's share of the scored pixels and, as the last row, the ignored share of all pixels."""
        ids = [*range(len(classes)), images.IGNORE]
        pixels = self.pixels[ids]
        shares = pixels / max(1, pixels[:-1].sum())
        shares[-1] = pixels[-1] / max(1, self.pixels.sum())
        names = [*classes, "(ignored, of all pixels)"]
        return Table("Classes", {"id": ids, "class": names, "pixel share": shares, "images": self.images[ids]})


def mask_path(folder: Path, image_id: str, labels: Labels = "single") -> Path:
    """Return the path of the mask of an image in a data set or prediction folder."""
    return folder / "masks" / f"{image_id}{'.json' if labels == 'multi' else '.png'}"


def masks_glob(labels: Labels = "single") -> str:
    """Return the pattern that `mask_path` follows, below the folder."""
    return f"masks/**/*{'.json' if labels == 'multi' else '.png'}"


def write_masks(
    records: Sequence[Record],
    classes: int,
    make: Callable[[Record, Size], Painted],
    track: Track,
    palette: Sequence[Sequence[int]] | None = None,
) -> Tally:
    """Write the mask of every record, on all cores, except where a finished one exists already.

    Args:
        records: images, and the paths to write their masks to.
        classes: number of classes.
        make: paints a record's mask, from the record and the size of its image; called in other processes, so what
            it changes is lost.
        palette: colours of the class ids, stored in the files.

    Raises:
        SegtoolError: an image cannot be read, or `make` raises it.
    """

    def write(record: Record) -> tuple[Counts, int, bool]:
        assert record.mask is not None
        size = images.image_size(record.image)
        finished = _finished(record.mask, size, classes)
        mask, overlap = make(record, size) if finished is None else Painted(finished)
        if finished is None:
            images.write_mask(record.mask, mask, palette)
        return images.count_values(mask), overlap, finished is not None

    tally, kept = Tally(), 0
    written = track(map_in_processes(write, records, None), total=len(records), label="masks")
    for record, (counts, overlap, was_finished) in zip(records, written, strict=True):
        tally.add(counts, record.image_id, overlap)
        kept += was_finished
    if kept:
        log.info("%d masks of an earlier, interrupted call are reused", kept)
    return tally


def _finished(path: Path, size: Size, classes: int) -> images.Array | None:
    """Read the mask at `path` if it is complete, has this size and contains only class ids and 255; else None."""
    if not path.is_file():
        return None
    try:
        values = images.read_indices(path)
        return images.to_mask(values, classes, images.IGNORE, path) if values.shape == size else None
    except SegtoolError:
        return None
