"""Training batches: what is in each update, reading and augmenting it, and putting images of any size together."""

import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from segtool.core.catalog import Dataset
from segtool.core.data.augmentation import Augmentation
from segtool.core.data.mixing import Sample, apply_mix, draw_mix
from segtool.core.data.sampling import Floats, draw
from segtool.core.data.seeding import permutation
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


class Batch(NamedTuple):
    """A micro-batch before normalisation, images padded at the bottom and right to one size.

    images uint8 (N, H, W, C); masks uint8 (N, H, W), 255 = ignore; weights float32 (N,). Where images are mixed from
    two also their second masks, like the first, and how much these count, float32 (N,) from 0 to 1.
    """

    images: torch.Tensor
    masks: torch.Tensor
    weights: torch.Tensor
    masks2: torch.Tensor | None = None
    share: torch.Tensor | None = None

    def first(self, count: int) -> "Batch":
        """The first images of the batch."""
        one = Batch(self.images[:count], self.masks[:count], self.weights[:count])
        if self.masks2 is None or self.share is None:
            return one
        return one._replace(masks2=self.masks2[:count], share=self.share[:count])


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
        if self.resize:
            image, mask = resize_image(image, self.resize), resize_mask(mask, self.resize)
        if self.units.boxes:
            box = self.units.boxes[index]
            image, mask = box.cut(image), box.cut(mask)
        try:
            image, mask = self.augmentation(image, mask, self.seed, *key)
        except SegtoolError as error:
            raise SegtoolError(f"{record.image}: {error}") from error
        return Sample(image, mask, record.weight)

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
        batch = Batch(torch.from_numpy(images), masks, weights)
        if all(sample.second is None for sample in samples):
            return batch
        share = torch.tensor([sample.share for sample in samples], dtype=torch.float32)
        return batch._replace(masks2=_stack_masks([sample.second for sample in samples], height, width), share=share)


def _stack_masks(masks: Sequence[Array | None], height: int, width: int) -> torch.Tensor:
    """Masks in the upper left corners of (N, height, width), ignored elsewhere."""
    stacked = np.full((len(masks), height, width), IGNORE, np.uint8)
    for slot, mask in enumerate(masks):
        if mask is not None:
            stacked[slot, : mask.shape[0], : mask.shape[1]] = mask
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


def make_loader(samples: TrainingSamples, plan: Iterable[list[Key]], collate: Collate, workers: int) -> Iterator[Batch]:
    """The batches of a plan, such as all that is left of a run: workers start once and read ahead across epochs.

    Raises:
        SegtoolError: an image or mask is at fault.
    """
    loader: DataLoader[Sample] = DataLoader(
        samples,
        batch_sampler=plan,
        num_workers=workers,
        collate_fn=partial(_collate_unless_broken, collate),
        worker_init_fn=_init_worker,
        pin_memory=torch.cuda.is_available(),
    )
    for batch in loader:
        if isinstance(batch, SegtoolError):
            raise batch
        yield batch


def _collate_unless_broken(collate: Collate, samples: Sequence[Sample] | SegtoolError) -> Batch | SegtoolError:
    return samples if isinstance(samples, SegtoolError) else collate(samples)


def _init_worker(_: int) -> None:
    # One thread per worker: OpenCV would start as many as there are cores in each of them.
    cv2.setNumThreads(0)
    # The main process decides what a signal means; workers end with it, and quietly: of a worker that a signal killed
    # torch would complain while the main process is stopping in good order.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
