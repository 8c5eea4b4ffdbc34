"""What a resumed prediction takes for done, and what it does again."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from segtool.core.dataset.masks import mask_path
from segtool.core.images import write_mask
from segtool.core.predictions.folder import probs_path
from segtool.core.predictions.writer import PredictionWriter, is_whole
from segtool.values import Size

SIZE = Size(300, 500)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the prediction of one image, three classes."""
    probs = np.random.default_rng(0).dirichlet(np.ones(3), SIZE).astype(np.float32).transpose(2, 0, 1)
    with PredictionWriter(tmp_path, keep_probs=True, palette=None) as writer:
        writer.write("a/b", SIZE, 0, np.ascontiguousarray(probs))
    return tmp_path


def test_what_was_written_is_whole(folder: Path) -> None:
    assert is_whole(folder, "a/b", SIZE, 3, keep_probs=True)
    assert not is_whole(folder, "a/b", Size(*SIZE[::-1]), 3, keep_probs=True)
    assert not is_whole(folder, "a/b", SIZE, 4, keep_probs=True)
    assert not is_whole(folder, "other", SIZE, 3, keep_probs=True)


def test_a_mask_without_its_probabilities_is_whole_only_where_none_are_kept(folder: Path) -> None:
    probs_path(folder, "a/b").unlink()
    assert not is_whole(folder, "a/b", SIZE, 3, keep_probs=True)
    assert is_whole(folder, "a/b", SIZE, 3, keep_probs=False)


@pytest.mark.parametrize("which", [mask_path, probs_path])
def test_truncated_files_are_not_whole(folder: Path, which: Callable[[Path, str], Path]) -> None:
    path = which(folder, "a/b")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not is_whole(folder, "a/b", SIZE, 3, keep_probs=True)


def test_pages_a_power_cut_left_empty_are_found(folder: Path) -> None:
    path = probs_path(folder, "a/b")
    third = path.stat().st_size // 3
    with path.open("r+b") as file:
        file.seek(third)
        file.write(bytes(third))
    assert not is_whole(folder, "a/b", SIZE, 3, keep_probs=True)


def test_a_mask_of_other_values_is_not_whole(folder: Path) -> None:
    write_mask(mask_path(folder, "a/b"), np.full(SIZE, 7, np.uint8))
    assert not is_whole(folder, "a/b", SIZE, 3, keep_probs=True)
