"""Four ways in which masks go wrong, for `benchmarks/noise.py`: functions of a mask and a random generator."""

from collections.abc import Callable

import cv2
import numpy as np

from segtool.core.images import IGNORE, Array

# What may be dropped or swapped: connected components of this share of the image. Larger ones are the ground itself.
SHARES = (0.003, 0.2)
# The least that is changed, as a share of the image: no one would see less.
LEAST = 0.002


def spoil(mask: Array, kind: str, classes: int, random: np.random.Generator) -> Array | None:
    """A wrong mask, uint8 (H, W), in place of `mask`; None where there is nothing in it to go wrong that way."""
    for _ in range(20):
        spoilt = KINDS[kind](mask, classes, random)
        if spoilt is None or (spoilt != mask).mean() >= LEAST:
            return spoilt
    return None


def drop(mask: Array, classes: int, random: np.random.Generator) -> Array | None:
    """A component is relabelled as what surrounds it: an object that was not marked."""
    found = _component(mask, classes, random)
    if found is None:
        return None
    inside, around = found
    return np.where(inside, around, mask).astype(np.uint8)


def swap(mask: Array, classes: int, random: np.random.Generator) -> Array | None:
    """A component gets another class than its own and, where there are more than two, than what surrounds it."""
    found = _component(mask, classes, random)
    if found is None:
        return None
    inside, around = found
    own = int(mask[inside][0])
    others = [c for c in range(classes) if c not in (own, around)] or [around]
    return np.where(inside, random.choice(others), mask).astype(np.uint8)


def shift(mask: Array, classes: int, random: np.random.Generator) -> Array:
    """The mask is moved by 5 to 10 % of its shorter side in any direction; what it leaves takes the nearest pixel."""
    length, angle = random.uniform(0.05, 0.1) * min(mask.shape), random.uniform(0, 2 * np.pi)
    moved = np.float32([[1, 0, round(length * np.cos(angle))], [0, 1, round(length * np.sin(angle))]])
    return cv2.warpAffine(mask, moved, mask.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)


def resize(mask: Array, classes: int, random: np.random.Generator) -> Array | None:
    """One class is grown or shrunk by 2 to 4 % of the shorter side, at least 2 pixels; others give way or fill up."""
    counts = np.bincount(mask.ravel(), minlength=256)[:classes]
    present = np.flatnonzero(counts >= LEAST * mask.size)
    if len(np.flatnonzero(counts)) < 2:
        return None
    chosen = int(random.choice(present, p=_rare_first(counts[present])))
    pixels = max(2, round(random.uniform(0.02, 0.04) * min(mask.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
    inside = (mask == chosen).astype(np.uint8)
    if random.random() < 0.5:
        return np.where((cv2.dilate(inside, disc) > 0) & (mask != IGNORE), chosen, mask).astype(np.uint8)
    # The pixels it loses take the class of the nearest pixel of another.
    left = (cv2.erode(inside, disc, borderValue=1) > 0) | (inside == 0)
    _, nearest = cv2.distanceTransformWithLabels(
        (inside | (mask == IGNORE)).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(nearest.max() + 1, np.uint8)
    others = (inside == 0) & (mask != IGNORE)
    values[nearest[others]] = mask[others]
    return np.where(left, mask, values[nearest]).astype(np.uint8)


KINDS: dict[str, Callable[[Array, int, np.random.Generator], Array | None]] = {
    "dropped": drop,
    "swapped": swap,
    "shifted": shift,
    "resized": resize,
}


def _component(mask: Array, classes: int, random: np.random.Generator) -> tuple[np.ndarray, int] | None:
    """A connected component, bool (H, W), and the class that most of its border touches. Rare classes come first."""
    counts = np.bincount(mask.ravel(), minlength=256)[:classes]
    found = []
    for label in np.flatnonzero(counts):
        number, labels, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        found += [(label, labels == n) for n in range(1, number) if SHARES[0] <= areas[n] / mask.size <= SHARES[1]]
    random.shuffle(found)
    if not found:
        return None
    weights = _rare_first(counts[[label for label, _ in found]])
    for index in random.choice(len(found), len(found), replace=False, p=weights):
        label, inside = found[index]
        ring = (cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~inside & (mask != IGNORE)
        around = np.bincount(mask[ring & (mask != label)], minlength=classes)
        if around.any():
            return inside, int(around.argmax())
    return None


def _rare_first(counts: np.ndarray) -> np.ndarray:
    """Chances inverse to the square root of the pixels."""
    weights = 1 / np.sqrt(counts)
    return weights / weights.sum()
