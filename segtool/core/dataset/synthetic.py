"""Draw the images of `segtool demo`: patterned objects on a cloudy background, in a few frames per scene.

A class is a pattern, never a colour: each object has its own two colours, and plain objects of any colour belong to the
background. Where classes may overlap, objects lie anywhere and show through each other. Every image is a pure function
of (seed, part, scene, frame).
"""

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core.images import IGNORE, Array, resize_mask
from segtool.values import Size

CLASSES = ("background", "rows", "columns", "checks", "dots", "rings")
PALETTE = ((40, 40, 40), (230, 160, 0), (90, 180, 230), (0, 160, 115), (240, 230, 70), (215, 95, 160))
FRAMES = 3
# Random streams: the two parts of the data set, and the choice of wrong masks.
TRAIN, TEST, FAULTS = 0, 1, 2

# Objects per scene, and the probability of each class; `rings` is the rare class, in every third scene only.
OBJECTS = 7
SHARES = (0.2, 0.3, 0.22, 0.16, 0.12, 0.0)
RARE, RARE_EVERY = 5, 3
EXCHANGED = (0, 2, 1, 4, 3, 5)
# How much of what is behind it an object hides, where classes may overlap.
OPACITY = 0.6

Floats = npt.NDArray[np.float64]


class Fault(Enum):
    """The ways in which a mask can be wrong."""

    OTHER = "mask of another image"
    MISSING = "objects not marked"
    EXCHANGED = "classes exchanged"


@dataclass(frozen=True)
class Thing:
    """One object: class (0 for a plain one), outline (x, y) around its centre, period of its pattern, two colours."""

    label: int
    centre: Floats
    outline: Floats
    period: float
    colours: Floats


@dataclass(frozen=True)
class Scene:
    """What all frames of a scene share; lengths are in pixels."""

    key: tuple[int, ...]
    height: int
    width: int
    ground: Floats
    things: tuple[Thing, ...]
    glare: Thing | None
    opacity: float = 1.0


