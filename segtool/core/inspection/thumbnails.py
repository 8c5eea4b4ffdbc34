"""Small pictures of images: what near-duplicates are told by."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.images import Array
from segtool.core.reporting.progress import Track, silent
from segtool.core.workers import map_in_processes

# Height and width of a thumbnail in pixels.
SIDE = 32
# Values of pixels that are not bytes are spread between these percentiles of their image.
LOW, HIGH = 0.5, 99.5


def to_picture(image: npt.NDArray[np.generic]) -> Array:
    """Return an image of any depth and number of bands, (H, W, C), as uint8 (H, W, 3).

    The first three bands are shown, or the first one where there are fewer. Bytes stay as they are.
    """
    bands = image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    if bands.dtype == np.uint8:
        return np.ascontiguousarray(bands, np.uint8)
    values = np.nan_to_num(bands.astype(np.float32), posinf=0, neginf=0)
    low, high = np.percentile(values, (LOW, HIGH))
    return np.clip((values - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)


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
        return to_grey(shrink(to_picture(dataset.read_image(record))))

    made = map_in_processes(read, records, workers)
    found = list(track(made, total=len(records), label="reading images"))
    return np.array(found, np.uint8).reshape(-1, SIDE, SIDE)
