"""Augmentation of training images: one pipeline from the settings, with random choices that depend on a key."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np

from segtool.core.dataloading.crops import MaskCrop
from segtool.core.dataloading.presets import (
    FillMissing,
    Steps,
    check_transforms,
    colours,
    geometry,
    load_pipeline,
    skipped,
)
from segtool.core.images import IGNORE, MASK_INTERPOLATION, Array, Pixels
from segtool.core.runtime.seeding import sample_generators
from segtool.errors import SegtoolError
from segtool.settings.augmentation import PRESETS, AugmentationSettings
from segtool.settings.data import SizeSettings
from segtool.values import Size

log = logging.getLogger(__name__)

# Holes a side of a grid: the sizes of the cells differ from sample to sample (Chen et al. 2020).
GRIDS = (3, 5, 8)
# Blank images on which a pipeline from a file is tried.
TRIALS = 12


class Augmentation:
    """The random changes of one training image and its mask.

    Order: basics and preset or file, scale, crop, colours, holes.

    Args:
        settings: probabilities and ranges.
        size: with a crop, the size of the result (otherwise images keep their size) and the choice of its position.
        fill: value of pixels outside the image (the mean colour: zero after normalisation), which are 255 (ignored) in
            the mask.
        shares: each class's share of all training pixels; needed for `crop_balance`.
        dtype: of the images: float32 in [0, 1], or uint8, which are of at most four channels.

    Raises:
        SegtoolError, UsageError: the pipeline of `settings.augment` is missing or wrong.
    """

    def __init__(
        self,
        settings: AugmentationSettings,
        size: SizeSettings,
        fill: tuple[float, ...],
        shares: Sequence[float] = (),
        dtype: type[np.generic] = np.uint8,
    ) -> None:
        colour: float | tuple[float, ...] = fill[0] if len(fill) == 1 else tuple(float(v) for v in fill)
        # OpenCV fills at most four channels with values of their own.
        border = colour if len(fill) <= 4 else math.nan
        outside = {"border_mode": cv2.BORDER_CONSTANT, "fill": border, "fill_mask": IGNORE}
        steps: Steps = [A.HorizontalFlip(p=settings.basics.hflip)]
        if settings.augment in PRESETS:
            steps += geometry(settings.augment, outside)
        else:
            steps.append(load_pipeline(Path(settings.augment)))
            if dtype != np.uint8 or len(fill) not in (1, 3):
                check_transforms(steps[-1], Path(settings.augment), len(fill), dtype)
        steps += _scale_and_crop(settings.basics.scale, size, shares, outside)
        if len(fill) > 4:
            steps.append(FillMissing(fill))
        brightness, contrast = settings.basics.brightness, settings.basics.contrast
        if brightness or contrast:
            # Not `ensure_safe_range`, with which every change brightens and flattens. Values are clipped to 0..255.
            steps.append(A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=contrast, p=0.5))
        steps += colours(settings.augment, len(fill), dtype)
        steps += _holes(settings, colour)
        # strict: a misspelt argument of a transform would otherwise only warn.
        self.compose = A.Compose(steps, strict=True, additional_targets={"numbers": "mask"})
        self.settings, self.channels, self.dtype = settings, len(fill), dtype
        self.source = "" if settings.augment in PRESETS else settings.augment

    def __call__(self, image: Pixels, mask: Array, *key: int) -> tuple[Pixels, Array]:
        """Augment (H, W, C) of `dtype` and uint8 (H, W); the key (seed, epoch, index, ...) decides every choice.

        Raises:
            SegtoolError: a step fails on the image, or returns something other than pixels.
        """
        return self.numbered(image, mask, None, *key)[:2]

    def numbered(
        self, image: Pixels, mask: Array, numbers: Array | None, *key: int
    ) -> tuple[Pixels, Array, Array | None]:
        """Augment an image, its mask, and the numbers of its pixels (see `soft_targets`), which move with the mask."""
        self.compose.set_random_state(*sample_generators(*key))
        more = {} if numbers is None else {"numbers": numbers}
        try:
            changed = self.compose(image=image, mask=mask, **more)
        except (cv2.error, ValueError, TypeError, IndexError, AttributeError) as error:
            advice = self.source or "a milder --scale or --augment"
            raise SegtoolError(f"cannot augment an image of {Size(*mask.shape)}: {error}; try {advice}") from error
        pixels, labels = changed["image"], changed["mask"]
        if self.source and not _same_kind(pixels, labels, self.channels, self.dtype):
            raise SegtoolError(
                f"--augment {self.source} makes {_described(pixels)} of {np.dtype(self.dtype)} pixels with"
                f" {self.channels} channels and {_described(labels)} of their uint8 mask: remove transforms that"
                " normalise or convert"
            )
        pixels = np.ascontiguousarray(pixels).reshape(*labels.shape, -1)
        return pixels, np.ascontiguousarray(labels), changed.get("numbers")


def check_pipeline(
    settings: AugmentationSettings, size: Size, channels: int, dtype: type[np.generic] = np.uint8
) -> None:
    """Try a pipeline from a file on blank images of a size, so that a wrong one fails before the training.

    Raises:
        SegtoolError: the pipeline cannot be built, or fails on such images.
    """
    if settings.augment in PRESETS:
        if names := skipped(settings.augment, channels, dtype):
            log.info(
                "--augment %s without %s: the images are not of 8 bits and three channels", settings.augment, names
            )
        return
    augmentation = Augmentation(settings, SizeSettings(), (0,) * channels, dtype=dtype)
    for number in range(TRIALS):
        augmentation(np.zeros((*size, channels), dtype), np.zeros(size, np.uint8), number)


def _scale_and_crop(
    scale: tuple[float, float], size: SizeSettings, shares: Sequence[float], outside: dict[str, Any]
) -> Steps:
    low, high = scale
    scales, crop = (low, high) != (1.0, 1.0), size.crop
    if crop is None:
        shift = (-0.1, 0.1)
        steady = {"translate_percent": shift, "balanced_scale": True, "keep_ratio": True}
        return [A.Affine(scale=(low, high), p=1, **steady, **outside)] if scales else []
    limits = (low - 1, high - 1)
    steps: Steps = [A.RandomScale(limits, mask_interpolation=MASK_INTERPOLATION, p=1)] if scales else []
    steps.append(A.PadIfNeeded(min_height=crop.height, min_width=crop.width, **outside))
    if size.crop_nonempty or size.crop_balance:
        return [*steps, MaskCrop(crop, size.crop_nonempty, size.crop_balance, shares)]
    return [*steps, A.RandomCrop(height=crop.height, width=crop.width)]


def _holes(settings: AugmentationSettings, colour: float | tuple[float, ...]) -> Steps:
    label = {"fill": colour, "fill_mask": IGNORE if settings.dropped_pixels == "ignore" else None}
    steps: Steps = []
    if settings.cutout:
        side = {"hole_height_range": (0.1, 0.3), "hole_width_range": (0.1, 0.3)}
        steps.append(A.CoarseDropout(num_holes_range=(1, 4), p=settings.cutout, **side, **label))
    if settings.gridmask:
        grids = [A.GridDropout(ratio=0.5, random_offset=True, holes_number_xy=(n, n), p=1, **label) for n in GRIDS]
        steps.append(A.OneOf(grids, p=settings.gridmask))
    return steps


def _same_kind(pixels: Any, labels: Any, channels: int, dtype: type[np.generic]) -> bool:
    arrays = isinstance(pixels, np.ndarray) and isinstance(labels, np.ndarray)
    if not arrays or pixels.dtype != dtype or labels.dtype != np.uint8 or labels.ndim != 2:
        return False
    return pixels.shape[:2] == labels.shape and pixels.size == labels.size * channels


def _described(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else type(value).__name__
