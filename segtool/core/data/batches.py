"""Training batches: what is in each update, reading and augmenting it, and putting images of any size together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from segtool.core.catalog import Dataset
from segtool.core.data.augmentation import Augmentation
from segtool.core.data.mixing import Sample, Snap, apply_mix, draw_mix
from segtool.core.data.sampling import Floats, draw
from segtool.core.data.seeding import permutation
from segtool.core.data.soft import number_pixels, soft_target
from segtool.core.data.units import Units
from segtool.core.images import IGNORE, Array, resize_image, resize_mask
from segtool.errors import SegtoolError
from segtool.settings.options import Size

# Ends the key of an image that is mixed into another.
PARTNER = 1


class Key(NamedTuple):
    """One use of a training image: its index, and with epoch and repeat all that its augmentation depends on."""

    epoch: int
    sample: int
    repeat: int


class Sources(NamedTuple):
    """What the images that SnapMix made come from; of others in the batch nothing that means anything.

    mixed bool (N,), which images it made; images uint8 (N, 2, H, W, C), the image and its partner, padded like the
    batch; sizes int64 (N, 2), height and width before that; boxes int64 (N, 2, 4), top, left, height and width of what
    is covered in the image and of the partner's region that covers it; held bool (N, 2, 256), the values in both masks.
    """

    mixed: torch.Tensor
    images: torch.Tensor
    sizes: torch.Tensor
    boxes: torch.Tensor
    held: torch.Tensor


class Batch(NamedTuple):
    """A micro-batch before normalisation, images padded at the bottom and right to one size.

    images uint8 (N, H, W, C); masks uint8 (N, H, W), 255 = ignore; weights float32 (N,). Where images are mixed by
    mixup also their second masks, like the first, and how much these count, float32 (N,) from 0 to 1. In a run with
    soft targets also these, float16 (N, classes, H, W).
    """

    images: torch.Tensor
    masks: torch.Tensor
    weights: torch.Tensor
    masks2: torch.Tensor | None = None
    share: torch.Tensor | None = None
    sources: Sources | None = None
    soft: torch.Tensor | None = None

    def first(self, count: int) -> "Batch":
        """The first images of the batch, each with its one mask or the first of two."""
        soft = None if self.soft is None else self.soft[:count]
        return Batch(self.images[:count], self.masks[:count], self.weights[:count], soft=soft)


class Plan(Sampler[list[Key]]):
    """The micro-batches of a run, from any update on: a pure function of its arguments.

    An epoch is a new permutation of the images (with `factors` as many draws, some images more often and others left
    out), cut into updates of `batch * accumulate` images; the rest, less than an update, is left out. Fewer images than
    an update holds are repeated. Process `rank` of `world` takes every world-th image of each micro-batch, so an update
    holds the same images for any `world`.
    """

    def __init__(
        self,
        count: int,
        *,
        batch: int,
        accumulate: int,
        seed: int,
        epochs: range,
        skip: int = 0,
        rank: int = 0,
        world: int = 1,
        factors: Floats | None = None,
    ) -> None:
        """
        Args:
            factors: how much more often than others each image is drawn; None: all alike.
            epochs: the epochs to go through, counted from 0.
            skip: updates of the first of them that are done already.
        """
        self.count, self.batch, self.accumulate, self.seed = count, batch, accumulate, seed
        self.epochs, self.skip, self.rank, self.world, self.factors = epochs, skip, rank, world, factors

    @property
    def updates_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return max(1, self.count // (self.batch * self.accumulate))

    def epoch(self, epoch: int) -> list[Key]:
        """The images of one epoch in order, over all processes."""
        return self._keys(epoch, self.updates_per_epoch * self.batch * self.accumulate)

    def everything(self, epoch: int) -> list[list[Key]]:
        """This process's parts of micro-batches of every image of an epoch, also those that its updates leave out.

        They are as equal as they can be, and none is smaller than `batch`.
        """
        keys = self._keys(epoch, max(self.count, self.batch))
        parts = len(keys) // self.batch
        ends = [len(keys) * part // parts for part in range(parts + 1)]
        return [keys[start:end][self.rank :: self.world] for start, end in pairwise(ends)]

    def _keys(self, epoch: int, used: int) -> list[Key]:
        """The first `used` uses of images in the order of an epoch."""
        if self.factors is None:
            order = permutation(self.count, self.seed, epoch)
        else:
            order = draw(self.factors, self.seed, epoch)
        uses: Counter[int] = Counter()
        keys = []
        for sample in (order[i % self.count] for i in range(used)):
            keys.append(Key(epoch, sample, uses[sample]))
            uses[sample] += 1
        return keys

    def __len__(self) -> int:
        return (self.updates_per_epoch * len(self.epochs) - self.skip) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in self.epochs:
            keys = self.epoch(epoch)
            first = self.skip * self.accumulate * self.batch if epoch == self.epochs.start else 0
            for start in range(first, len(keys), self.batch):
                yield keys[start : start + self.batch][self.rank :: self.world]


class TrainingSamples(TorchDataset[Sample]):
    """Reads, resizes, cuts and augments the image or window of a `Key`, and mixes another into it."""

    def __init__(
        self, dataset: Dataset, units: Units, resize: Size | None, augmentation: Augmentation, seed: int
    ) -> None:
        self.dataset, self.units, self.resize = dataset, units, resize
        self.augmentation, self.seed = augmentation, seed
        self.soft = any(record.soft for record in units.records)

    def __getitem__(self, key: Key) -> Sample:
        sample = self._augmented(key.sample, *key)
        mix = draw_mix(self.augmentation.settings, key.sample, len(self.units), self.seed, *key)
        if mix is None:
            return sample
        # The longer key is another one: a partner is not augmented as it would be in its own place.
        return apply_mix(sample, self._augmented(mix.partner, *key, PARTNER), mix)

    def _augmented(self, index: int, *key: int) -> Sample:
        record = self.units.records[index]
        image, mask = self.dataset.read_pair(record)
        size = Size(*mask.shape)
        numbers = number_pixels(size) if record.soft else None
        if self.resize:
            image, mask = resize_image(image, self.resize), resize_mask(mask, self.resize)
            numbers = None if numbers is None else resize_mask(numbers, self.resize)
        if self.units.boxes:
            box = self.units.boxes[index]
            image, mask = box.cut(image), box.cut(mask)
            numbers = None if numbers is None else box.cut(numbers)
        try:
            image, mask, numbers = self.augmentation.numbered(image, mask, numbers, self.seed, *key)
        except SegtoolError as error:
            raise SegtoolError(f"{record.image}: {error}") from error
        soft = soft_target(self.dataset, record, size, mask, numbers) if self.soft else None
        return Sample(image, mask, record.weight, soft=soft)

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample] | SegtoolError:
        """What a loader asks for. An error is returned: raised in a worker, torch would wrap it in its traceback."""
        try:
            return [self[key] for key in keys]
        except SegtoolError as error:
            return error


class Collate:
    """Puts samples of any size into one `Batch`, padded to a multiple of `divisor`; padding is ignored in the mask."""

    def __init__(self, fill: tuple[int, ...], divisor: int) -> None:
        self.fill, self.divisor = fill, divisor

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        height = round_up(max(sample.mask.shape[0] for sample in samples), self.divisor)
        width = round_up(max(sample.mask.shape[1] for sample in samples), self.divisor)
        images = np.empty((len(samples), height, width, len(self.fill)), np.uint8)
        for slot, sample in enumerate(samples):
            pad_into(images[slot], sample.image, self.fill)
        masks = _stack_masks([sample.mask for sample in samples], height, width)
        weights = torch.tensor([sample.weight for sample in samples], dtype=torch.float32)
        batch = Batch(torch.from_numpy(images), masks, weights, soft=_stack_soft(samples, height, width))
        if any(sample.second is not None for sample in samples):
            share = torch.tensor([sample.share for sample in samples], dtype=torch.float32)
            seconds = _stack_masks([sample.second for sample in samples], height, width)
            batch = batch._replace(masks2=seconds, share=share)
        if any(sample.snap is not None for sample in samples):
            batch = batch._replace(sources=self._sources([sample.snap for sample in samples], images.shape))
        return batch

    def _sources(self, snaps: Sequence[Snap | None], shape: tuple[int, ...]) -> Sources:
        """What SnapMix made a batch's images from; their shape is (N, H, W, C)."""
        count = len(snaps)
        images = np.empty((count, 2, *shape[1:]), np.uint8)
        sizes, boxes = np.zeros((count, 2), np.int64), np.zeros((count, 2, 4), np.int64)
        held = np.zeros((count, 2, IGNORE + 1), np.bool_)
        for slot, snap in enumerate(snaps):
            if snap is None:
                continue
            sizes[slot], boxes[slot] = snap.one.mask.shape, (snap.covered, snap.region)
            for side, sample in enumerate((snap.one, snap.other)):
                pad_into(images[slot, side], sample.image, self.fill)
                held[slot, side, sample.mask.ravel()] = True
        mixed = np.array([snap is not None for snap in snaps])
        return Sources(*map(torch.from_numpy, (mixed, images, sizes, boxes, held)))


