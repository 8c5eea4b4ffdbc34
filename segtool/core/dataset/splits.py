"""Assign images to folds with similar shares of every class and, optionally, with no group in two folds.

All functions take images in one fixed order (callers sort by image_id); row i of every array is image i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.dataset.folds import ALWAYS_TRAIN
from segtool.core.planes import class_pixels
from segtool.core.reporting.progress import Track, silent
from segtool.core.reporting.tables import Table

Ints = npt.NDArray[np.int64]

# In place of a fold: to be assigned.
FREE = -2
# Weight of the images with a class beside that of its pixels, which vary more.
HOLDERS = 2.5
# Groups that have their turn to be swapped, and partners that each is compared with.
MOST_SWAPS, PARTNERS = 10_000, 128
# The best of several starts is taken, where there are few groups.
MOST_STARTS, FEW_GROUPS = 40, 1000
# Smaller gains are rounding errors, which would be swapped back and forth.
NO_GAIN = 1e-12


def count_pixels(dataset: Dataset, records: Sequence[Record], track: Track = silent) -> Ints:
    """Count the pixels of each class in each mask, int64 (N, C), without ignored ones; pixels of several for each.

    Raises:
        SegtoolError: a mask is missing or broken, or contains a value outside the classes.
    """
    classes = len(dataset.classes)
    counts = np.zeros((len(records), classes), np.int64)
    for row, record in enumerate(track(records, total=len(records), label="reading masks")):
        counts[row] = class_pixels(dataset.read_mask(record), classes)
    return counts


def number_groups(records: Sequence[Record]) -> Ints:
    """Number the groups from 0 and return each image's, int64 (N,); an image without a group is its own group."""
    numbers: dict[tuple[str, str], int] = {}
    keys = [(record.group, "") if record.group else ("", record.image_id) for record in records]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def hold_out(images: int, share: float, seed: int, fixed: Ints | None = None) -> Ints:
    """Assign a random `share` of the images (at least one, not all) to fold 0, the others to -1; int64 (N,).

    Args:
        fixed: folds of images that are not to be moved, FREE for others; so many of these are held out as are lacking.
    """
    # Imported here and below, since the import takes longer than splitting a small data set.
    from sklearn.model_selection import train_test_split

    count = min(max(round(images * share), 1), images - 1)
    if fixed is None:
        folds = np.full(images, ALWAYS_TRAIN, np.int64)
        folds[train_test_split(np.arange(images), test_size=count, random_state=seed)[1]] = 0
        return folds
    free = np.random.default_rng(seed).permutation(np.flatnonzero(fixed == FREE))
    folds = np.where(fixed == FREE, ALWAYS_TRAIN, fixed)
    folds[free[: max(0, count - int((fixed == 0).sum()))]] = 0
    return folds


def plain_folds(groups: Ints, folds: int, seed: int) -> Ints:
    """Assign whole groups to folds with about equal numbers of images, ignoring classes; int64 (N,) from 0.

    Args:
        groups: group number per image, int64 (N,) from 0 without gaps; `arange(N)` to place images one by one.
        folds: at least two, at most the number of groups; no fold stays empty.
        seed: shuffles images, or groups of equal size.
    """
    from sklearn.model_selection import GroupKFold, KFold

    count = int(groups.max()) + 1
    if count == len(groups):
        parts = KFold(folds, shuffle=True, random_state=seed).split(groups)
    else:
        # GroupKFold orders groups of equal size by their numbers, so that shuffling these shuffles the groups.
        parts = GroupKFold(folds).split(groups, groups=np.random.default_rng(seed).permutation(count)[groups])
    assigned = np.empty(len(groups), np.int64)
    for fold, (_, rows) in enumerate(parts):
        assigned[rows] = fold
    return assigned


def keep_folds(groups: Ints, kept: Ints) -> Ints:
    """Return the folds that are fixed when images are added, int64 (N,); FREE where any will do.

    Args:
        groups: group number per image, int64 (N,).
        kept: fold of each old image, FREE for a new one. A new image goes to the fold of most old images of its group,
            of equally many to the lowest.
    """
    old = kept != FREE
    pairs, counts = np.unique(np.stack([groups[old], kept[old]]), axis=1, return_counts=True)
    # What is written last stays: the fold of most images, of equally many the lowest.
    order = np.lexsort((-pairs[1], counts))
    fold_of = np.full(int(groups.max()) + 1, FREE, np.int64)
    fold_of[pairs[0, order]] = pairs[1, order]
    return np.where(old, kept, fold_of[groups])


