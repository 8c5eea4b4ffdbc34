"""The images of the gallery: a small picture of each, and class ids as small grey PNGs that the page colours itself."""

import base64
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.images import IGNORE, Array
from segtool.core.planes import Planes
from segtool.core.reporting.pictures import to_rgb
from segtool.core.scoring.objects import FOUND, OBJECTS
from segtool.core.workers import map_in_threads
from segtool.values import Size

# The longer side of a picture, by the number of pictures; smaller where they hold so much detail that a thousand would
# fill more than this.
SIDES = ((100, 400), (300, 320), (20_000, 240))
BYTES = 24_000_000
SMALLEST = 96
# Pictures that tell how large all are.
TRIED = 8
QUALITY = 70
PICTURES = ("image", "truth", "pred", "unsure")
# Bits of a pixel of a picture of planes: one for each class, and one for what is ignored.
BITS = 24

ReadMask = Callable[[Record, Size], Array | Planes]


@dataclass(frozen=True)
class ImageScore:
    """The scores of one image.

    Attributes:
        score: the image's mIoU, NaN where nothing counts.
        iou: of each class, NaN where it is in neither truth nor prediction.
        objects: int64 (classes, bins, 2), true objects and those found; class 0 of single labels has none.
    """

    record: Record
    score: float
    dice: float
    accuracy: float
    iou: npt.NDArray[np.float64]
    objects: npt.NDArray[np.int64]


def worst_first(scores: Sequence[ImageScore]) -> list[ImageScore]:
    """Sort by score; images without one come last."""
    return sorted(scores, key=lambda one: (math.isnan(one.score), one.score))


def cards(
    dataset: Dataset, scores: Sequence[ImageScore], read: ReadMask, *, with_truth: bool = True
) -> Iterator[dict[str, Any]]:
    """Yield what the page holds of each image, in order, decoded on all cores.

    Args:
        read: reads the predicted mask of a record at a size.
        with_truth: the data set has masks of these images.
    """

    def work(one: ImageScore, side: int) -> dict[str, Any]:
        return _card(dataset, one, read, side, with_truth)

    side = _side(scores, lambda one, side: sum(len(work(one, side).get(key, "")) for key in PICTURES))
    return map_in_threads(lambda one: work(one, side), scores)


def _side(scores: Sequence[ImageScore], size: Callable[[ImageScore, int], int]) -> int:
    """Return the longer side of the pictures, at which a thousand of them fit into BYTES.

    Args:
        size: the bytes of an image's pictures at a side.
    """
    side = next(side for most, side in SIDES if len(scores) <= most)
    most = BYTES * max(1.0, len(scores) / 1000)
    tried = scores[:: -(-len(scores) // TRIED)] if len(scores) > SIDES[0][0] else []
    # Bytes shrink more slowly than pixels do.
    for _ in range(3 if tried else 0):
        expected = np.mean([size(one, side) for one in tried]) * len(scores)
        if expected <= most or side == SMALLEST:
            break
        side = max(SMALLEST, int(side * math.sqrt(most / expected)))
    return side


def _card(dataset: Dataset, one: ImageScore, read: ReadMask, side: int, with_truth: bool) -> dict[str, Any]:
    image = to_rgb(dataset.read_image(one.record))
    size = Size(*image.shape[:2])
    scale = min(1.0, side / max(size))
    small = Size(max(1, round(size.height * scale)), max(1, round(size.width * scale)))
    picture = cv2.resize(image, (small.width, small.height), interpolation=cv2.INTER_AREA)
    card: dict[str, Any] = {
        "id": one.record.image_id,
        "size": [size.width, size.height],
        "group": one.record.group or "",
        "score": _plain(one.score),
        "dice": _plain(one.dice),
        "accuracy": _plain(one.accuracy),
        "iou": {str(index): _plain(value) for index, value in enumerate(one.iou) if not math.isnan(value)},
        "objects": _objects(one.objects),
        "image": _encode(picture, "WEBP", quality=QUALITY),
        "pred": _encode(_mask_picture(read(one.record, size), small), "PNG", optimize=True),
    }
    if with_truth:
        truth = dataset.scored_planes(one.record) if dataset.multi else dataset.read_mask(one.record)
        card["truth"] = _encode(_mask_picture(truth, small), "PNG", optimize=True)
        if isinstance(truth, Planes) and (truth.unknown or truth.uncertain):
            card["unsure"] = _encode(_unsure_picture(truth, small), "PNG", optimize=True)
    return card


def _mask_picture(mask: Array | Planes, size: Size) -> Array:
    """Return class ids at a small size, uint8 (H, W); planes as bits of red, green and blue, groups of 24 below each
    other, uint8 (groups * H, W, 3), the bit after the last class for pixels ignored in all."""
    if not isinstance(mask, Planes):
        return _nearest(mask, size)
    count = len(mask.counts)
    picture = _no_bits(count, size)
    for index in range(count):
        if mask.counts[index]:
            _set_bit(picture, index, _nearest((mask.plane(index) == 1).view(np.uint8), size))
    if mask.ignore:
        _set_bit(picture, count, _nearest(mask.ignored().view(np.uint8), size))
    return picture.reshape(-1, size.width, 3)


def _unsure_picture(mask: Planes, size: Size) -> Array:
    """Return bits as `_mask_picture` does, of the pixels where a class is neither known to be nor known not to be."""
    picture = _no_bits(len(mask.counts), size)
    for index in range(len(mask.counts)):
        if index in mask.unknown or (mask.uncertain and mask.uncertain[index]):
            _set_bit(picture, index, _nearest((mask.plane(index) == IGNORE).view(np.uint8), size))
    return picture.reshape(-1, size.width, 3)


def _no_bits(count: int, size: Size) -> Array:
    return np.zeros((count // BITS + 1, size.height, size.width, 3), np.uint8)


def _set_bit(picture: Array, index: int, plane: Array) -> None:
    group, bit = divmod(index, BITS)
    picture[group, :, :, bit // 8] |= plane << np.uint8(bit % 8)


def _nearest(mask: Array, size: Size) -> Array:
    return cv2.resize(mask, (size.width, size.height), interpolation=cv2.INTER_NEAREST_EXACT)


def _objects(counts: npt.NDArray[np.int64]) -> Mapping[str, list[list[int]]]:
    """Class → for each size the true objects and those found, of classes with any."""
    return {str(index): bins.tolist() for index, bins in enumerate(counts) if bins[:, 0].any()}


def object_pairs(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of the counts of `scoring.objects` what a card shows, int64 (classes, bins, 2)."""
    return counts[:, :, [OBJECTS, FOUND]]


def _encode(picture: Array, form: str, **options: Any) -> str:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, form, **options)
    return f"data:image/{form.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


def colours_of(dataset: Dataset, colours: Array) -> list[str]:
    """Return `#rrggbb` of each class, and of ignored pixels last."""
    rows = [*range(len(dataset.classes)), IGNORE]
    return ["#{:02x}{:02x}{:02x}".format(*map(int, colours[index])) for index in rows]
