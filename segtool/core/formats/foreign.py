"""Read the prediction of an image from a file of another code base, as bands of probabilities."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.formats.arrays import AnyArray, Axes, StoredArray, find_axes, read_header
from segtool.core.predictions.folder import class_ids
from segtool.core.predictions.probability_maps import Probs, rows_of_band
from segtool.errors import SegtoolError, UsageError
from segtool.settings.import_preds import FormSettings
from segtool.values import Size

# Tolerated distance of a float from [0, 1], and of a pixel's sum from 1, since float16 and rounded text are not exact.
OUTSIDE, OFF = 1e-3, 1e-2

Rows = Callable[[int, int], Probs]


class PredictionFile(Protocol):
    """A file with the prediction of one image.

    Attributes:
        size: height and width as stored.
        description: the kind of file, in a few words.
    """

    @property
    def size(self) -> Size: ...

    @property
    def description(self) -> str: ...

    def bands(self, size: Size) -> Iterator[Probs]:
        """Yield probabilities, float32 (C, rows, W), from the top to the bottom of an image of this size."""
        ...


@dataclass(frozen=True)
class ArrayFile:
    """Probabilities or logits in an array."""

    stored: StoredArray
    axes: Axes
    classes: int
    logits: bool

    @property
    def size(self) -> Size:
        """Height and width as stored."""
        return self.axes.size

    @property
    def description(self) -> str:
        """The dtype, the kind of values and the order of the axes."""
        order = {None: "(H, W)", 0: "(C, H, W)", 2: "(H, W, C)"}[self.axes.classes]
        return f"{self.stored.dtype} {'logits' if self.logits else 'probabilities'} {order}"

    @property
    def only_foreground(self) -> bool:
        """Whether the background is not stored."""
        return self.axes.classes is None or self.axes.shape[self.axes.classes] == 1

    def bands(self, size: Size) -> Iterator[Probs]:
        """Yield bands, resized bilinearly. Raises SegtoolError for values that are not probabilities."""
        array = self.stored.read()

        def rows(top: int, bottom: int) -> Probs:
            return to_probs(self.axes.rows(array, top, bottom), self.stored.path, logits=self.logits)

        yield from resize_bands(rows, self.size, size, self.classes)


@dataclass(frozen=True)
class PlanesFile:
    """Probabilities, logits, or planes of zeros and ones, in an array; classes may overlap.

    Attributes:
        binary: whether integers are 0 and 1.
    """

    stored: StoredArray
    axes: Axes
    logits: bool
    binary: bool = False

    @property
    def size(self) -> Size:
        """Height and width as stored."""
        return self.axes.size

    @property
    def integers(self) -> bool:
        """Whether the largest value of the dtype may mean probability 1."""
        return self.stored.dtype.kind == "u"

    @property
    def description(self) -> str:
        """The dtype, the kind of values and the order of the axes."""
        kind = "logits" if self.logits else "planes" if self.binary else "probabilities"
        order = {None: "(H, W)", 0: "(C, H, W)", 2: "(H, W, C)"}[self.axes.classes]
        return f"{self.stored.dtype} {kind} {order}"

    def bands(self, size: Size) -> Iterator[Probs]:
        """Yield bands, resized bilinearly. Raises SegtoolError for values that are not probabilities."""
        array = self.stored.read()
        if self.logits and self.stored.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
            raise UsageError(f"--logits: {self.stored.path} has values from 0 to 1 only, which are probabilities")
        classes = 1 if self.axes.classes is None else self.axes.shape[self.axes.classes]

        def rows(top: int, bottom: int) -> Probs:
            values = self.axes.rows(array, top, bottom)
            return to_plane_probs(values, self.stored.path, logits=self.logits, binary=self.binary)

        yield from resize_bands(rows, self.size, size, classes)


@dataclass(frozen=True)
class MaskFile:
    """An index PNG: the class of each pixel gets probability 1, as a vote. Two classes may be 0 and 255."""

    path: Path
    size: Size
    classes: int
    description: str = "index PNGs, as votes"

    def bands(self, size: Size) -> Iterator[Probs]:
        """Yield bands, resized by nearest neighbour. Raises SegtoolError for a value that is not a class id."""
        values = images.read_indices(self.path)
        if self.classes == 2 and set(images.distinct(values).tolist()) <= {0, images.IGNORE}:
            values = (values > 0).astype(np.uint8)
        mask = images.resize_mask(class_ids(values, self.classes, self.path), size)
        step = rows_of_band(self.classes, size.width)
        for top in range(0, size.height, step):
            yield one_hot(mask[top : top + step], self.classes)


def open_files(
    paths: Mapping[str, Path], sizes: Mapping[str, Size], classes: int, settings: FormSettings, *, multi: bool = False
) -> dict[str, PredictionFile]:
    """Open each image's .npy, .npz or .png file, and check its header.

    Args:
        paths: image_id → file.
        sizes: image_id → height and width, where known.
        multi: whether classes may overlap.

    Raises:
        SegtoolError, UsageError: a file is broken, has unsuitable axes, or another size without `resize`.
    """
    files: dict[str, PredictionFile] = {}
    for image_id, path in paths.items():
        size = sizes.get(image_id)
        files[image_id] = file = _open(path, classes, size, settings, multi)
        if size and file.size != size and not settings.resize:
            raise SegtoolError(
                f"{path} is {file.size} (HxW), but image {image_id!r} is {size}; --resize resizes the prediction"
            )
    _refuse_class_ids([file for file in files.values() if isinstance(file, ArrayFile)])
    return _find_binary(files) if multi else files


def _find_binary(files: Mapping[str, PredictionFile]) -> dict[str, PredictionFile]:
    """Take integers for planes of zeros and ones if no file has a larger value."""
    integers = {key: file for key, file in files.items() if isinstance(file, PlanesFile) and file.integers}
    if any(file.stored.read().max(initial=0) > 1 for file in integers.values()):
        return dict(files)
    return {**files, **{key: replace(file, binary=True) for key, file in integers.items()}}


def _open(path: Path, classes: int, size: Size | None, settings: FormSettings, multi: bool) -> PredictionFile:
    if multi:
        if path.suffix.lower() == ".png":
            raise UsageError(
                f"{path}: an index PNG has one class per pixel, but the classes of the data set may overlap (labels:"
                " multi); give arrays (C, H, W) of probabilities, or of 0 and 1, as .npy or .npz"
            )
        stored = read_header(path, settings.key)
        axes = find_axes(stored, classes, settings.layout, size, multi=True)
        return PlanesFile(stored, axes, settings.logits)
    if path.suffix.lower() == ".png":
        return MaskFile(path, images.image_size(path), classes)
    stored = read_header(path, settings.key)
    return ArrayFile(stored, find_axes(stored, classes, settings.layout, size), classes, settings.logits)


def _refuse_class_ids(files: Sequence[ArrayFile]) -> None:
    """Raise SegtoolError for foreground integers of at most 1: class ids, not probabilities of at most 1/255."""
    doubtful = [file for file in files if file.only_foreground and file.stored.dtype.kind == "u"]
    if doubtful and not any(file.stored.read().max(initial=0) > 1 for file in doubtful):
        raise SegtoolError(
            f"{doubtful[0].stored.path}: no value is above 1, but the largest {doubtful[0].stored.dtype} means"
            " probability 1; if these are class ids, write them as PNG or as bool"
        )


def to_probs(values: AnyArray, where: object, *, logits: bool = False) -> Probs:
    """Convert stored values to probabilities that add up to 1, float32 (C, rows, W).

    Args:
        values: (C, rows, W), or (1, rows, W) for the foreground of two classes. Integers are divided by the largest
            value of their dtype.
        where: name of the file in errors.
        logits: apply softmax, or the sigmoid to the foreground, in float32.

    Raises:
        SegtoolError: NaN, a value outside [0, 1], or a pixel whose classes do not add up to 1, by more than rounding
            can explain.
        UsageError: the values are integers or probabilities although `logits` is set.
    """
    floats = values.dtype.kind == "f"
    largest = 1 if floats or values.dtype.kind == "b" else np.iinfo(values.dtype).max
    probs = np.ascontiguousarray(values, np.float32)
    if logits:
        probs = _from_logits(probs, where, floats)
    elif largest > 1:
        probs = probs * np.float32(1 / largest)
    _check_range(probs, where)
    probs = np.clip(probs, 0, 1)
    if len(probs) == 1:
        return np.concatenate([1 - probs, probs])
    total = probs.sum(0)
    off = OFF if floats else max(OFF, len(probs) / largest)
    if float(np.abs(total - 1).max()) > off:
        scale = f" (after division by {largest}, the largest {values.dtype})" if largest > 1 else ""
        raise SegtoolError(
            f"{where}: the classes of a pixel add up to between {float(total.min()):.4g} and {float(total.max()):.4g}"
            f"{scale}, not to 1; are they probabilities of one class per pixel? If they are logits, use --logits"
        )
    probs /= total
    return probs


def to_plane_probs(values: AnyArray, where: object, *, logits: bool = False, binary: bool = False) -> Probs:
    """Convert stored values of classes that may overlap to probabilities, float32 (C, rows, W); each on its own.

    Args:
        values: (C, rows, W). Integers are divided by the largest value of their dtype.
        where: name of the file in errors.
        logits: apply the sigmoid, in float32.
        binary: integers are 0 and 1.

    Raises:
        SegtoolError: NaN, or a value outside [0, 1].
        UsageError: the values are integers although `logits` is set.
    """
    floats = values.dtype.kind == "f"
    probs = np.ascontiguousarray(values, np.float32)
    if logits:
        if not floats:
            raise UsageError(f"--logits: {where} contains integers or booleans, which are not logits")
        probs = _sigmoid(probs)
    elif values.dtype.kind == "u" and not binary:
        probs = probs * np.float32(1 / np.iinfo(values.dtype).max)
    _check_range(probs, where)
    return np.clip(probs, 0, 1)


def _sigmoid(values: Probs) -> Probs:
    # Equal to 1 / (1 + exp(-x)), without overflow.
    return np.float32(0.5) * (1 + np.tanh(values / 2))


def _check_range(probs: Probs, where: object) -> None:
    low, high = float(probs.min()), float(probs.max())
    if not np.isfinite(low + high):
        raise SegtoolError(f"{where} contains NaN or infinity")
    if low < -OUTSIDE or high > 1 + OUTSIDE:
        raise SegtoolError(
            f"{where} contains values from {low:.4g} to {high:.4g}, which are not probabilities; if they are logits,"
            " use --logits"
        )


def one_hot(mask: images.Array, classes: int) -> Probs:
    """Encode a mask, uint8 (rows, W), as 1 for the class of each pixel and 0 for the others, float32 (C, rows, W)."""
    return (mask == np.arange(classes, dtype=np.uint8)[:, None, None]).astype(np.float32)


def resize_bands(rows: Rows, stored: Size, size: Size, classes: int) -> Iterator[Probs]:
    """Yield bands of an image of `size` from rows at another size: bilinear with aligned pixel centres, as `predict`.

    Args:
        rows: returns rows [top, bottom) at the size `stored`, (C, bottom - top, W).
    """
    step = rows_of_band(classes, max(size.width, stored.width))
    if stored == size:
        for top in range(0, size.height, step):
            yield rows(top, min(top + step, size.height))
        return
    # When shrinking, a band of the output needs more rows of the input.
    step = max(1, step * size.height // max(size.height, stored.height))
    above, below, down = _neighbours(stored.height, size.height)
    left, right, across = _neighbours(stored.width, size.width)
    for top in range(0, size.height, step):
        band = slice(top, min(top + step, size.height))
        first = int(above[band][0])
        inputs = rows(first, int(below[band][-1]) + 1)
        inputs = inputs[:, :, left] * (1 - across) + inputs[:, :, right] * across
        share = down[band, None]
        yield inputs[:, above[band] - first] * (1 - share) + inputs[:, below[band] - first] * share


def _from_logits(values: Probs, where: object, floats: bool) -> Probs:
    if not floats:
        raise UsageError(f"--logits: {where} contains integers or booleans, which are not logits")
    if len(values) == 1:
        return _sigmoid(values)
    if values.min() >= 0 and values.max() <= 1 and float(np.abs(values.sum(0) - 1).max()) < OFF:
        raise UsageError(f"--logits: {where} contains probabilities: values between 0 and 1 that add up to 1")
    with np.errstate(invalid="ignore"):
        powers = np.exp(values - values.max(0))
    return powers / powers.sum(0)


def _neighbours(stored: int, length: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return, for each of `length` positions, the stored positions on both sides, and the share of the second."""
    position = np.clip((np.arange(length) + 0.5) * stored / length - 0.5, 0, stored - 1)
    first = np.floor(position).astype(np.intp)
    return first, np.minimum(first + 1, stored - 1), (position - first).astype(np.float32)
