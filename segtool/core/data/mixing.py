"""Two training images made into one: mixup, CutMix, SnapMix. Partner, kind and amount are functions of a sample's key.

The partner is read and augmented by the sample itself, not taken from its batch: the result does not hang on batch
size, accumulation, workers or processes.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from segtool.core.data.seeding import mixing_generator
from segtool.core.data.soft import Soft
from segtool.core.data.units import Box
from segtool.core.images import Array, resize_image, resize_mask
from segtool.errors import SegtoolError
from segtool.settings.augmentation import MIXES, AugmentationSettings
from segtool.settings.options import Size


class Sample(NamedTuple):
    """One image of a batch.

    image uint8 (H, W, C); mask uint8 (H, W), 255 = ignored; weight: of the image. Of an image mixed by mixup also a
    second mask and its share of the weight, from 0 to 1; by SnapMix, what it was made from. In a run with soft targets
    these too, float16 (classes, H, W).
    """

    image: Array
    mask: Array
    weight: float
    second: Array | None = None
    share: float = 0.0
    snap: "Snap | None" = None
    soft: Soft | None = None


class Snap(NamedTuple):
    """What SnapMix made an image from: the image, its partner, and the box of each."""

    one: Sample
    other: Sample
    covered: Box
    region: Box


class Mix(NamedTuple):
    """What is to be mixed into an image: the partner's index, how, how much of the image stays, and further draws.

    leaves: how much of the partner is left out; only SnapMix draws it apart.
    """

    partner: int
    kind: str
    stays: float
    leaves: float
    generator: np.random.Generator


def draw_mix(settings: AugmentationSettings, own: int, count: int, *key: int) -> Mix | None:
    """What to mix into image `own` of `count` for a key, or None.

    The partner is any other image (of a single one it is the image itself, augmented anew); `stays` follows
    Beta(A, A). Of several ways to mix each is drawn equally often.
    """
    amounts = {kind: amount for kind in MIXES if (amount := getattr(settings, kind))}
    if not amounts:
        return None
    generator = mixing_generator(*key)
    if generator.random() >= settings.mix_share:
        return None
    kind = list(amounts)[generator.integers(len(amounts))]
    partner = (own + 1 + int(generator.integers(count - 1))) % count if count > 1 else own
    stays = float(generator.beta(amounts[kind], amounts[kind]))
    leaves = float(generator.beta(amounts[kind], amounts[kind])) if kind == "snapmix" else stays
    return Mix(partner, kind, stays, leaves, generator)


def apply_mix(one: Sample, other: Sample, mix: Mix) -> Sample:
    """Mix two augmented samples.

    Raises:
        SegtoolError: their sizes differ.
    """
    if one.image.shape != other.image.shape:
        raise SegtoolError(
            f"--{mix.kind} cannot mix images of {Size(*one.mask.shape)} and {Size(*other.mask.shape)}: use --crop"
        )
    if mix.kind == "mixup":
        return mixup(one, other, mix.stays)
    covered = draw_box(one.mask.shape, mix.stays, mix.generator)
    if mix.kind == "cutmix":
        return cutmix(one, other, covered)
    return snapmix(one, other, covered, draw_box(other.mask.shape, mix.leaves, mix.generator))


def mixup(one: Sample, other: Sample, stays: float) -> Sample:
    """The weighted mean of both images, with both masks (Zhang et al. 2018).

    Each mask counts with its image's weight times its part in the mean.
    """
    image = cv2.addWeighted(one.image, stays, other.image, 1 - stays, 0).reshape(one.image.shape)
    first, second = stays * one.weight, (1 - stays) * other.weight
    weight = first + second
    return Sample(image, one.mask, weight, other.mask, second / weight if weight else 0.0)


def cutmix(one: Sample, other: Sample, box: Box) -> Sample:
    """A box of the other image and of its mask in the same place of this one (Yun et al. 2019).

    The weight is the mean by area.
    """
    return _pasted(one, other, box, box.of(other.image), box.of(other.mask))


def snapmix(one: Sample, other: Sample, covered: Box, region: Box) -> Sample:
    """A region of the other image and of its mask, resized, over a box of this one (Huang et al. 2021).

    The weight is the mean by area, and pixels carry their own labels; which classes the image holds is for
    `core/models/snapmix.py` to say. Without a pixel in one of both boxes nothing is mixed.
    """
    if not (covered.area and region.area):
        return one
    size = Size(covered.height, covered.width)
    image, mask = resize_image(region.of(other.image), size), resize_mask(region.of(other.mask), size)
    return _pasted(one, other, covered, image, mask)._replace(snap=Snap(one, other, covered, region))


def _pasted(one: Sample, other: Sample, box: Box, image: Array, mask: Array) -> Sample:
    """A sample with pixels of another in a box."""
    whole, labels = one.image.copy(), one.mask.copy()
    box.of(whole)[:], box.of(labels)[:] = image, mask
    area = box.area / one.mask.size
    return Sample(whole, labels, (1 - area) * one.weight + area * other.weight)


def draw_box(size: tuple[int, ...], stays: float, generator: np.random.Generator) -> Box:
    """A box of about 1 - stays of the area about a random pixel, less what lies beyond the border."""
    (top, bottom), (left, right) = (_side(length, math.sqrt(1 - stays), generator) for length in size)
    return Box(top, left, bottom - top, right - left)


def _side(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """First and last (excluded) pixel of a stretch about a random pixel, cut at the border."""
    half, centre = round(length * share) / 2, int(generator.integers(length))
    return max(0, math.ceil(centre - half)), min(length, math.ceil(centre + half))
