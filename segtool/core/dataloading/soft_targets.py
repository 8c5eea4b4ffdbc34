"""Soft targets: the probability of each class in each pixel, instead of one class.

Augmentation has to move the probabilities as it moves the mask. It moves the numbers of the pixels, which cost as much
as an image, and the probabilities are looked up once, at the end.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.images import IGNORE, Array
from segtool.core.planes import Planes
from segtool.core.predictions.probability_maps import SCALE, open_probs
from segtool.errors import UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.loss import TERMS, LossSettings
from segtool.values import Size

# Half the size of float32 on the way between processes, with a precision of 1/2048.
Soft = npt.NDArray[np.float16]


def check_soft(records: Sequence[Record], augmentation: AugmentationSettings, loss: LossSettings) -> None:
    """Raise UsageError if a record has soft targets and the settings do not support them."""
    softened = next((record for record in records if record.soft), None)
    if softened is None:
        return
    where = f"image {softened.image_id!r} has soft targets"
    if augmentation.mixing:
        raise UsageError(f"{augmentation.mixing}: {where}, which cannot be mixed; leave out one of the two")
    if refusing := next((term.name for term in loss.terms if not TERMS[term.name].soft_targets), None):
        raise UsageError(f"--loss {loss.loss}: {where}, and {refusing} compares sets of pixels; use dice or jaccard")


def number_pixels(size: Size) -> Array:
    """Number the pixels, as uint8 (H, W, 4): the bytes of the numbers, since all transforms can handle bytes."""
    return np.arange(size.height * size.width, dtype=np.uint32).view(np.uint8).reshape(*size, 4)


def soft_target(dataset: Dataset, record: Record, size: Size, mask: Array, numbers: Array | None) -> Soft:
    """Return the probability of each class, float16 (C, H, W), adding up to one; undefined where ignored.

    For a record without soft targets the class of the mask has probability 1.

    Args:
        size: of the whole image.
        mask: uint8 (H, W), of the required part of the image, 255 = ignored.
        numbers: uint8 (H, W, 4), the numbers of these pixels in the whole image; for a record with soft targets.

    Raises:
        SegtoolError: the probabilities are missing, broken, or of another size or number of classes.
    """
    classes = range(len(dataset.classes))
    if record.soft is None or numbers is None:
        return (np.array(classes)[:, None, None] == mask).astype(np.float16)
    owner, ids = _owner(dataset, record)
    reader = open_probs(record.soft, (len(owner.classes), *size), record.image)
    theirs = reader.levels().reshape(len(owner.classes), -1)[:, _places(mask, numbers)].astype(np.float32)
    ours = np.zeros((len(classes), *mask.shape), np.float32)
    # A class that this data set lacks is ignored; several classes may map to one.
    for probs, our_id in zip(theirs, ids, strict=False):
        if our_id != IGNORE:
            ours[our_id] += probs
    return (ours / np.maximum(ours.sum(axis=0), 1)).astype(np.float16)


def moved_planes(planes: Planes, mask: Array, numbers: Array) -> Array:
    """Return the planes at augmented pixels, uint8 (C, H, W): 255 where the augmented mask ignores a pixel.

    Args:
        mask: uint8 (H, W), 255 = ignored; other values do not matter.
        numbers: uint8 (H, W, 4), the numbers of the pixels in the whole image.
    """
    moved = planes.at(_places(mask, numbers))
    moved[:, mask == IGNORE] = IGNORE
    return moved


def soft_planes(dataset: Dataset, record: Record, size: Size, planes: Array, numbers: Array) -> Soft:
    """Return the probability of each class that may overlap, float16 (C, H, W); undefined where ignored.

    Arguments as for `soft_target`, but `planes` is uint8 (C, H, W). Classes of another data set that map to one are
    joined by the largest probability.
    """
    if record.soft is None:
        return (planes == 1).astype(np.float16)
    owner, ids = _owner(dataset, record)
    reader = open_probs(record.soft, (len(owner.classes), *size), record.image)
    theirs = reader.levels().reshape(len(owner.classes), -1)[:, _places(planes.min(0), numbers)]
    ours = np.zeros(planes.shape, np.uint16)
    for levels, our_id in zip(theirs, ids, strict=False):
        if our_id != IGNORE:
            np.maximum(ours[our_id], levels, out=ours[our_id])
    return (ours / np.float32(SCALE)).astype(np.float16)


def _places(mask: Array, numbers: Array) -> npt.NDArray[np.uint32]:
    return np.where(mask == IGNORE, np.uint32(0), np.ascontiguousarray(numbers).view(np.uint32)[..., 0])


def _owner(dataset: Dataset, record: Record) -> tuple[Dataset, tuple[int, ...]]:
    """Return the data set whose classes the record's files have, and their ids in `dataset`."""
    if record.origin:
        return record.origin.dataset, record.origin.ids
    return dataset, tuple(range(len(dataset.classes)))
