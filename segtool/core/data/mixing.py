"""Two training images made into one: mixup and CutMix. Partner, kind and amount are functions of the sample's key.

The partner is read and augmented by the sample itself, not taken from its batch: the result does not hang on batch
size, accumulation, workers or processes.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from segtool.core.data.seeding import mixing_generator
from segtool.core.data.soft import Soft
from segtool.core.images import Array
from segtool.errors import SegtoolError
from segtool.settings.augmentation import AugmentationSettings
from segtool.settings.options import Size


class Sample(NamedTuple):
    """One image of a batch.

    image uint8 (H, W, C); mask uint8 (H, W), 255 = ignored; weight: of the image. Of a mixed image also a second mask
    and its share of the weight, from 0 to 1. Of a run with soft targets these too, float16 (classes, H, W).
    """

    image: Array
    mask: Array
    weight: float
    second: Array | None = None
    share: float = 0.0
    soft: Soft | None = None


class Mix(NamedTuple):
    """What is to be mixed into an image: the partner's index, how, how much of the image stays, and further draws."""

    partner: int
    kind: str
    stays: float
    generator: np.random.Generator


def draw_mix(settings: AugmentationSettings, own: int, count: int, *key: int) -> Mix | None:
    """What to mix into image `own` of `count` for a key, or None.

    The partner is any other image (of a single one it is the image itself, augmented anew); `stays` follows
    Beta(A, A). With both mixup and CutMix each is drawn half the time.
    """
    amounts = {kind: amount for kind in ("mixup", "cutmix") if (amount := getattr(settings, kind))}
    if not amounts:
        return None
    generator = mixing_generator(*key)
    if generator.random() >= settings.mix_share:
        return None
    kind = list(amounts)[generator.integers(len(amounts))]
    partner = (own + 1 + int(generator.integers(count - 1))) % count if count > 1 else own
    return Mix(partner, kind, float(generator.beta(amounts[kind], amounts[kind])), generator)


def apply_mix(one: Sample, other: Sample, mix: Mix) -> Sample:
    """Mix two augmented samples.

    Raises:
        SegtoolError: their sizes differ.
    """
    if one.image.shape != other.image.shape:
        raise SegtoolError(
            f"--{mix.kind} cannot mix images of {Size(*one.mask.shape)} and {Size(*other.mask.shape)}: use --crop"
        )
    return mixup(one, other, mix.stays) if mix.kind == "mixup" else cutmix(one, other, mix.stays, mix.generator)


def mixup(one: Sample, other: Sample, stays: float) -> Sample:
    """The weighted mean of both images, with both masks (Zhang et al. 2018).

    Each mask counts with its image's weight times its part in the mean.
    """
    image = cv2.addWeighted(one.image, stays, other.image, 1 - stays, 0).reshape(one.image.shape)
    first, second = stays * one.weight, (1 - stays) * other.weight
    weight = first + second
    return Sample(image, one.mask, weight, other.mask, second / weight if weight else 0.0)


def cutmix(one: Sample, other: Sample, stays: float, generator: np.random.Generator) -> Sample:
    """A box of the other image and of its mask in the same place of this one (Yun et al. 2019).

    The box has about 1 - stays of the area, less what lies beyond the border. The weight is the mean by area.
    """
    height, width = one.mask.shape
    top, bottom = _side(height, math.sqrt(1 - stays), generator)
    left, right = _side(width, math.sqrt(1 - stays), generator)
    image, mask = one.image.copy(), one.mask.copy()
    image[top:bottom, left:right] = other.image[top:bottom, left:right]
    mask[top:bottom, left:right] = other.mask[top:bottom, left:right]
    area = (bottom - top) * (right - left) / (height * width)
    return Sample(image, mask, (1 - area) * one.weight + area * other.weight)


def _side(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """First and last (excluded) pixel of a stretch about a random pixel, cut at the border."""
    half, centre = round(length * share) / 2, int(generator.integers(length))
    return max(0, math.ceil(centre - half)), min(length, math.ceil(centre + half))
