"""Micro-batches of images of any size."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from segtool.core.dataloading.mixing import Sample, Snap
from segtool.core.geometry import pad_into, round_up
from segtool.core.images import IGNORE, Pixels


class Sources(NamedTuple):
    """The sources of images made by SnapMix; undefined for the other images of the batch.

    mixed bool (N,), which images SnapMix made; images (N, 2, H, W, C), the image and its partner, like the batch's and
    padded like them; sizes int64 (N, 2), height and width before padding; boxes int64 (N, 2, 4), top, left, height and
    width of the covered box of the image and of the partner's region that covers it; present bool (N, 2, 256), the
    values in both masks.
    """

    mixed: torch.Tensor
    images: torch.Tensor
    sizes: torch.Tensor
    boxes: torch.Tensor
    present: torch.Tensor


class Batch(NamedTuple):
    """A micro-batch before normalisation, images padded at the bottom and right to one size.

    images (N, H, W, C), uint8 or float32 as `Intensity.unit` returns them; masks uint8 (N, H, W), 255 = ignore, or (N,
    classes, H, W) of classes that may overlap; weights float32 (N,). With mixup also second masks, like the first, and
    their share of the weight, float32 (N,) from 0 to 1.
    In a run with soft targets also these, float16 (N, classes, H, W).
    """

    images: torch.Tensor
    masks: torch.Tensor
    weights: torch.Tensor
    masks2: torch.Tensor | None = None
    share: torch.Tensor | None = None
    sources: Sources | None = None
    soft: torch.Tensor | None = None

    def first(self, count: int) -> "Batch":
        """Return the first `count` images of the batch, each with its first mask only."""
        soft = None if self.soft is None else self.soft[:count]
        return Batch(self.images[:count], self.masks[:count], self.weights[:count], soft=soft)


class Collate:
    """Put samples of any size into one `Batch`, padded to a multiple of `divisor`; padding is ignored in the mask."""

    def __init__(self, fill: tuple[float, ...], divisor: int) -> None:
        self.fill, self.divisor = fill, divisor

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        height = round_up(max(sample.size.height for sample in samples), self.divisor)
        width = round_up(max(sample.size.width for sample in samples), self.divisor)
        images = np.empty((len(samples), height, width, len(self.fill)), samples[0].image.dtype)
        for slot, sample in enumerate(samples):
            pad_into(images[slot], sample.image, self.fill)
        ignored = np.full((*samples[0].mask.shape[:-2], height, width), IGNORE, np.uint8)
        masks = _stack([sample.mask for sample in samples], ignored)
        weights = torch.tensor([sample.weight for sample in samples], dtype=torch.float32)
        batch = Batch(torch.from_numpy(images), masks, weights)
        if samples[0].soft is not None:
            empty = np.zeros((len(samples[0].soft), height, width), np.float16)
            batch = batch._replace(soft=_stack([sample.soft for sample in samples], empty))
        if any(sample.second is not None for sample in samples):
            share = torch.tensor([sample.share for sample in samples], dtype=torch.float32)
            batch = batch._replace(masks2=_stack([sample.second for sample in samples], ignored), share=share)
        if any(sample.snap is not None for sample in samples):
            batch = batch._replace(sources=self._sources([sample.snap for sample in samples], images))
        return batch

    def _sources(self, snaps: Sequence[Snap | None], batch: Pixels) -> Sources:
        """Return the sources of the images (N, H, W, C) of a batch."""
        count = len(snaps)
        images = np.empty((count, 2, *batch.shape[1:]), batch.dtype)
        sizes, boxes = np.zeros((count, 2), np.int64), np.zeros((count, 2, 4), np.int64)
        present = np.zeros((count, 2, IGNORE + 1), np.bool_)
        for slot, snap in enumerate(snaps):
            if snap is None:
                continue
            sizes[slot], boxes[slot] = snap.sample.mask.shape, (snap.target_box, snap.source_box)
            for side, sample in enumerate((snap.sample, snap.partner)):
                pad_into(images[slot, side], sample.image, self.fill)
                present[slot, side, sample.mask.ravel()] = True
        mixed = np.array([snap is not None for snap in snaps])
        return Sources(*map(torch.from_numpy, (mixed, images, sizes, boxes, present)))


def _stack(arrays: Sequence[npt.NDArray[Any] | None], like: npt.NDArray[Any]) -> torch.Tensor:
    """Stack arrays (..., h, w) in the upper left corners of copies of `like` (..., height, width)."""
    stacked = np.stack([like] * len(arrays))
    for slot, array in enumerate(arrays):
        if array is not None:
            stacked[slot, ..., : array.shape[-2], : array.shape[-1]] = array
    return torch.from_numpy(stacked)
