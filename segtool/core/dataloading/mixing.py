"""Mixing two training images: mixup, CutMix, SnapMix. Partner, kind and amount are functions of a sample's key.

The partner is read and augmented for the sample alone, not taken from its batch: the result does not depend on batch
size, accumulation, workers or processes.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

from segtool.core.dataloading.soft_targets import Soft
from segtool.core.geometry import Rectangle
from segtool.core.images import Array, Pixels, resize_image, resize_mask
from segtool.core.runtime.seeding import MIXING, generator
from segtool.errors import SegtoolError
from segtool.settings.augmentation import MIXES, AugmentationSettings
from segtool.values import Size


class Sample(NamedTuple):
    """One image of a batch.

    image (H, W, C), uint8, or float32 in [0, 1]; mask uint8 (H, W), or planes (classes, H, W), 255 = ignored; weight:
    of the image. With mixup also a second mask and its share of the weight, from 0 to 1; with SnapMix, its sources. In
    a run with soft targets also these, float16 (classes, H, W).
    """

    image: Pixels
    mask: Array
    weight: float
    second: Array | None = None
    share: float = 0.0
    snap: "Snap | None" = None
    soft: Soft | None = None

    @property
    def size(self) -> Size:
        """Return height and width."""
        return Size(*self.image.shape[:2])


class Snap(NamedTuple):
    """The sources of an image made by SnapMix: the sample, its partner, and the box of each."""

    sample: Sample
    partner: Sample
    target_box: Rectangle
    source_box: Rectangle


class Mix(NamedTuple):
    """How another image is mixed into an image.

    partner: index of the other image.
    lam: share of the image that stays, as in the papers.
    lam_partner: share of the partner that is left out; drawn separately for SnapMix only.
    generator: for further draws.
    """

    partner: int
    kind: str
    lam: float
    lam_partner: float
    generator: np.random.Generator


def draw_mix(settings: AugmentationSettings, own: int, count: int, *key: int) -> Mix | None:
    """Draw what to mix into image `own` of `count` for a key, or None.

    The partner is any other image (or a single image itself, augmented anew); `lam` follows Beta(A, A).
    If there are several ways to mix, each is drawn equally often.
    """
    amounts = {kind: amount for kind in MIXES if (amount := getattr(settings, kind))}
    if not amounts:
        return None
    random = generator(MIXING, *key)
    if random.random() >= settings.mix_share:
        return None
    kind = list(amounts)[random.integers(len(amounts))]
    partner = (own + 1 + int(random.integers(count - 1))) % count if count > 1 else own
    lam = float(random.beta(amounts[kind], amounts[kind]))
    lam_partner = float(random.beta(amounts[kind], amounts[kind])) if kind == "snapmix" else lam
    return Mix(partner, kind, lam, lam_partner, random)


def apply_mix(sample: Sample, partner: Sample, mix: Mix) -> Sample:
    """Mix two augmented samples.

    Raises:
        SegtoolError: their sizes differ.
    """
    if sample.image.shape != partner.image.shape:
        raise SegtoolError(f"--{mix.kind} cannot mix images of {sample.size} and {partner.size}: use --crop")
    if mix.kind == "mixup":
        return mixup(sample, partner, mix.lam)
    target_box = draw_box(sample.size, mix.lam, mix.generator)
    if mix.kind == "cutmix":
        return cutmix(sample, partner, target_box)
    return snapmix(sample, partner, target_box, draw_box(partner.size, mix.lam_partner, mix.generator))


def mixup(sample: Sample, partner: Sample, lam: float) -> Sample:
    """Return the weighted mean of both images, with both masks (Zhang et al. 2018).

    Each mask counts with the weight of its image times its share of the mean.
    """
    image = cv2.addWeighted(sample.image, lam, partner.image, 1 - lam, 0).reshape(sample.image.shape)
    first, second = lam * sample.weight, (1 - lam) * partner.weight
    weight = first + second
    return Sample(image, sample.mask, weight, partner.mask, second / weight if weight else 0.0)


def cutmix(sample: Sample, partner: Sample, box: Rectangle) -> Sample:
    """Paste a box of the partner and of its mask into the same place (Yun et al. 2019).

    The weight is the mean by area.
    """
    return _pasted(sample, partner, box, box.view(partner.image), _view(box, partner.mask))


def snapmix(sample: Sample, partner: Sample, target_box: Rectangle, source_box: Rectangle) -> Sample:
    """Paste a region of the partner and of its mask, resized, over a box of the sample (Huang et al. 2021).

    The weight is the mean by area, and pixels carry their own labels; which classes the image holds is decided by
    `snapmix_targets`. If either box has no pixel, nothing is mixed.
    """
    if not (target_box.area and source_box.area):
        return sample
    size = Size(target_box.height, target_box.width)
    image = resize_image(source_box.view(partner.image), size)
    mask = resize_mask(source_box.view(partner.mask), size)
    return _pasted(sample, partner, target_box, image, mask)._replace(
        snap=Snap(sample, partner, target_box, source_box)
    )


def _pasted(sample: Sample, partner: Sample, box: Rectangle, image: Pixels, mask: Array) -> Sample:
    """Return the sample with pixels of the partner in a box."""
    whole, labels = sample.image.copy(), sample.mask.copy()
    box.view(whole)[:], _view(box, labels)[:] = image, mask
    area = box.area / (sample.size.height * sample.size.width)
    return Sample(whole, labels, (1 - area) * sample.weight + area * partner.weight)


def _view(box: Rectangle, mask: Array) -> Array:
    """Return the part of a mask (H, W) or of planes (C, H, W) as a view."""
    return mask[..., box.top : box.top + box.height, box.left : box.left + box.width]


def draw_box(size: tuple[int, ...], lam: float, generator: np.random.Generator) -> Rectangle:
    """Draw a box of about 1 - lam of the area around a random pixel, cut at the border."""
    (top, bottom), (left, right) = (_side(length, math.sqrt(1 - lam), generator) for length in size)
    return Rectangle(top, left, bottom - top, right - left)


def _side(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """Return the first and last (excluded) pixel of a stretch around a random pixel, cut at the border."""
    half, centre = round(length * share) / 2, int(generator.integers(length))
    return max(0, math.ceil(centre - half)), min(length, math.ceil(centre + half))