def _stack_masks(masks: Sequence[Array | None], height: int, width: int) -> torch.Tensor:
    """Masks in the upper left corners of (N, height, width), ignored elsewhere."""
    stacked = np.full((len(masks), height, width), IGNORE, np.uint8)
    for slot, mask in enumerate(masks):
        if mask is not None:
            stacked[slot, : mask.shape[0], : mask.shape[1]] = mask
    return torch.from_numpy(stacked)


def _stack_soft(samples: Sequence[Sample], height: int, width: int) -> torch.Tensor | None:
    """Soft targets in the upper left corners of (N, classes, height, width)."""
    if samples[0].soft is None:
        return None
    stacked = np.zeros((len(samples), len(samples[0].soft), height, width), np.float16)
    for slot, sample in enumerate(samples):
        assert sample.soft is not None
        stacked[slot, :, : sample.mask.shape[0], : sample.mask.shape[1]] = sample.soft
    return torch.from_numpy(stacked)


def pad_into(target: Array, image: Array, fill: tuple[int, ...]) -> None:
    """Copy an image into the upper left corner of `target` and fill the rest with `fill`."""
    height, width = image.shape[:2]
    target[:height, :width] = image
    target[height:] = fill
    target[:height, width:] = fill


def round_up(length: int, divisor: int) -> int:
    """The smallest multiple of `divisor` that is at least `length`."""
    return -(-length // divisor) * divisor
