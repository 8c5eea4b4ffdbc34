"""Arrays of probabilities in .npy and .npz files of another code base: what they hold, and which axis is which.

Nothing is unpickled, ever. A .npy file is mapped into memory, so that its bands stream; an .npz file is read whole.
"""

import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from segtool.errors import SegtoolError, UsageError
from segtool.values import Size

SUFFIXES = (".npy", ".npz")
# The axis that counts the classes, of three.
AXES: dict[str, int] = {"chw": 0, "hwc": 2}

Layout = Literal["chw", "hwc"]
Array = npt.NDArray[Any]

# All that NumPy and zipfile raise for what is damaged, foreign, or pickled.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    # NumPy reads the header of an array as Python.
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    MemoryError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True)
class Stored:
    """An array in a file, as its header says.

    Attributes:
        path: the file.
        name: which array of an .npz; empty for a .npy.
        shape, dtype: as stored.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> Array:
        """The array; that of a .npy file is read from disk where it is looked at. Raises SegtoolError: truncated."""
        try:
            if not self.name:
                return _map(self.path)
            with np.load(self.path, allow_pickle=False) as file:
                array: Array = file[self.name]
                return array
        except _BROKEN as error:
            raise _broken(self.path, error) from error


@dataclass(frozen=True)
class Axes:
    """How a stored array lies: bands of rows come out as (C, rows, W), C = 1 where it is the foreground alone.

    Attributes:
        shape: without axes of length 1 beyond the third.
        classes: the axis of the classes; None: there is none.
    """

    shape: tuple[int, ...]
    classes: int | None

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(*(length for axis, length in enumerate(self.shape) if axis != self.classes))

    def rows(self, array: Array, top: int, bottom: int) -> Array:
        """Rows [top, bottom) of the array, (C, rows, W), of its own type."""
        array = array.reshape(self.shape)
        if self.classes is None:
            return array[None, top:bottom]
        return array[:, top:bottom] if self.classes == 0 else np.moveaxis(array[top:bottom], 2, 0)


def look(path: Path, key: str | None) -> Stored:
    """What a file holds, from its header.

    Args:
        key: which array of an .npz file; needed where there are several.

    Raises:
        SegtoolError: truncated, no such file, or an array of anything but floats, bool, uint8 and uint16.
        UsageError: an .npz file of several arrays without `key`, or none of that name.
    """
    try:
        stored = _look_into(path, key) if path.suffix.lower() == ".npz" else _look_at(path)
    except _BROKEN as error:
        raise _broken(path, error) from error
    kind, bytes_each = stored.dtype.kind, stored.dtype.itemsize
    if kind not in "fb" and not (kind == "u" and bytes_each <= 2):
        raise SegtoolError(
            f"{path} is an array of {stored.dtype}; probabilities are floats, or uint8 or uint16 of which the largest"
            " means 1 (class ids belong into index PNGs)"
        )
    return stored


def find_axes(stored: Stored, classes: int, layout: Layout | None, size: Size | None) -> Axes:
    """Which axis is which: the one of the classes has their number, the others are height and width.

    With two classes an array of the foreground alone will do: (H, W), (1, H, W) or (H, W, 1).

    Args:
        layout: asked for; None: it is to be found.
        size: of the image, which tells layouts apart that fit both; None: not known.

    Raises:
        SegtoolError: no axis has the number of classes.
        UsageError: two have, and neither `layout` nor `size` says which it is.
    """
    shape = stored.shape
    while len(shape) > 3 and 1 in shape:
        first = shape.index(1)
        shape = (*shape[:first], *shape[first + 1 :])
    if len(shape) == 2 and classes == 2 and layout is None:
        return Axes(shape, None)
    counts = (1, 2) if classes == 2 else (classes,)
    names = [layout] if layout else list(AXES)
    fitting = [Axes(shape, AXES[name]) for name in names if len(shape) == 3 and shape[AXES[name]] in counts]
    fitting = [axes for axes in fitting if axes.size == size] or fitting
    if not fitting:
        which = {"chw": "the first", "hwc": "the last", None: "the first or last"}[layout]
        raise SegtoolError(
            f"{stored.path} has the shape {stored.shape}, but there are {classes} classes: {which} of three axes must"
            f" have the length {' or '.join(map(str, counts))}"
        )
    if len(fitting) > 1:
        raise UsageError(
            f"{stored.path} has the shape {stored.shape}, so either the first axis or the last may count the"
            f" {classes} classes: --layout chw or --layout hwc says which"
        )
    return fitting[0]


def _look_at(path: Path) -> Stored:
    array = _map(path)
    return Stored(path, "", array.shape, array.dtype)


def _look_into(path: Path, key: str | None) -> Stored:
    with zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")]
        if key is not None and key not in names:
            raise UsageError(f"--key {key}: {path} has the arrays {', '.join(names) or '(none)'}")
        if key is None and len(names) != 1:
            raise UsageError(f"{path} has the arrays {', '.join(names) or '(none)'}: --key says which one is meant")
        name = key or names[0]
        with file.open(f"{name}.npy") as member:
            readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape, _, dtype = readers[npy.read_magic(member)](member)
    return Stored(path, name, shape, dtype)


def _map(path: Path) -> Array:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("a .npz file by another name")
    return array


def _broken(path: Path, error: BaseException) -> SegtoolError:
    if isinstance(error, FileNotFoundError):
        return SegtoolError(f"{path} is missing")
    return SegtoolError(f"cannot read {path}: truncated, or not an array of numbers ({error})")