def make_scene(seed: int, part: int, number: int, size: int, *, overlapping: bool = False) -> Scene:
    """Make scene `number` of a part (TRAIN or TEST). Scene 0 of a part is given objects of every class.

    Args:
        size: nominal height in pixels; the scene's height and width vary around it.
        overlapping: objects lie anywhere and show through each other.
    """
    rng = np.random.default_rng([seed, part, number])
    height, width = int(size * rng.uniform(0.85, 1.15)), int(size * rng.uniform(0.95, 1.4))
    labels = rng.choice(len(CLASSES), OBJECTS, p=SHARES)
    if number % RARE_EVERY == 0:
        labels[-1] = RARE
    if number == 0:
        labels[: len(CLASSES)] = np.arange(len(CLASSES))
    # Cells of a 3 x 3 grid keep objects from hiding each other.
    cells = rng.permutation(9)[:OBJECTS]
    spots = (np.stack([cells % 3, cells // 3], axis=1) + rng.uniform(0.3, 0.7, (OBJECTS, 2))) / 3
    if overlapping:
        spots = rng.uniform(0.15, 0.85, spots.shape)
    things = tuple(
        _thing(rng, int(label), spot * (width, height), size) for label, spot in zip(labels, spots, strict=True)
    )
    glare = _thing(rng, 0, rng.uniform(0.1, 0.9, 2) * (width, height), size) if rng.random() < 0.4 else None
    ground, opacity = rng.uniform(40, 215, (4, 5, 3)), OPACITY if overlapping else 1.0
    return Scene((seed, part, number), height, width, ground, things, glare, opacity)


def draw(scene: Scene, frame: int) -> tuple[Array, Array]:
    """Draw a frame, slightly moved, relit and noisy: image uint8 (H, W, 3) and mask uint8 (H, W), 255 = ignore."""
    image, shown = _render(scene, frame)
    mask = np.zeros(image.shape[:2], np.uint8)
    for label, inside in shown:
        mask[inside] = label
    return image, mask


def draw_planes(scene: Scene, frame: int) -> tuple[Array, Array]:
    """Draw a frame as `draw` does, with a plane for each class but the background: uint8 (C, H, W), 255 = ignore."""
    image, shown = _render(scene, frame)
    planes = np.zeros((len(CLASSES) - 1, *image.shape[:2]), np.uint8)
    for label, inside in shown:
        if label == IGNORE:
            planes[:, inside] = IGNORE
        elif label:
            planes[label - 1, inside] = 1
    return image, planes


def _render(scene: Scene, frame: int) -> tuple[Array, list[tuple[int, npt.NDArray[np.bool_]]]]:
    """Draw a frame; return it with the label and the pixels, bool (H, W), of each object, the last on top."""
    rng = np.random.default_rng([*scene.key, frame])
    move = rng.uniform(-0.06, 0.06, 2) * scene.height
    image = cv2.resize(scene.ground, (scene.width, scene.height), interpolation=cv2.INTER_CUBIC)
    shown = []
    for thing in scene.things:
        inside = _fill(thing, move, image.shape[:2])
        pattern = _pattern(thing, move, image.shape[:2])[:, :, None]
        drawn = thing.colours[0] * pattern + thing.colours[1] * (1 - pattern)
        if scene.opacity < 1:
            drawn = scene.opacity * drawn + (1 - scene.opacity) * image
        image = np.where(inside[:, :, None], drawn, image)
        shown.append((thing.label, inside))
    if scene.glare:
        inside = _fill(scene.glare, move, image.shape[:2])
        image = np.where(inside[:, :, None], 245.0, image)
        shown.append((IGNORE, inside))
    image = image * rng.uniform(0.8, 1.2) + rng.normal(0, 8, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), shown


def choose_faults(seed: int, images: int) -> dict[int, Fault]:
    """Choose the training images that get a wrong mask (one in 24, at least one): index → fault."""
    rng = np.random.default_rng([seed, FAULTS])
    chosen = rng.choice(images, max(1, round(images / 24)), replace=False)
    kinds = list(Fault)
    return {int(index): kinds[n % len(kinds)] for n, index in enumerate(chosen)}


def spoil(mask: Array, other: Array, fault: Fault) -> Array:
    """Return a wrong version of `mask`, uint8 (H, W); `other` is the mask of another image, of any size."""
    if fault is Fault.OTHER:
        return resize_mask(other, Size(*mask.shape))
    new_ids = np.arange(256, dtype=np.uint8)
    new_ids[: len(CLASSES)] = 0 if fault is Fault.MISSING else EXCHANGED
    return new_ids[mask]


def spoil_planes(planes: Array, other: Array, fault: Fault) -> Array:
    """Return wrong versions of planes, uint8 (C, H, W); `other` are those of another image, of any size."""
    if fault is Fault.OTHER:
        return np.stack([resize_mask(plane, Size(*planes.shape[1:])) for plane in other])
    if fault is Fault.MISSING:
        return np.where(planes == IGNORE, planes, np.uint8(0))
    return planes[[label - 1 for label in EXCHANGED[1:]]]


def _thing(rng: np.random.Generator, label: int, centre: Floats, size: int) -> Thing:
    radius = size * (rng.uniform(0.13, 0.17) if label == RARE else rng.uniform(0.13, 0.22))
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    # A superellipse: exponent 2 is an ellipse, larger ones are boxes with round corners.
    power = 2 / rng.uniform(2, 8)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline = np.sign(circle) * np.abs(circle) ** power * rng.uniform(0.8, 1.0, 2) * radius
    turn = rng.uniform(0, np.pi)
    outline = outline @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    colours = rng.uniform(0, 255, (2, 3))
    # Light on dark or dark on light, in any two hues.
    colours[1] = np.where(colours[0].mean() > 127, colours[1] * 0.4, 255 - colours[1] * 0.4)
    return Thing(label, centre, outline, size * rng.uniform(0.065, 0.085), colours)


def _fill(thing: Thing, move: Floats, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the pixels inside the outline, bool (H, W)."""
    filled = np.zeros(shape, np.uint8)
    cv2.fillPoly(filled, [np.rint(thing.centre + move + thing.outline).astype(np.int32)], 1)
    return filled.astype(bool)


def _pattern(thing: Thing, move: Floats, shape: tuple[int, ...]) -> Floats:
    """Return the share of the first colour at each pixel, float64 (H, W) in [0, 1]; it moves with the object."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    wave = 2 * np.pi / thing.period
    x, y = (x - thing.centre[0] - move[0]) * wave, (y - thing.centre[1] - move[1]) * wave
    height = {
        "background": np.ones(shape),
        "rows": np.sin(y) + 0 * x,
        "columns": np.sin(x) + 0 * y,
        "checks": np.sin(x) * np.sin(y) * 2,
        "dots": (np.cos(x) + np.cos(y)) - 0.6,
        "rings": np.sin(np.hypot(x, y)),
    }[CLASSES[thing.label]]
    return np.clip(0.5 + 2 * height, 0, 1)
