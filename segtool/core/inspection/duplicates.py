"""Near-duplicates: images whose edges lie in the same places, whatever their size, compression and brightness.

Two images are compared by the correlation of the gradients of their 32x32 thumbnails: 1 for the same picture, above
0.9 for a copy saved again, around 0 for unrelated ones. On CamVid no two of 175,000 pairs of frames of different
sequences reach 0.38; on the slices of a microscope's stack neighbours reach 0.49.

Comparing all pairs would be quadratic. Random projection trees (as in Annoy) split the images again and again into
halves; images that end in the same leaf of one of the trees are compared. Time grows as N log N.
"""

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import Array

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# The correlation from which two images are called near-duplicates, and from which mirrored ones are.
SIMILAR = 0.52
MIRRORED = 0.75
# The weakest mean gradient, in grey levels per thumbnail pixel, that counts as a picture: below it there is only noise.
FAINTEST = 1.0
# Found on CamVid among 10,000 other images: 98 % of the pairs, and a link for each image that has one.
TREES, LEAF = 16, 32
# Principal components by which the trees split, and images they are computed from.
COMPONENTS, SAMPLE = 48, 2000
# The correlation of principal components below which two images are not compared more closely.
CLOSE = 0.7
# Pairs that are compared at once.
BLOCK = 1024


class Pairs(NamedTuple):
    """Pairs of near-duplicates, the most similar first.

    Attributes:
        first, second: rows of the images, first < second, int64 (P,).
        similarity: correlation of their gradients, float32 (P,).
        mirrored: whether one looks like the other's mirror image, bool (P,).
    """

    first: Ints
    second: Ints
    similarity: Floats
    mirrored: npt.NDArray[np.bool_]


def find_pairs(thumbnails: Array, seed: int = 0) -> Pairs:
    """Return the near-duplicates among images, found by their thumbnails, uint8 (N, 32, 32).

    Of very many images that all look alike, each is paired with some of the others. Images without any structure are
    left out.
    """
    rows = np.flatnonzero(_strength(thumbnails) >= FAINTEST)
    count = len(rows)
    if count < 2:
        return _sorted(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))
    views = np.concatenate([thumbnails[rows], thumbnails[rows][:, :, ::-1]])
    pairs = _candidates(_components(views), count, np.random.default_rng(seed))
    similarity = correlations(views, pairs)
    mirrored = pairs[:, 1] >= count
    keep = similarity >= np.where(mirrored, MIRRORED, SIMILAR)
    pairs, mirrored, similarity = pairs[keep] % count, mirrored[keep], similarity[keep]
    return _sorted(rows[np.sort(pairs, axis=1)], similarity, mirrored)


def components(count: int, pairs: Pairs) -> Ints:
    """Number the groups of images that are connected by pairs from 0, int64 (count,); others are groups of one."""
    return _connected(count, pairs.first, pairs.second)


def unite(groups: Ints, others: Ints) -> Ints:
    """Number the smallest groups that split no group of either numbering, from 0, int64 (N,)."""
    rows = np.arange(len(groups))
    leaders = [np.unique(numbers, return_index=True, return_inverse=True)[1:] for numbers in (groups, others)]
    first = np.concatenate([lowest[inverse] for lowest, inverse in leaders])
    return _connected(len(groups), first, np.tile(rows, 2))


def _connected(count: int, first: Ints, second: Ints) -> Ints:
    label = np.arange(count)
    while len(first):
        low = np.minimum(label[first], label[second])
        np.minimum.at(label, label[first], low)
        np.minimum.at(label, label[second], low)
        while np.any(label != (shorter := label[label])):
            label = shorter
        apart = label[first] != label[second]
        first, second = first[apart], second[apart]
    return np.unique(label, return_inverse=True)[1].astype(np.int64)


