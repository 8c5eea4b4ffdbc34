"""Crops' predictions back in the full images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from segtool.core.predictions.folder import Predictions
from segtool.core.predictions.probability_maps import ProbReader, Probs
from segtool.core.predictions.writer import BAND_BYTES
from segtool.core.roi.crops import Crop, Pieces
from segtool.core.scoring.fits import Fit
from segtool.errors import SegtoolError


def pasted(
    pieces: Pieces, classes: int, read: Callable[[Crop], ProbReader], base: ProbReader | None
) -> Iterator[Probs]:
    """Bands of the full image, float32 (C, rows, W) from the top: inside of crops the mean of those that cover a pixel.

    Args:
        read: opens a crop's probabilities; only those of the crops that a band touches are open.
        base: the probabilities outside of all crops; without it background, class 0.
    """
    height, width = pieces.size
    step = max(1, BAND_BYTES // (4 * classes * width))
    readers: dict[str, ProbReader] = {}
    for top in range(0, height, step):
        bottom = min(top + step, height)
        band = base.probs(top, bottom) if base else _background(classes, bottom - top, width)
        touched = [crop for crop in pieces.crops if crop.top < bottom and crop.top + crop.height > top]
        readers = {crop.crop_id: readers.get(crop.crop_id) or read(crop) for crop in touched}
        total, count = np.zeros_like(band), np.zeros(band.shape[1:], np.float32)
        for crop in touched:
            first, last = max(top, crop.top), min(bottom, crop.top + crop.height)
            place = slice(first - top, last - top), crop.place[1]
            total[:, *place] += readers[crop.crop_id].probs(first - crop.top, last - crop.top)
            count[place] += 1
        yield np.divide(total, count, out=band, where=count > 0)


def complete(pieces: Sequence[Pieces], preds: Predictions, base: Predictions | None) -> list[Pieces]:
    """The images that can be put together: all crops predicted, or without any, in as far as they belong to the subset.

    An image without a crop belongs to it where `base` has it; without `base`, to all subsets but valid, of which
    nothing says so.

    Raises:
        SegtoolError: of an image some crops are predicted and others not; a prediction is of no crop, or of another
            size; or `base` lacks an image, or has it at another size.
    """
    crops = {crop.crop_id: crop for its in pieces for crop in its.crops}
    for crop_id, size in preds.sizes.items():
        if crop_id not in crops:
            raise SegtoolError(f"{preds.path}: {crop_id!r} is none of the crops; is it a prediction of another folder?")
        if size != crops[crop_id].size:
            raise SegtoolError(f"{preds.path}: {crop_id!r} is {size} (HxW), but its crop is {crops[crop_id].size}")
    chosen = []
    for its in pieces:
        missing = [crop.crop_id for crop in its.crops if crop.crop_id not in preds.sizes]
        if missing and len(missing) < len(its.crops):
            raise SegtoolError(
                f"{preds.path} lacks {missing[0]!r} ({len(missing)} of the {len(its.crops)} crops of {its.image_id!r})"
            )
        bare_belongs = its.image_id in base.sizes if base else preds.subset != "valid"
        if (its.crops or bare_belongs) and not missing:
            chosen.append(its)
    for its in chosen if base else ():
        assert base
        if base.sizes.get(its.image_id) != its.size:
            there = base.sizes.get(its.image_id, "not there")
            raise SegtoolError(f"image {its.image_id!r} is {its.size} (HxW), but {there} in {base.path}")
    return chosen


def out_of_fold(pieces: Sequence[Pieces], preds: Predictions, base: Predictions | None) -> set[str]:
    """Ids of images of which neither what found the crops, nor what predicted them, nor the base has seen the mask."""
    return {
        its.image_id
        for its in pieces
        if its.oof
        and all(crop.crop_id in preds.oof for crop in its.crops)
        and (base is None or its.image_id in base.oof)
    }


def fits_of(pieces: Sequence[Pieces], preds: Predictions, base: Predictions | None) -> list[Fit]:
    """What made the probabilities and was fitted to masks: of crops, or of full images. All ids are of full images."""
    of_crops = [
        replace(fit, images=frozenset(i.image_id for i in pieces if any(c.crop_id in fit.images for c in i.crops)))
        for fit in preds.fitted(probs=True)
    ]
    return [*of_crops, *(base.fitted(probs=True) if base else ())]


def _background(classes: int, rows: int, width: int) -> Probs:
    probs = np.zeros((classes, rows, width), np.float32)
    probs[0] = 1
    return probs
