"""Submission files of competitions."""

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from segtool.core.files import atomic
from segtool.core.images import Array

PIXELS_HEADER = "image_id,PredictionString\n"

# The text of every value, padded with NUL to one width: indexing it converts all pixels at once.
_TEXTS = np.array([f"{value} ".encode() for value in range(256)])


def pixels_string(mask: Array) -> str:
    """Return the class ids of a mask, uint8 (H, W), row by row, separated by single spaces.

    >>> pixels_string(np.array([[0, 12], [3, 0]], np.uint8))
    '0 12 3 0'
    """
    return _TEXTS[mask].tobytes().translate(None, b"\0").decode("ascii").rstrip()


def write_pixels(path: Path, masks: Iterable[tuple[str, Array]]) -> None:
    """Write `image_id,PredictionString` with all class ids of every mask atomically, one mask in memory at a time.

    Args:
        masks: (image_id, uint8 (H, W)) in the order of the file.
    """
    with atomic(path) as file:
        # Only ids may need quotes; the csv module would check every character of the pixels, too.
        ids = csv.writer(file, lineterminator=",")
        file.write(PIXELS_HEADER)
        for image_id, mask in masks:
            ids.writerow([image_id])
            file.write(pixels_string(mask) + "\n")
