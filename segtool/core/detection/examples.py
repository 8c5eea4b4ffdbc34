"""Training examples of the detector: images, and the boxes around the components in their masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.dataloading.sampling import Key
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.geometry import Box
from segtool.core.images import Pixels, check_size, resize_image
from segtool.core.predictions.objects import component_boxes
from segtool.core.reporting.progress import Track
from segtool.core.runtime.seeding import sample_generators
from segtool.errors import SegtoolError
from segtool.values import Size

Floats = npt.NDArray[np.float32]

# Images with a longer side of more pixels are shrunk to this many, as in torchvision.
LONGEST = 1333


class Example(NamedTuple):
    """An image with its objects.

    Attributes:
        image: (H, W, C), as the data set reads it.
        boxes: float32 (N, 4), left, top, right and bottom in pixels, the last two exclusive, so that no box is empty.
        labels: int64 (N,) from 1.
    """

    image: Pixels
    boxes: Floats
    labels: npt.NDArray[np.int64]


def fit(image: Pixels) -> tuple[Pixels, Floats]:
    """Return the image as the detector sees it, and its scale factors (x, y, x, y)."""
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    fitted = resize_image(image, Size(max(1, round(height * scale)), max(1, round(width * scale))))
    across, down = fitted.shape[1] / width, fitted.shape[0] / height
    return fitted, np.array([across, down, across, down], np.float32)


def read_objects(
    dataset: Dataset, records: Sequence[Record], class_ids: Sequence[int], min_area: int, track: Track
) -> list[list[Box]]:
    """Return the boxes of the objects in each mask: components of these classes with at least `min_area` pixels.

    Raises:
        SegtoolError: no mask has an object, or a mask is broken or differs in size from its image.
    """
    objects = []
    for record in track(records, total=len(records), label="objects in the masks"):
        mask = dataset.read_mask(record)
        check_size(record.image, Size(*mask.shape[-2:]), f"mask {record.mask}")
        objects.append(component_boxes(mask, dataset.classes, class_ids, min_area))
    if not any(objects):
        names = ", ".join(dataset.classes[index] for index in class_ids)
        raise SegtoolError(
            f"{dataset.path}: none of {len(records)} masks has an object ({names}) of {min_area} pixels or more, so"
            " there is nothing to learn; see --classes and --min-area"
        )
    return objects


@dataclass(frozen=True)
class Examples:
    """Examples that are read when they are needed; a random flip depends only on seed, epoch and image.

    Attributes:
        objects: the boxes in each of `records`.
        labels: names of the classes; the first is label 1.
    """

    dataset: Dataset
    records: Sequence[Record]
    objects: Sequence[Sequence[Box]]
    labels: Sequence[str]
    seed: int

    def __getitem__(self, key: Key) -> Example:
        record, objects = self.records[key.sample], self.objects[key.sample]
        image, scale = fit(self.dataset.read_image(record))
        boxes = np.array(
            [(box.left, box.top, box.left + box.width, box.top + box.height) for box in objects], np.float32
        )
        boxes = boxes.reshape(-1, 4) * scale
        if sample_generators(self.seed, *key)[0].random() < 0.5:
            image, boxes = flip(image, boxes)
        labels = np.array([self.labels.index(box.label) + 1 for box in objects], np.int64)
        return Example(image, boxes, labels)


def flip(image: Pixels, boxes: Floats) -> tuple[Pixels, Floats]:
    """Flip an image and its boxes from left to right."""
    flipped = boxes.copy()
    flipped[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return np.ascontiguousarray(image[:, ::-1]), flipped
