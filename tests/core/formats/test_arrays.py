"""Arrays of other code bases: their headers, their axes, and errors before any pixel is read."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segtool.core.formats.arrays import Axes, StoredArray, find_axes, read_header
from segtool.errors import SegtoolError, UsageError
from segtool.values import Size


def stored(*shape: int) -> StoredArray:
    return StoredArray(Path("a.npy"), "", shape, np.dtype("f4"))


@pytest.mark.parametrize(
    ("shape", "classes", "size", "axis", "found"),
    [
        ((5, 30, 40), 5, None, 0, Size(30, 40)),
        ((30, 40, 5), 5, None, 2, Size(30, 40)),
        ((1, 5, 30, 40), 5, None, 0, Size(30, 40)),  # a batch of one
        ((5, 1, 30, 40), 5, None, 0, Size(30, 40)),  # nnU-Net: one slice
        ((30, 40), 2, None, None, Size(30, 40)),
        ((1, 30, 40), 2, None, 0, Size(30, 40)),
        ((30, 40, 1), 2, None, 2, Size(30, 40)),
        ((2, 30, 40), 2, None, 0, Size(30, 40)),
        ((5, 30, 5), 5, Size(30, 5), 0, Size(30, 5)),  # both could be: the image's size tells
        ((5, 30, 5), 5, Size(5, 30), 2, Size(5, 30)),
        ((1, 30, 2), 2, Size(30, 2), 0, Size(30, 2)),
    ],
)
def test_axes_are_found(shape: tuple[int, ...], classes: int, size: Size | None, axis: int | None, found: Size) -> None:
    axes = find_axes(stored(*shape), classes, None, size)
    assert (axes.classes, axes.size) == (axis, found)


@pytest.mark.parametrize("shape", [(5, 30, 5), (5, 5, 5)])
def test_an_ambiguous_layout_is_not_guessed(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"a\.npy has shape .*--layout chw or --layout hwc"):
        find_axes(stored(*shape), 5, None, Size(99, 99))
    assert find_axes(stored(*shape), 5, "chw", None).classes == 0
    assert find_axes(stored(*shape), 5, "hwc", None).classes == 2


@pytest.mark.parametrize(
    ("shape", "classes", "layout", "said"),
    [
        ((4, 30, 40), 5, None, "5 classes: the first or last of three axes must have length 5"),
        ((30, 40), 5, None, "5 classes"),
        ((30, 40), 2, "chw", "the first of"),
        ((5, 30, 40), 5, "hwc", "the last of"),
        ((2, 5, 30, 40), 5, None, "5 classes"),
        ((3, 30, 40), 2, None, "length 1 or 2"),
    ],
)
def test_axes_that_fit_no_classes(shape: tuple[int, ...], classes: int, layout: Any, said: str) -> None:
    with pytest.raises(SegtoolError, match=said):
        find_axes(stored(*shape), classes, layout, None)


def test_bands_have_the_classes_first() -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    for given, axis in ((array, 0), (array.transpose(1, 2, 0), 2), (array[:, None], 0)):
        axes = Axes(tuple(n for n in given.shape if n > 1), axis)
        assert np.array_equal(axes.rows(given, 1, 3), array[:, 1:3])
    assert np.array_equal(Axes((3, 4), None).rows(array[0], 0, 2), array[:1, :2])


def test_headers_are_read_without_the_pixels(tmp_path: Path) -> None:
    array = np.zeros((3, 50, 60), np.float16)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    np.savez_compressed(tmp_path / "b.npz", probabilities=array)
    np.savez(tmp_path / "c.npz", probs=array, mask=np.zeros((50, 60), np.int64))
    for path, key, name in (("a.npy", None, ""), ("b.npz", None, "probabilities"), ("c.npz", "probs", "probs")):
        found = read_header(tmp_path / path, key)
        assert (found.name, found.shape, found.dtype) == (name, (3, 50, 60), np.float16)
        assert np.array_equal(found.read(), array)
    assert isinstance(read_header(tmp_path / "a.npy", None).read(), np.memmap)
    with pytest.raises(UsageError, match=r"c\.npz has the arrays probs, mask: choose one with --key"):
        read_header(tmp_path / "c.npz", None)
    with pytest.raises(UsageError, match=r"--key logits: .*b\.npz has the arrays probabilities"):
        read_header(tmp_path / "b.npz", "logits")


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    np.save(tmp_path / "a.npy", np.array([Code(ran)], object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=np.array([Code(ran)], object))
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Code(ran)))
    for path in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(SegtoolError, match=path):
            read_header(tmp_path / path, None)
    assert not ran.exists()


@pytest.mark.parametrize("name", ["a.npy", "b.npz"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.98])
def test_truncated_files_are_named(tmp_path: Path, name: str, keep: float) -> None:
    array = np.random.default_rng(0).random((3, 20, 20))
    path = tmp_path / name
    np.save(path, array) if name == "a.npy" else np.savez_compressed(path, array)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(SegtoolError, match=f"{name}: truncated"):
        read_header(path, None)


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    path = tmp_path / "b.npz"
    np.savez_compressed(path, np.random.default_rng(0).random((3, 50, 50)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(SegtoolError, match=r"b\.npz: truncated"):
        read_header(path, None).read()


@pytest.mark.parametrize("kind", ["i8", "i4", "u4", "c8", "U3"])
def test_other_types_are_refused(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 4), kind))
    with pytest.raises(SegtoolError, match=r"a\.npy is an array of .*class ids belong in index PNGs"):
        read_header(tmp_path / "a.npy", None)
