"""The choice and order of the images of each update, and how often each image is drawn."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from segtool.core.runtime.seeding import DRAWING, generator, permutation

Floats = npt.NDArray[np.float64]


def repeat_factors(counts: npt.NDArray[np.int64], threshold: float) -> Floats:
    """Return how much more often than others each image is drawn: repeat-factor sampling (Gupta et al. 2019, LVIS).

    A class in a share f of the images has the factor max(1, sqrt(threshold / f)); an image has the largest of its
    classes' factors.

    Args:
        counts: pixels of each class in each image, int64 (N, C).

    Returns:
        float64 (N,), from 1.
    """
    present = counts > 0
    frequency = present.mean(axis=0)
    of_class = np.sqrt(threshold / np.maximum(frequency, 1 / len(counts)))
    return np.maximum(1, (present * of_class).max(axis=1, initial=0))


def mean_weight(weights: Sequence[float], factors: Floats | None) -> float:
    """Average the image weights over what an epoch draws, without images of weight 0; 1 if all are 0."""
    values, draws = np.asarray(weights), np.ones(len(weights)) if factors is None else factors
    counted = values > 0
    return float(np.average(values[counted], weights=draws[counted])) if counted.any() else 1.0


def draw(factors: Sequence[float] | Floats, *key: int) -> list[int]:
    """Draw as many images as there are, in random order, image i about factors[i] / mean(factors) times.

    Systematic sampling: this number is rounded down or up, and exact on average. A function of the key.
    """
    count, random = len(factors), generator(DRAWING, *key)
    order = random.permutation(count)
    ends = np.cumsum(np.asarray(factors)[order])
    # Rounding must not leave the last point after the last end.
    ends *= count / ends[-1]
    ends[-1] = count
    drawn = order[np.searchsorted(ends, random.random() + np.arange(count), side="right")]
    return [int(drawn[i]) for i in permutation(count, *key)]


class Key(NamedTuple):
    """One use of a training image: its index, epoch and repeat, on which its augmentation depends."""

    epoch: int
    sample: int
    repeat: int


class BatchPlan(Sampler[list[Key]]):
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
            factors: how much more often than others each image is drawn; None: all equally often.
            epochs: the epochs to plan, counted from 0.
            skip: updates of the first of these epochs that are already done.
        """
        self.count, self.batch, self.accumulate, self.seed = count, batch, accumulate, seed
        self.epochs, self.skip, self.rank, self.world, self.factors = epochs, skip, rank, world, factors

    @property
    def updates_per_epoch(self) -> int:
        """Return the number of updates in an epoch."""
        return max(1, self.count // (self.batch * self.accumulate))

    def epoch(self, epoch: int) -> list[Key]:
        """Return the images of one epoch in order, over all processes."""
        return self._keys(epoch, self.updates_per_epoch * self.batch * self.accumulate)

    def everything(self, epoch: int) -> list[list[Key]]:
        """Return this process's parts of micro-batches of all images of an epoch, even those that its updates omit.

        The micro-batches are as equal as possible, and none is smaller than `batch`.
        """
        keys = self._keys(epoch, max(self.count, self.batch))
        parts = len(keys) // self.batch
        ends = [len(keys) * part // parts for part in range(parts + 1)]
        return [keys[start:end][self.rank :: self.world] for start, end in pairwise(ends)]

    def _keys(self, epoch: int, used: int) -> list[Key]:
        """Return the first `used` uses of images in the order of an epoch."""
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
