"""Small pictures of images: what near-duplicates are told by."""

from collections.abc import Sequence

import cv2
import numpy as np

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.images import Array
from segtool.core.reporting.pictures import to_rgb
from segtool.core.reporting.progress import Track, silent
from segtool.core.workers import map_in_processes

# Height and width of a thumbnail in pixels.
SIDE = 32


def shrink(picture: Array) -> Array:
    """Return the thumbnail of a picture, uint8 (32, 32, 3), each pixel the mean of its area."""
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def to_grey(small: Array) -> Array:
    """Return a thumbnail in grey, uint8 (32, 32)."""
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def read_thumbnails(
    dataset: Dataset, records: Sequence[Record], workers: int | None = None, track: Track = silent
) -> Array:
    """Read images and return their thumbnails, uint8 (N, 32, 32). Raises SegtoolError if one cannot be read."""

    def read(record: Record) -> Array:
        return to_grey(shrink(to_rgb(dataset.read_image(record))))

    made = map_in_processes(read, records, workers)
    found = list(track(made, total=len(records), label="reading images"))
    return np.array(found, np.uint8).reshape(-1, SIDE, SIDE)
