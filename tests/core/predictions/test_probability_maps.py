"""Stored probabilities: what comes back, in bands and whole, what a threshold means, and files that are broken."""

import subprocess
import sys
from pathlib import Path

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segtool.core.predictions import probability_maps as probmaps
from segtool.core.predictions.probability_maps import ProbReader, ProbWriter, read_probs, write_probs
from segtool.errors import SegtoolError


def softmax_map(shape: tuple[int, int, int], seed: int = 0, sharpness: float = 3.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, sharpness, shape)
    powers = np.exp(logits - logits.max(0))
    return (powers / powers.sum(0)).astype(np.float32)


SHAPES = [(2, 1, 1), (3, 7, 1), (11, 1, 13), (2, 33, 65), (255, 3, 2), (60, 1000, 9), (12, 361, 479)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_map_comes_back_to_half_a_level(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    probs = softmax_map(shape)
    write_probs(tmp_path / "x.b2nd", probs)
    read = read_probs(tmp_path / "x.b2nd")
    assert read.dtype == np.float32
    assert read.shape == shape
    # Half a level, and the rounding of float32 itself.
    assert np.abs(read.astype(np.float64) - probs).max() <= 0.5 / 65535 + 1e-7
    assert [path.name for path in tmp_path.iterdir()] == ["x.b2nd"]


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    name = "가" * 83 + ".b2nd"
    write_probs(tmp_path / name, softmax_map((2, 3, 3)))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_map_that_lacks_rows_gets_no_name(tmp_path: Path) -> None:
    writer = ProbWriter(tmp_path / "x.b2nd", (2, 9, 4))
    writer.write(softmax_map((2, 5, 4)))
    with pytest.raises(OSError, match="is the disk full"):
        writer.finish()
    assert not list(tmp_path.iterdir())


def test_certainty_is_exact(tmp_path: Path) -> None:
    probs = np.float32([[[0, 1]], [[1, 0]]])
    write_probs(tmp_path / "x.b2nd", probs)
    assert (read_probs(tmp_path / "x.b2nd") == probs).all()


def test_levels_are_rounded() -> None:
    levels = np.arange(65536, dtype=np.float64)
    assert (probmaps.quantise((levels / 65535).astype(np.float32)) == levels).all()
    assert probmaps.quantise(np.float32([0.4 / 65535, 0.6 / 65535])).tolist() == [0, 1]


def test_the_class_decided_on_is_kept(tmp_path: Path) -> None:
    for seed, sharpness in enumerate((0.5, 3.0, 10.0)):
        probs = softmax_map((12, 90, 121), seed, sharpness)
        write_probs(tmp_path / "x.b2nd", probs)
        levels = ProbReader(tmp_path / "x.b2nd").levels()
        # Only pixels whose two best classes are nearer than a level may fall together.
        best = np.sort(probs, axis=0)
        clear = best[-1] - best[-2] > 1 / 65535
        assert clear.mean() > 0.999
        assert (levels.argmax(0) == probs.argmax(0))[clear].all()


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_bands_written_and_read_equal_the_whole(tmp_path: Path, rows: int) -> None:
    # Large enough for several chunks.
    probs = softmax_map((12, 150, 479))
    write_probs(tmp_path / "whole.b2nd", probs)
    with ProbWriter(tmp_path / "deep" / "bands.b2nd", probs.shape) as writer:
        for top in range(0, probs.shape[1], rows):
            writer.write(probs[:, top : top + rows])
    reader = ProbReader(tmp_path / "deep" / "bands.b2nd")
    assert reader.shape == probs.shape
    assert (reader.probs() == read_probs(tmp_path / "whole.b2nd")).all()
    bands = [reader.probs(top, top + rows) for top in range(0, probs.shape[1], rows)]
    assert (np.concatenate(bands, axis=1) == reader.probs()).all()


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_decide_is_arg_max_with_ties_to_the_lowest(classes: int, height: int, width: int, seed: int) -> None:
    probs = np.random.default_rng(seed).integers(0, 3, (classes, height, width)).astype(np.float32)
    mask = probmaps.decide(probs)
    assert mask.dtype == np.uint8
    assert (mask == probs.argmax(0)).all()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_map_does_not_appear(tmp_path: Path, error: type[BaseException]) -> None:
    probs = softmax_map((3, 20, 20))
    write_probs(tmp_path / "x.b2nd", probs)
    before = (tmp_path / "x.b2nd").read_bytes()
    with pytest.raises(error), ProbWriter(tmp_path / "x.b2nd", probs.shape) as writer:
        writer.write(probs[:, :10])
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["x.b2nd"]
    assert (tmp_path / "x.b2nd").read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.99, 0.99999])
def test_a_truncated_map_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a b.b2nd"
    write_probs(path, softmax_map((12, 150, 479)))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SegtoolError, match=r"a b\.b2nd is truncated"):
        read_probs(path)


def test_missing_maps_and_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SegtoolError, match=r"x\.b2nd is missing; run `segtool predict` again"):
        ProbReader(tmp_path / "x.b2nd")
    (tmp_path / "x.b2nd").write_text("text")
    with pytest.raises(SegtoolError, match="is truncated or not a probability map"):
        ProbReader(tmp_path / "x.b2nd")
    for name, array in (("f", np.zeros((2, 3, 3), np.float32)), ("two", np.zeros((3, 3), np.uint16))):
        blosc2.asarray(array, urlpath=str(tmp_path / f"{name}.b2nd"), mode="w")
        with pytest.raises(SegtoolError, match=rf"{name}\.b2nd is not a probability map"):
            ProbReader(tmp_path / f"{name}.b2nd")


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from segtool.core.predictions.probability_maps import write_probs
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_probs(Path(sys.argv[1]), np.random.default_rng(0).random((8, 200, 300), np.float32))
except OSError as error:
    print(error.strerror, Path(error.filename).name)
"""


@pytest.mark.parametrize("room", [0, 100_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "x.b2nd"), str(room)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "cannot write probabilities (is the disk full?) x.b2nd\n", done.stderr
    assert list(tmp_path.iterdir()) == []
