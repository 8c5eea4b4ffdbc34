"""Scores by object size: counted by hand, and summing to the confusion matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core import images
from segtool.core.scoring.confusion import confusion
from segtool.core.scoring.objects import FALSE, FOUND, HITS, MISSED, OBJECTS, no_objects, object_counts, size_table

SMALL, MEDIUM, LARGE = range(3)


def assert_sums_to_confusion(truth: np.ndarray, pred: np.ndarray, classes: int) -> None:
    counts, matrix = object_counts(truth, pred, classes).sum(1), confusion(truth, pred, classes)
    assert not counts[0].any(), "the background is no object"
    assert (counts[1:, HITS] == matrix.diagonal()[1:]).all()
    assert (counts[1:, HITS] + counts[1:, MISSED] == matrix.sum(1)[1:]).all()
    assert (counts[1:, HITS] + counts[1:, FALSE] == matrix.sum(0)[1:]).all()


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(31, 33, SMALL), (32, 32, MEDIUM), (96, 95, MEDIUM), (96, 96, LARGE)],
)
def test_bins_have_cocos_borders(height: int, width: int, size: int) -> None:
    truth = np.zeros((100, 100), np.uint8)
    truth[:height, :width] = 1
    counts = object_counts(truth, truth, 2)[1]
    assert counts[:, OBJECTS].tolist() == [int(size == s) for s in range(3)]
    assert counts[size].tolist() == [1, 1, height * width, 0, 0]


def test_bins_have_the_borders_that_are_given() -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[:3, :3] = truth[:2, 10:15] = truth[10:30, 10:30] = 1  # 9, 10 and 400 pixels
    for borders, expected in (((10,), [1, 2]), ((10, 400), [1, 1, 1]), ((5, 10, 401), [0, 1, 2, 0])):
        counts = object_counts(truth, truth, 2, borders)
        assert counts[1, :, OBJECTS].tolist() == expected
        assert no_objects(2, borders).shape == counts.shape
    assert size_table(counts, ["a", "b"], borders)["size"].tolist() == [
        "under 5",
        "5 to 9",
        "10 to 400",
        "401 and more",
    ]


def test_recall_needs_half_of_the_pixels() -> None:
    truth = np.zeros((9, 12), np.uint8)
    truth[0:2, 0:2] = truth[4:6, 0:2] = truth[4:6, 6:8] = 1
    pred = np.zeros_like(truth)
    pred[0, 0:2] = 1  # 2 of 4: found
    pred[4, 0] = 1  # 1 of 4: not
    counts = object_counts(truth, pred, 2)[1, SMALL]
    assert counts[[OBJECTS, FOUND, HITS, MISSED, FALSE]].tolist() == [3, 1, 3, 9, 0]


def test_diagonal_neighbours_are_one_object() -> None:
    truth = np.eye(5, dtype=np.uint8)
    assert object_counts(truth, truth, 2)[1, SMALL, OBJECTS] == 1


def test_false_pixels_follow_the_object_shared_most() -> None:
    truth = np.zeros((60, 120), np.uint8)
    truth[5:45, 5:45] = 1  # 1600 pixels: medium
    truth[5:10, 60:65] = 1  # 25: small
    pred = np.zeros_like(truth)
    pred[5:10, 40:65] = 1  # one component: 25 pixels of each (a tie: the first), 75 false
    pred[50:55, 100:110] = 1  # touches nothing: 50 false, its own area is small
    counts = object_counts(truth, pred, 2)[1]
    assert counts[MEDIUM, FALSE] == 75
    assert counts[SMALL, FALSE] == 50
    pred[5:10, 40] = 0  # now 20 of the medium and 25 of the small one
    counts = object_counts(truth, pred, 2)[1]
    assert (counts[MEDIUM, FALSE], counts[SMALL, FALSE]) == (0, 75 + 50)


def test_ignored_pixels_count_nowhere() -> None:
    truth = np.zeros((8, 8), np.uint8)
    truth[2:4, 2:6] = 1
    truth[2:4, 4:] = 255
    pred = np.zeros_like(truth)
    pred[2:4] = 1  # 4 hits, 4 false, the rest ignored
    assert object_counts(truth, pred, 2)[1, SMALL].tolist() == [1, 1, 4, 0, 4]


def test_nothing_to_count() -> None:
    void = np.full((6, 6), 255, np.uint8)
    assert not object_counts(void, np.zeros_like(void), 3).any()
    assert not object_counts(void[:0], void[:0], 3).any()
    row = size_table(no_objects(2), ["a", "b"]).iloc[0].tolist()
    assert row[:3] == ["b", "small", 0]
    assert np.isnan(row[3])


@settings(max_examples=60)
@given(
    truth=hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 255])),
    pred=hnp.arrays(np.uint8, (9, 11), elements=st.integers(0, 2)),
)
def test_bins_sum_to_the_confusion_matrix(truth: np.ndarray, pred: np.ndarray) -> None:
    assert_sums_to_confusion(truth, pred, 3)


def test_bins_sum_to_the_confusion_matrix_on_camvid(data_dir: object) -> None:
    path = min((data_dir / "camvid" / "valannot").glob("*.png"))  # type: ignore[operator]
    truth = images.to_mask(images.read_indices(path), 11, 11, path)
    pred = np.roll(np.where(truth == 255, 0, truth).astype(np.uint8), 9, axis=1)
    assert_sums_to_confusion(truth, pred, 11)
