"""Pseudo-labels of classes that overlap, by hand: positive, negative, uncertain, corrected, counted."""

from pathlib import Path

import numpy as np
import pytest

from segtool.core.planes import Planes, write_planes
from segtool.core.predictions.probability_maps import ProbReader, lowest_level, write_probs
from segtool.core.predictions.pseudo_labels import balanced_levels
from segtool.core.predictions.pseudo_planes import (
    finished_counts,
    label_planes,
    labelled_share,
    labelled_table,
    positive_histograms,
)
from segtool.values import Size

# The probabilities of two classes in six pixels of one row.
PROBS = np.float32([[[0.95, 0.9, 0.7, 0.3, 0.1, 0.02]], [[0.95, 0.5, 0.05, 0.95, 0.89, 0.11]]])


@pytest.fixture
def reader(tmp_path: Path) -> ProbReader:
    write_probs(tmp_path / "x.b2nd", PROBS)
    return ProbReader(tmp_path / "x.b2nd")


def levels(*thresholds: float) -> np.ndarray:
    return np.array([lowest_level(threshold) for threshold in thresholds])


def test_each_class_is_positive_negative_or_uncertain(reader: ProbReader) -> None:
    planes, counts = label_planes(reader, levels(0.9, 0.9))
    assert planes.expand().tolist() == [[[1, 1, 255, 255, 0, 0]], [[1, 255, 0, 1, 255, 255]]]
    # Pixels, predicted, positive, negative, changed.
    assert counts.tolist() == [[6, 6], [3, 4], [2, 2], [2, 1], [0, 0]]
    assert labelled_share(counts) == 7 / 12
    planes, _ = label_planes(reader, levels(0.5, 0.95))
    assert planes.expand().tolist() == [[[1, 1, 1, 0, 0, 0]], [[1, 255, 0, 1, 255, 255]]]
    everywhere, counts = label_planes(reader, levels(1, 0.99))
    assert everywhere.unknown == {0, 1} and labelled_share(counts) == 0


def test_one_half_leaves_nothing_uncertain(tmp_path: Path) -> None:
    write_probs(tmp_path / "y.b2nd", np.float32([[[32766, 32767, 32768, 32769]]]) / 65535)
    planes, counts = label_planes(ProbReader(tmp_path / "y.b2nd"), levels(0.5))
    assert planes.expand().tolist() == [[[0, 1, 1, 1]]]
    assert counts[2:4].tolist() == [[3], [1]]


def test_confident_pixels_correct_known_labels(reader: ProbReader) -> None:
    given = np.array([[[0, 1, 0, 1, 1, 255]], [[255] * 6]], np.uint8)
    planes, counts = label_planes(reader, levels(0.9, 0.9), Planes.of(given))
    assert planes.expand().tolist() == [[[1, 1, 0, 1, 0, 255]], [[255] * 6]]
    assert planes.unknown == {1}
    assert counts[4].tolist() == [2, 0]


def test_a_share_of_the_predicted_pixels_sets_the_threshold(reader: ProbReader) -> None:
    histograms = positive_histograms([reader, reader], 2)
    assert histograms.sum(1).tolist() == [6, 8]
    found = balanced_levels(histograms, 0.5, lowest_level(0.99))
    # Of (.95, .9, .7) two are the half or more, of (.95, .95, .89, .5) two.
    assert found.tolist() == [round(0.9 * 65535), round(0.95 * 65535)]


def test_counts_come_back_from_a_whole_file(reader: ProbReader, tmp_path: Path) -> None:
    planes, counts = label_planes(reader, levels(0.9, 0.9))
    note, path = {"counts": " ".join(map(str, counts.ravel()))}, tmp_path / "m.json"
    write_planes(path, planes, "ab", note)
    found = finished_counts(path, Size(1, 6), "ab", "counts")
    assert found is not None and np.array_equal(found, counts)
    assert finished_counts(path, Size(6, 1), "ab", "counts") is None
    assert finished_counts(path, Size(1, 6), "ac", "counts") is None
    write_planes(path, planes, "ab")
    assert finished_counts(path, Size(1, 6), "ab", "counts") is None
    table = labelled_table("ab", levels(0.9, 0.9), counts, corrected=True).frame
    assert table["share"].tolist() == [4 / 6, 3 / 6]