def _gradients(thumbnails: Array) -> Floats:
    """Return the differences of neighbouring pixels as vectors of length 1, float32 (N, 2 * side * side)."""
    grey = thumbnails.astype(np.float32)
    across, down = np.diff(grey, axis=2, append=grey[:, :, -1:]), np.diff(grey, axis=1, append=grey[:, -1:])
    vectors = np.stack([across, down], axis=1).reshape(len(grey), 2 * grey.shape[1] * grey.shape[2])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _strength(thumbnails: Array) -> Floats:
    """Return the mean absolute difference of neighbouring pixels, float32 (N,)."""
    strength = [np.abs(np.diff(one.astype(np.float32), axis=axis)).mean() for one in thumbnails for axis in (0, 1)]
    return np.array(strength, np.float32).reshape(-1, 2).mean(1)


def _components(views: Array) -> Floats:
    """Return the principal components of the gradients of smoothed 16x16 thumbnails, float32 (N, at most 48)."""
    vectors = _smoothed(views[np.linspace(0, len(views) - 1, min(len(views), SAMPLE)).astype(int)])
    mean = vectors.mean(0)
    axes = np.linalg.svd(vectors - mean, full_matrices=False)[2][:COMPONENTS].T
    blocks = (views[start : start + BLOCK] for start in range(0, len(views), BLOCK))
    return np.concatenate([np.asarray((_smoothed(block) - mean) @ axes, np.float32) for block in blocks])


def _smoothed(views: Array) -> Floats:
    half = views.shape[1] // 2
    return _gradients(np.array([cv2.resize(cv2.GaussianBlur(one, (0, 0), 1), (half, half)) for one in views]))


def _candidates(points: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Return pairs of an image (a row below `count`) and an image or mirror image that share a leaf, int64 (P, 2)."""
    total = len(points)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-6)
    # Tree by tree, so that only pairs that are close are ever held.
    trees = [
        _close(np.concatenate([_keys(leaf, count, total) for leaf in _leaves(points, rng)]), unit) for _ in range(TREES)
    ]
    return np.stack(np.divmod(np.unique(np.concatenate(trees)), total), axis=1)


def _close(keys: Ints, unit: Floats) -> Ints:
    """Return the keys of pairs whose principal components, of length 1, correlate."""
    close = [np.zeros(0, np.int64)]
    for start in range(0, len(keys), BLOCK):
        block = keys[start : start + BLOCK]
        one, other = np.divmod(block, len(unit))
        close.append(block[np.einsum("pd,pd->p", unit[one], unit[other]) >= CLOSE])
    return np.concatenate(close)


def _leaves(points: Floats, rng: np.random.Generator) -> Iterator[Ints]:
    """Split all rows at medians along lines between two random points; yield sorted rows, at most LEAF at once."""
    waiting = [np.arange(len(points))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= LEAF:
            yield np.sort(rows)
            continue
        one, other = points[rng.choice(rows, 2, replace=False)]
        order, half = np.argpartition(points[rows] @ (one - other), len(rows) // 2), len(rows) // 2
        waiting += [rows[order[:half]], rows[order[half:]]]


def _keys(leaf: Ints, count: int, total: int) -> Ints:
    """Return the pairs of a leaf as first * total + second: of two images, or of an image and a later one mirrored."""
    one, other = (leaf[side] for side in np.triu_indices(len(leaf), 1))
    low, high = np.minimum(one, other % count), np.maximum(one, other % count)
    useful = (one < count) & (low < high)
    return ((low * total + high + np.where(other >= count, count, 0))[useful]).astype(np.int64)


def correlations(views: Array, pairs: Ints) -> Floats:
    """Return the correlation of the gradients of pairs (P, 2) of pictures uint8 (N, side, side), float32 (P,)."""
    found = [np.zeros(0, np.float32)]
    for start in range(0, len(pairs), BLOCK):
        one, other = (_gradients(views[pairs[start : start + BLOCK, side]]) for side in (0, 1))
        found.append(np.einsum("pd,pd->p", one, other))
    return np.concatenate(found)


def _sorted(pairs: Ints, similarity: Floats, mirrored: npt.NDArray[np.bool_]) -> Pairs:
    """Return the pairs by falling similarity, each once."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], mirrored, -similarity))
    _, once = np.unique(pairs[order], axis=0, return_index=True)
    order = order[np.sort(once)]
    return Pairs(pairs[order, 0], pairs[order, 1], similarity[order], mirrored[order])
