"""Augmentation of training images; the only module that knows albumentations."""

import os

import cv2
import numpy as np

from segtool.core.data.seeding import sample_generators
from segtool.core.images import IGNORE, Array
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.options import Size

# At import the library asks a package index for its latest version unless told not to.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A


class Augmentation:
    """The random changes of one training image and its mask.

    Args:
        settings: probabilities and ranges.
        crop: size of the result; None keeps each image's own size.
        fill: pixel value of what lies outside the image (the mean colour: zero after normalisation). Such pixels
            are 255 (ignored) in the mask.
    """

    def __init__(self, settings: AugmentationSettings, crop: Size | None, fill: tuple[int, ...]) -> None:
        colour: float | tuple[float, ...] = fill[0] if len(fill) == 1 else tuple(float(v) for v in fill)
        steps: list[A.BasicTransform] = [A.HorizontalFlip(p=settings.hflip)]
        low, high = settings.scale or (1.0, 1.0)
        scales = (low, high) != (1.0, 1.0)
        outside = {"border_mode": cv2.BORDER_CONSTANT, "fill": colour, "fill_mask": IGNORE}
        if crop:
            if scales:
                steps.append(A.RandomScale(scale_limit=(low - 1, high - 1), p=1))
            steps.append(A.PadIfNeeded(min_height=crop.height, min_width=crop.width, **outside))
            steps.append(A.RandomCrop(height=crop.height, width=crop.width))
        elif scales:
            shift = (-0.1, 0.1)
            steps.append(A.Affine(scale=(low, high), translate_percent=shift, balanced_scale=True, p=1, **outside))
        if settings.brightness or settings.contrast:
            steps.append(
                A.RandomBrightnessContrast(
                    brightness_limit=settings.brightness,
                    contrast_limit=settings.contrast,
                    ensure_safe_range=True,
                    p=0.5,
                )
            )
        # strict: a misspelt argument of a transform would otherwise only warn.
        self.compose = A.Compose(steps, strict=True)

    def __call__(self, image: Array, mask: Array, *key: int) -> tuple[Array, Array]:
        """Augment uint8 (H, W, C) and uint8 (H, W); the key (seed, epoch, index, ...) decides every choice."""
        self.compose.set_random_state(*sample_generators(*key))
        changed = self.compose(image=image, mask=mask)
        return np.ascontiguousarray(changed["image"]).reshape(*changed["mask"].shape, -1), np.ascontiguousarray(
            changed["mask"]
        )
