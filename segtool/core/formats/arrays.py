"""Arrays of probabilities in .npy and .npz files from other code: their headers, and which axis is which.

Nothing is ever unpickled. A .npy file is memory-mapped, so that bands can be streamed; an .npz file is read whole.
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
# Index of the class axis among three.
AXES: dict[str, int] = {"chw": 0, "hwc": 2}

Layout = Literal["chw", "hwc"]
AnyArray = npt.NDArray[Any]

# Everything that NumPy and zipfile raise for damaged, foreign or pickled files.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    # NumPy parses the header of an array as Python.
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    MemoryError,
    OverflowError,
    struct.error,
)


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, as its header describes it.

    Attributes:
        path: the file.
        name: which array of an .npz; empty for a .npy.
        shape, dtype: as stored.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self) -> AnyArray:
        """Return the array, memory-mapped if it is in a .npy file. Raises SegtoolError if the file is truncated."""
        try:
            if not self.name:
                return _map(self.path)
            with np.load(self.path, allow_pickle=False) as file:
                array: AnyArray = file[self.name]
                return array
        except _BROKEN as error:
            raise _broken(self.path, error) from error


@dataclass(frozen=True)
class Axes:
    """The axes of a stored array, to read bands of rows as (C, rows, W), where C = 1 if only the foreground is stored.

    Attributes:
        shape: without superfluous axes of length 1.
        classes: the class axis, None if there is none.
    """

    shape: tuple[int, ...]
    classes: int | None

    @property
    def size(self) -> Size:
        """Height and width."""
        return Size(*(length for axis, length in enumerate(self.shape) if axis != self.classes))

    def rows(self, array: AnyArray, top: int, bottom: int) -> AnyArray:
        """Return rows [top, bottom) of the array as (C, rows, W), with its own dtype."""
        array = array.reshape(self.shape)
        if self.classes is None:
            return array[None, top:bottom]
        return array[:, top:bottom] if self.classes == 0 else np.moveaxis(array[top:bottom], 2, 0)


def read_header(path: Path, key: str | None) -> StoredArray:
    """Read the header of a .npy or .npz file.

    Args:
        key: name of the array in an .npz file; required if there are several.

    Raises:
        SegtoolError: the file is missing or truncated, or its array is not of floats, bool, uint8 or uint16.
        UsageError: the .npz file has several arrays and there is no `key`, or none of that name.
    """
    try:
        stored = _npz_header(path, key) if path.suffix.lower() == ".npz" else _npy_header(path)
    except _BROKEN as error:
        raise _broken(path, error) from error
    kind, bytes_each = stored.dtype.kind, stored.dtype.itemsize
    if kind not in "fb" and not (kind == "u" and bytes_each <= 2):
        raise SegtoolError(
            f"{path} is an array of {stored.dtype}; probabilities are floats, or uint8 or uint16 whose largest value"
            " means 1 (class ids belong in index PNGs)"
        )
    return stored


def find_axes(
    stored: StoredArray, classes: int, layout: Layout | None, size: Size | None, *, multi: bool = False
) -> Axes:
    """Find the class axis by its length; the other two are height and width.

    With two classes the array may have the foreground alone: (H, W), (1, H, W) or (H, W, 1). With `multi` classes may
    overlap, so that only a single class may be stored without its axis.

    Args:
        layout: the layout if it is given, else None.
        size: size of the image, which decides if both layouts fit; None: unknown.

    Raises:
        SegtoolError: no axis has the number of classes.
        UsageError: both layouts fit, and neither `layout` nor `size` decides.
    """
    shape = stored.shape
    while len(shape) > 3 and 1 in shape:
        first = shape.index(1)
        shape = (*shape[:first], *shape[first + 1 :])
    foreground = classes == (1 if multi else 2)
    if len(shape) == 2 and foreground and layout is None:
        return Axes(shape, None)
    counts = (1, 2) if foreground and not multi else (classes,)
    names = [layout] if layout else list(AXES)
    fitting = [Axes(shape, AXES[name]) for name in names if len(shape) == 3 and shape[AXES[name]] in counts]
    fitting = [axes for axes in fitting if axes.size == size] or fitting
    if not fitting:
        which = {"chw": "the first", "hwc": "the last", None: "the first or last"}[layout]
        raise SegtoolError(
            f"{stored.path} has shape {stored.shape}, but there are {classes} classes: {which} of three axes must"
            f" have length {' or '.join(map(str, counts))}"
        )
    if len(fitting) > 1:
        raise UsageError(
            f"{stored.path} has shape {stored.shape}, so the {classes} classes may be the first axis or the last:"
            " use --layout chw or --layout hwc"
        )
    return fitting[0]


def _npy_header(path: Path) -> StoredArray:
    array = _map(path)
    return StoredArray(path, "", array.shape, array.dtype)


def _npz_header(path: Path, key: str | None) -> StoredArray:
    with zipfile.ZipFile(path) as file:
        names = [name.removesuffix(".npy") for name in file.namelist() if name.endswith(".npy")]
        if key is not None and key not in names:
            raise UsageError(f"--key {key}: {path} has the arrays {', '.join(names) or '(none)'}")
        if key is None and len(names) != 1:
            raise UsageError(f"{path} has the arrays {', '.join(names) or '(none)'}: choose one with --key")
        name = key or names[0]
        with file.open(f"{name}.npy") as member:
            readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
            shape, _, dtype = readers[npy.read_magic(member)](member)
    return StoredArray(path, name, shape, dtype)


def _map(path: Path) -> AnyArray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("an .npz file with another suffix")
    return array


def _broken(path: Path, error: BaseException) -> SegtoolError:
    if isinstance(error, FileNotFoundError):
        return SegtoolError(f"{path} is missing")
    return SegtoolError(f"cannot read {path}: truncated, or not an array of numbers ({error})")
