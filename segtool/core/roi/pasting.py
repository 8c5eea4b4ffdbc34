"""Paste the predictions of crops into the full images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from segtool.core.predictions.folder import Predictions
from segtool.core.predictions.probability_maps import ProbReader, Probs, rows_of_band
from segtool.core.roi.crops import Crop, CroppedImage
from segtool.core.scoring.fits import Fit
from segtool.errors import SegtoolError


def pasted_bands(
    image: CroppedImage,
    classes: int,
    read: Callable[[Crop], ProbReader],
    base: ProbReader | None,
    *,
    multi: bool = False,
) -> Iterator[Probs]:
    """Yield the bands of the full image, float32 (C, rows, W), from the top; crops that overlap are averaged.

    Args:
        read: opens a crop's probabilities; only the crops that overlap the current band are open.
        base: the probabilities outside all crops; without it, background (class 0).
        multi: whether classes may overlap. Then there is no background, and outside the crops no class.
    """
    height, width = image.size
    step = rows_of_band(classes, width)
    readers: dict[str, ProbReader] = {}
    for top in range(0, height, step):
        bottom = min(top + step, height)
        band = base.probs(top, bottom) if base else _outside(classes, bottom - top, width, multi)
        crops = [crop for crop in image.crops if crop.top < bottom and crop.top + crop.height > top]
        readers = {crop.crop_id: readers.get(crop.crop_id) or read(crop) for crop in crops}
        total, count = np.zeros_like(band), np.zeros(band.shape[1:], np.float32)
        for crop in crops:
            first, last = max(top, crop.top), min(bottom, crop.top + crop.height)
            place = slice(first - top, last - top), crop.place[1]
            total[:, *place] += readers[crop.crop_id].probs(first - crop.top, last - crop.top)
            count[place] += 1
        yield np.divide(total, count, out=band, where=count > 0)


def complete_images(images: Sequence[CroppedImage], preds: Predictions, base: Predictions | None) -> list[CroppedImage]:
    """Return the images of the subset that can be pasted: those with all crops predicted, or without crops.

    An image without crops is in the subset if `base` has it. Without `base` it counts as in every subset except valid,
    where nothing shows that it is held out.

    Raises:
        SegtoolError: only some crops of an image are predicted, a prediction is of no crop or of another size, or
            `base` lacks an image or has it at another size.
    """
    crops = {crop.crop_id: crop for image in images for crop in image.crops}
    for crop_id, size in preds.sizes.items():
        if crop_id not in crops:
            raise SegtoolError(f"{preds.path}: {crop_id!r} is not one of the crops; is this the right folder of crops?")
        if size != crops[crop_id].size:
            raise SegtoolError(f"{preds.path}: {crop_id!r} is {size} (HxW), but its crop is {crops[crop_id].size}")
    chosen = []
    for image in images:
        missing = [crop.crop_id for crop in image.crops if crop.crop_id not in preds.sizes]
        if missing and len(missing) < len(image.crops):
            raise SegtoolError(
                f"{preds.path} lacks {missing[0]!r}"
                f" ({len(missing)} of the {len(image.crops)} crops of {image.image_id!r})"
            )
        in_subset = image.image_id in base.sizes if base else preds.subset != "valid"
        if (image.crops or in_subset) and not missing:
            chosen.append(image)
    for image in chosen if base else ():
        assert base
        if base.sizes.get(image.image_id) != image.size:
            actual = base.sizes.get(image.image_id, "missing")
            raise SegtoolError(f"image {image.image_id!r} is {image.size} (HxW), but {actual} in {base.path}")
    return chosen


def pasted_out_of_fold(images: Sequence[CroppedImage], preds: Predictions, base: Predictions | None) -> set[str]:
    """Return the ids of images whose masks neither the models that located and predicted the crops nor `base` saw."""
    return {
        image.image_id
        for image in images
        if image.oof
        and all(crop.crop_id in preds.oof for crop in image.crops)
        and (base is None or image.image_id in base.oof)
    }


def fits_of(images: Sequence[CroppedImage], preds: Predictions, base: Predictions | None) -> list[Fit]:
    """Return the fits behind the probabilities of crops and base; the ids in them are those of full images."""
    of_crops = [
        replace(fit, images=frozenset(i.image_id for i in images if any(c.crop_id in fit.images for c in i.crops)))
        for fit in preds.fitted(probs=True)
    ]
    return [*of_crops, *(base.fitted(probs=True) if base else ())]


def _outside(classes: int, rows: int, width: int, multi: bool) -> Probs:
    probs = np.zeros((classes, rows, width), np.float32)
    probs[0] = 0 if multi else 1
    return probs
