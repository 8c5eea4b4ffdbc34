"""Soft targets: how probable each class is in each pixel, instead of one class that is.

What moves the pixels of a mask about has to do the same to its probabilities. It is done to the pixels' numbers, which
cost as much as an image, and the probabilities are taken once, where they are wanted.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.images import IGNORE, Array
from segtool.core.predictions.probability_maps import ProbReader
from segtool.errors import SegtoolError, UsageError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.loss import TERMS, LossSettings
from segtool.values import Size

# Half the room of float32 on its way between processes, at a precision of 1/2048.
Soft = npt.NDArray[np.float16]


def check_soft(records: Sequence[Record], augmentation: AugmentationSettings, loss: LossSettings) -> None:
    """Raise UsageError where a record has soft targets and the settings cannot take them."""
    softened = next((record for record in records if record.soft), None)
    if softened is None:
        return
    where = f"image {softened.image_id!r} has soft targets"
    if augmentation.mixing:
        raise UsageError(f"{augmentation.mixing}: {where}, which are not mixed; leave out one of both")
    if refusing := next((term.name for term in loss.terms if not TERMS[term.name].soft_targets), None):
        raise UsageError(f"--loss {loss.loss}: {where}, and {refusing} compares sets of pixels; use dice or jaccard")


def number_pixels(size: Size) -> Array:
    """Pixels' numbers as uint8 (H, W, 4): their bytes, as images and masks of bytes are what everything can handle."""
    return np.arange(size.height * size.width, dtype=np.uint32).view(np.uint8).reshape(*size, 4)


def soft_target(dataset: Dataset, record: Record, size: Size, mask: Array, numbers: Array | None) -> Soft:
    """How probable each class of the data set is, float16 (C, H, W), adding up to one; anything where ignored.

    A record without soft targets is certain of its mask.

    Args:
        size: of the whole image.
        mask: uint8 (H, W), of the part of it that is wanted, 255 = ignored.
        numbers: uint8 (H, W, 4), the numbers that its pixels have in the whole image; for a record with soft targets.

    Raises:
        SegtoolError: the probabilities are missing, broken, or of another size or number of classes.
    """
    classes = range(len(dataset.classes))
    if record.soft is None or numbers is None:
        return (np.array(classes)[:, None, None] == mask).astype(np.float16)
    owner, ids = (record.origin.dataset, record.origin.ids) if record.origin else (dataset, tuple(classes))
    reader, wanted = ProbReader(record.soft), (len(owner.classes), *size)
    if reader.shape != wanted:
        raise SegtoolError(f"soft targets {record.soft} have the shape {reader.shape}, not {wanted} as their image")
    places = np.where(mask == IGNORE, 0, np.ascontiguousarray(numbers).view(np.uint32)[..., 0])
    theirs = reader.levels().reshape(len(owner.classes), -1)[:, places].astype(np.float32)
    ours = np.zeros((len(classes), *mask.shape), np.float32)
    # A class that is ignored here has no part; several may be one.
    for their, our in zip(theirs, ids, strict=False):
        if our != IGNORE:
            ours[our] += their
    return (ours / np.maximum(ours.sum(axis=0), 1)).astype(np.float16)