def spread(pixels: npt.NDArray[Any], groups: Ints, folds: int, seed: int, fixed: Ints | None = None) -> Ints:
    """Assign whole groups to folds with equal shares of the images and of every class; int64 (N,), 0 to folds-1.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011), with groups and amounts: groups with the class
    that is rarest among those not yet placed go first, the largest amount first. Each goes to the fold where images,
    holders and pixels of its classes are least represented so far, which keeps the sum of squares of the folds' shares
    smallest. Folds are filled up to their quota (equal to within one image) while a group fits anywhere. Afterwards
    groups are swapped between folds as long as that sum falls.

    Args:
        pixels: amount of each class per image, (N, C). With C = 0 only the numbers of images are balanced.
        groups: group number per image, int64 (N,) from 0 without gaps; `arange(N)` to place images one by one.
        folds: number of folds, at most that of the groups; no fold stays empty.
        seed: breaks ties.
        fixed: folds of images that are not to be moved, FREE for others, of which no group has a fixed one; a fold may
            stay empty then. Fold -1 counts nowhere.
    """
    if fixed is None:
        fixed = np.full(len(groups), FREE, np.int64)
    count, counts_in = int(groups.max()) + 1, fixed != ALWAYS_TRAIN
    columns = [values * counts_in[:, None] for values in (np.ones((len(groups), 1)), pixels > 0, pixels)]
    size, holders, amount = (_sum_by(groups, values, count) for values in columns)
    weights = np.repeat((1, HOLDERS, 1), [values.shape[1] for values in columns])
    totals = np.concatenate([np.maximum(values.sum(0), 1) for values in columns]) / weights
    shares = np.concatenate([size, holders, amount], axis=1) / totals
    placed = fixed >= 0
    loads = _sum_by(fixed[placed], np.concatenate(columns, axis=1)[placed], folds) / totals
    filled = np.bincount(fixed[placed], minlength=folds).astype(np.float64)
    quota = counts_in.sum() // folds + (np.arange(folds) < counts_in.sum() % folds)
    rng = np.random.default_rng(seed)
    free = np.flatnonzero(np.bincount(groups, fixed == FREE, minlength=count))
    best = None
    for _ in range(max(1, min(MOST_STARTS, FEW_GROUPS // count)) if pixels.shape[1] else 1):
        unplaced = np.full(count, ALWAYS_TRAIN, np.int64)
        state = _Folds(unplaced, size[:, 0], shares, filled.copy(), loads.copy(), quota, (len(groups) - 1) // count)
        for group in _rarest_first(rng.permutation(free), size[:, 0], holders, amount):
            state.place(group)
        if pixels.shape[1]:
            _refine(state, free, rng)
        best = state if best is None or state.unevenness < best.unevenness else best
    assert best is not None
    return np.where(fixed == FREE, best.fold_of[groups], fixed)


@dataclass
class _Folds:
    """Groups on their way into folds.

    Attributes:
        fold_of: fold of each group, -1 before it has one, int64 (G,).
        size, shares: images of each group, (G,), and its share of what is balanced, (G, K).
        filled, loads: the same of each fold, (F,) and (F, K).
        quota: images that each fold should have, (F,).
        slack: images that swaps may exceed it by: less than a mean group has, none where all groups are single images.
    """

    fold_of: Ints
    size: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]
    filled: npt.NDArray[np.float64]
    loads: npt.NDArray[np.float64]
    quota: Ints
    slack: int

    @property
    def unevenness(self) -> float:
        """The sum of squares of the folds' shares."""
        return float((self.loads**2).sum())

    def place(self, group: int) -> None:
        """Put a group into the fold that has least of what it holds, of those with room if there are any."""
        roomy = np.flatnonzero(self.filled + self.size[group] <= self.quota)
        open_folds = roomy if len(roomy) else np.arange(len(self.quota))
        self.add(group, open_folds[np.argmin(self.loads[open_folds] @ self.shares[group])], 1)

    def add(self, group: int, fold: int, sign: int) -> None:
        """Put a group into a fold, or with sign -1 take it out."""
        self.fold_of[group] = fold
        self.filled[fold] += sign * self.size[group]
        self.loads[fold] += sign * self.shares[group]

    def swap(self, group: int, others: Ints) -> bool:
        """Swap a group with the one of `others` that evens the folds most, if any does, and return whether one did.

        What falls is the sum of squares of the folds' shares. A fold that exceeds its quota by more than `slack` does
        not grow.
        """
        fold, targets = self.fold_of[group], self.fold_of[others]
        grows = self.size[others] - self.size[group]
        limit = np.maximum(self.quota + self.slack, self.filled)
        fits = (self.filled[fold] + grows <= limit[fold]) & (self.filled[targets] - grows <= limit[targets])
        others, targets = others[fits & (targets != fold)], targets[fits & (targets != fold)]
        if not len(others):
            return False
        change = self.shares[others] - self.shares[group]
        gain = np.einsum("ok,ok->o", change, self.loads[fold] - self.loads[targets] + change)
        best = int(np.argmin(gain))
        if gain[best] >= -NO_GAIN:
            return False
        other, target = int(others[best]), int(targets[best])
        for moved, out, into in ((group, fold, target), (other, target, fold)):
            self.add(moved, out, -1)
            self.add(moved, into, 1)
        return True


def _refine(state: _Folds, free: Ints, rng: np.random.Generator) -> None:
    """Swap groups between folds until none of those tried makes them more even, or MOST_SWAPS groups had their turn."""
    visited, improved = 0, True
    while improved and visited < MOST_SWAPS:
        order = rng.permutation(free)[: MOST_SWAPS - visited]
        partners = order if len(order) <= PARTNERS else None
        tried = [state.swap(group, rng.choice(free, PARTNERS) if partners is None else partners) for group in order]
        visited, improved = visited + len(order), any(tried)


def inner_parts(records: Sequence[Record], parts: int) -> Ints:
    """Return the part of each image in a nested cross-validation, int64 (N,) from 0.

    Groups stay whole, so parts are of equal or nearly equal size, and there are at most as many as groups; if there is
    only one group, its images are spread one by one. The result depends on ids and groups, not on the records' order.
    """
    order = sorted(range(len(records)), key=lambda row: records[row].image_id)
    groups = number_groups([records[row] for row in order])
    if groups.max() == 0:
        groups = np.arange(len(records))
    part_of = np.empty(len(records), np.int64)
    part_of[order] = spread(np.zeros((len(records), 0)), groups, min(parts, int(groups.max()) + 1), seed=0)
    return part_of


def torn_groups(groups: Ints, folds: Ints) -> int:
    """Return the number of groups with images in more than one fold (counting always-train, -1, as one)."""
    pairs = np.unique(np.stack([groups, folds]), axis=1)
    return int((np.bincount(pairs[0]) > 1).sum())


def balance_tables(classes: Sequence[str], pixels: Ints, groups: Ints, folds: Ints) -> tuple[Table, Table]:
    """Return two tables by fold: numbers of images, of groups and of images with each class; pixel share by class."""
    with_class = pd.DataFrame(pixels > 0, columns=[f"with {name}" for name in classes]).groupby(folds).sum()
    numbers = pd.Series(groups).groupby(folds).agg(images="size", groups="nunique")
    sums = pd.DataFrame(pixels, columns=list(classes)).groupby(folds).sum()
    shares = sums.div(sums.sum(axis="columns").clip(lower=1), axis="index")
    names = {fold: f"fold {fold}" if fold != ALWAYS_TRAIN else "training" for fold in sums.index}
    counts, shares = (
        frame.rename(names).T.rename_axis(index="").reset_index() for frame in (numbers.join(with_class), shares)
    )
    return Table("Images per fold", counts), Table("Share of the scored pixels", shares)


def _sum_by(groups: Ints, values: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Sum the rows of each of `count` groups, float64 (groups, columns); exact for pixel counts."""
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, groups, values)
    return total


def _rarest_first(
    left: Ints,
    size: npt.NDArray[np.float64],
    holders: npt.NDArray[np.float64],
    amount: npt.NDArray[np.float64],
) -> list[int]:
    """Return the order in which to place the groups `left`; those without any class come last, large ones first."""
    order: list[int] = []
    while len(left):
        remaining = holders[left].sum(0)
        occurring = np.flatnonzero(remaining)
        if len(occurring):
            rarest = occurring[np.argmin(remaining[occurring])]
            is_next, key = holders[left, rarest] > 0, amount[:, rarest]
        else:
            is_next, key = np.ones(len(left), bool), size
        chosen = left[is_next]
        order += chosen[np.argsort(-key[chosen], kind="stable")].tolist()
        left = left[~is_next]
    return order
