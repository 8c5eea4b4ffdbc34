"""One image's prediction in a file of another code base, as probabilities in bands of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.formats.arrays import Array, Axes, Stored, find_axes, look
from segtool.core.predictions.folder import class_ids
from segtool.core.predictions.probability_maps import Probs
from segtool.core.predictions.writer import BAND_BYTES
from segtool.errors import SegtoolError, UsageError
from segtool.settings.imports import FormSettings
from segtool.values import Size

# How far a float may be outside [0, 1], and the sum of a pixel's from 1: float16 and rounded text do not hit them.
OUTSIDE, OFF = 1e-3, 1e-2

Rows = Callable[[int, int], Probs]


class Source(Protocol):
    """A file with one image's prediction.

    size: height and width as stored.
    told: what it is, in a few words.
    """

    @property
    def size(self) -> Size: ...

    @property
    def told(self) -> str: ...

    def bands(self, size: Size) -> Iterator[Probs]:
        """Probabilities, float32 (C, rows, W), from the top to the bottom of an image of this size."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """Probabilities or logits in an array."""

    stored: Stored
    axes: Axes
    classes: int
    logits: bool

    @property
    def size(self) -> Size:
        """Height and width as stored."""
        return self.axes.size

    @property
    def told(self) -> str:
        """`float16 (C, H, W)`."""
        order = {None: "(H, W)", 0: "(C, H, W)", 2: "(H, W, C)"}[self.axes.classes]
        return f"{self.stored.dtype} {'logits' if self.logits else 'probabilities'} {order}"

    @property
    def alone(self) -> bool:
        """Whether it is the foreground alone."""
        return self.axes.classes is None or self.axes.shape[self.axes.classes] == 1

    def bands(self, size: Size) -> Iterator[Probs]:
        """As `Source` says. Raises SegtoolError for values that are no probabilities."""
        array = self.stored.read()

        def rows(top: int, bottom: int) -> Probs:
            return to_probs(self.axes.rows(array, top, bottom), self.stored.path, logits=self.logits)

        yield from resized(rows, self.size, size, self.classes)


@dataclass(frozen=True)
class MaskSource:
    """An index PNG: the class of each pixel gets the probability 1, a vote. Two classes may be 0 and 255."""

    path: Path
    size: Size
    classes: int
    told: str = "index PNGs, as votes"

    def bands(self, size: Size) -> Iterator[Probs]:
        """As `Source` says; resized by nearest neighbour. Raises SegtoolError for a value that is no class id."""
        values = images.read_indices(self.path)
        if self.classes == 2 and set(images.distinct(values).tolist()) <= {0, images.IGNORE}:
            values = (values > 0).astype(np.uint8)
        mask = images.resize_mask(class_ids(values, self.classes, self.path), size)
        step = _rows_of_a_band(self.classes, size.width)
        for top in range(0, size.height, step):
            yield one_hot(mask[top : top + step], self.classes)


def open_sources(
    files: Mapping[str, Path], sizes: Mapping[str, Size], classes: int, settings: FormSettings
) -> dict[str, Source]:
    """What each image's .npy, .npz or .png file holds, from the headers alone: what does not fit ends it here.

    Args:
        files: image_id → file.
        sizes: image_id → height and width, where they are known.

    Raises:
        SegtoolError, UsageError: a file is broken, has the axes of something else, or another size without `resize`.
    """
    sources: dict[str, Source] = {}
    for image_id, path in files.items():
        size = sizes.get(image_id)
        sources[image_id] = source = _open(path, classes, size, settings)
        if size and source.size != size and not settings.resize:
            raise SegtoolError(
                f"{path} is {source.size} (HxW), but image {image_id!r} is {size}; --resize brings it to that size"
            )
    _refuse_class_ids([source for source in sources.values() if isinstance(source, ArraySource)])
    return sources


def _open(path: Path, classes: int, size: Size | None, settings: FormSettings) -> Source:
    if path.suffix.lower() == ".png":
        return MaskSource(path, images.image_size(path), classes)
    stored = look(path, settings.key)
    return ArraySource(stored, find_axes(stored, classes, settings.layout, size), classes, settings.logits)


def _refuse_class_ids(sources: Sequence[ArraySource]) -> None:
    """Integers of the foreground alone that are nowhere above 1 are class ids, not probabilities of up to 1/255."""
    doubtful = [source for source in sources if source.alone and source.stored.dtype.kind == "u"]
    if doubtful and not any(source.stored.read().max(initial=0) > 1 for source in doubtful):
        raise SegtoolError(
            f"{doubtful[0].stored.path}: no value is above 1, and the largest {doubtful[0].stored.dtype} means the"
            " probability 1; if these are class ids, write them as PNG, or as bool"
        )


def to_probs(values: Array, where: object, *, logits: bool = False) -> Probs:
    """Probabilities that add up to one, float32 (C, rows, W), from what another code base stored.

    Args:
        values: (C, rows, W), or (1, rows, W) of the foreground of two classes. Integers are divided by the largest
            of their type.
        where: the file, for errors.
        logits: they are made probabilities, in float32: softmax, or the sigmoid of the foreground.

    Raises:
        SegtoolError: NaN, a value outside [0, 1], or a pixel whose classes do not add up to 1, further than rounding
            can explain.
        UsageError: `logits`, but they are probabilities.
    """
    floats = values.dtype.kind == "f"
    largest = 1 if floats or values.dtype.kind == "b" else np.iinfo(values.dtype).max
    probs = np.ascontiguousarray(values, np.float32)
    if logits:
        probs = _from_logits(probs, where, floats)
    elif largest > 1:
        probs = probs * np.float32(1 / largest)
    low, high = float(probs.min()), float(probs.max())
    if not np.isfinite(low + high):
        raise SegtoolError(f"{where} holds NaN or infinity")
    if low < -OUTSIDE or high > 1 + OUTSIDE:
        raise SegtoolError(
            f"{where} holds values from {low:.4g} to {high:.4g}, which are no probabilities; --logits makes them so"
            " if they are logits"
        )
    probs = np.clip(probs, 0, 1)
    if len(probs) == 1:
        return np.concatenate([1 - probs, probs])
    total = probs.sum(0)
    off = OFF if floats else max(OFF, len(probs) / largest)
    if float(np.abs(total - 1).max()) > off:
        scale = f" (once divided by {largest}, the largest {values.dtype})" if largest > 1 else ""
        raise SegtoolError(
            f"{where}: the classes of a pixel add up to between {float(total.min()):.4g} and {float(total.max()):.4g}"
            f"{scale}, not to 1; are they probabilities of one class per pixel? --logits if they are logits"
        )
    probs /= total
    return probs


def one_hot(mask: images.Array, classes: int) -> Probs:
    """1 for the class of each pixel of `mask`, uint8 (rows, W), and 0 for the others: float32 (C, rows, W)."""
    return (mask == np.arange(classes, dtype=np.uint8)[:, None, None]).astype(np.float32)


def resized(rows: Rows, stored: Size, size: Size, classes: int) -> Iterator[Probs]:
    """Bands of an image of `size` from rows at another size: bilinear, pixels' centres matched, as `predict` does.

    Args:
        rows: gives rows [top, bottom) at the size `stored`, (C, bottom - top, W).
    """
    step = _rows_of_a_band(classes, max(size.width, stored.width))
    if stored == size:
        for top in range(0, size.height, step):
            yield rows(top, min(top + step, size.height))
        return
    # Where it shrinks, a row comes from rows that lie further apart.
    step = max(1, step * size.height // max(size.height, stored.height))
    above, below, down = _neighbours(stored.height, size.height)
    left, right, across = _neighbours(stored.width, size.width)
    for top in range(0, size.height, step):
        its = slice(top, min(top + step, size.height))
        first = int(above[its][0])
        near = rows(first, int(below[its][-1]) + 1)
        near = near[:, :, left] * (1 - across) + near[:, :, right] * across
        share = down[its, None]
        yield near[:, above[its] - first] * (1 - share) + near[:, below[its] - first] * share


def _from_logits(values: Probs, where: object, floats: bool) -> Probs:
    if not floats:
        raise UsageError(f"--logits: {where} holds integers or booleans, which are no logits")
    if len(values) == 1:
        # Equal to 1 / (1 + exp(-x)), without overflow.
        return np.float32(0.5) * (1 + np.tanh(values / 2))
    if values.min() >= 0 and values.max() <= 1 and float(np.abs(values.sum(0) - 1).max()) < OFF:
        raise UsageError(f"--logits: {where} holds probabilities: between 0 and 1, and adding up to 1")
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(0))
    return powers / powers.sum(0)


def _rows_of_a_band(classes: int, width: int) -> int:
    return max(1, BAND_BYTES // (4 * classes * width))


def _neighbours(stored: int, length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each of `length` positions the two stored ones that it lies between, and the share of the second."""
    place = np.clip((np.arange(length) + 0.5) * stored / length - 0.5, 0, stored - 1)
    first = np.floor(place).astype(np.intp)
    return first, np.minimum(first + 1, stored - 1), (place - first).astype(np.float32)
