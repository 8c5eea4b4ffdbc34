"""Scores against tables computed by hand, and what boards promise."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segtool.core.scoring.scores import ScoreBoard, Scores
from segtool.core.scoring.tables import confusion_table

nan = np.nan


def matrix(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64)


#                 pred a  b  c
THREE = matrix([3, 1, 0], [2, 4, 0], [0, 0, 0])  # c is in neither truth nor prediction


def test_hand_computed_table() -> None:
    scores = Scores.of(THREE)
    assert scores.iou == pytest.approx([3 / 6, 4 / 7, nan], nan_ok=True)
    assert scores.class_dice == pytest.approx([6 / 9, 8 / 11, nan], nan_ok=True)
    assert scores.precision == pytest.approx([3 / 5, 4 / 5, nan], nan_ok=True)
    assert scores.recall == pytest.approx([3 / 4, 4 / 6, nan], nan_ok=True)
    assert scores.miou == pytest.approx((3 / 6 + 4 / 7) / 2)  # an absent class is left out, not 0 and not 1
    assert scores.dice == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert scores.pixel_accuracy == pytest.approx(7 / 10)


def test_class_only_predicted_or_only_true_scores_zero() -> None:
    assert Scores.of(matrix([4, 0, 1], [0, 0, 0], [0, 0, 0])).miou == pytest.approx((4 / 5 + 0) / 2)
    assert Scores.of(matrix([4, 0, 0], [0, 0, 0], [1, 0, 0])).miou == pytest.approx((4 / 5 + 0) / 2)


def test_excluded_classes_leave_the_means_only() -> None:
    scores = Scores.of(THREE, exclude=[0])
    assert (scores.miou, scores.dice) == pytest.approx((4 / 7, 8 / 11))
    assert scores.pixel_accuracy == pytest.approx(0.7)
    assert scores.iou[0] == pytest.approx(0.5)


def test_binary_dice_is_the_foregrounds() -> None:
    two = matrix([90, 2], [3, 5])
    assert Scores.of(two).dice == pytest.approx(2 * 5 / (5 + 2 + 5 + 3))
    assert Scores.of(two).miou == pytest.approx((90 / 95 + 5 / 10) / 2)
    assert Scores.of(two, exclude=[0]).miou == pytest.approx(0.5)
    assert Scores.of(two, exclude=[1]).dice == pytest.approx(180 / 185)


def test_nothing_scored() -> None:
    scores = Scores.of(np.zeros((3, 3), np.int64))
    assert np.isnan([scores.miou, scores.dice, scores.pixel_accuracy]).all()
    assert np.isnan(scores.iou).all()


def test_board_pools_and_averages() -> None:
    board = ScoreBoard(["a", "b"])
    board.add("x", matrix([8, 0], [0, 2]))  # perfect
    board.add("y", matrix([5, 5], [0, 0]))  # b is only predicted
    board.add("z", matrix([10, 0], [0, 0]))  # no foreground, none found
    board.add("void", matrix([0, 0], [0, 0]))  # all pixels ignored
    summary = board.summary()
    assert board.total.tolist() == [[23, 5], [0, 2]]
    assert summary["iou"] == pytest.approx({"a": 23 / 28, "b": 2 / 7})
    assert summary["miou"] == pytest.approx((23 / 28 + 2 / 7) / 2)
    assert summary["image_miou"] == pytest.approx((1 + (0.5 + 0) / 2 + 1) / 3)
    assert summary["dice"] == pytest.approx(4 / 9)
    assert summary["image_dice"] == pytest.approx((1 + 0 + 1) / 3)  # empty and empty is 1
    assert summary["pixel_accuracy"] == pytest.approx(25 / 30)
    assert (summary["images"], summary["pixels"]) == (4, 30)
    table = board.table()
    assert table.columns.tolist() == ["image_id", "miou", "pixel_accuracy", "dice", "iou_a", "iou_b"]
    rows = table.to_numpy().tolist()
    assert rows[2] == pytest.approx(["z", 1, 1, 1, 1, nan], nan_ok=True)
    assert rows[3] == pytest.approx(["void", nan, nan, nan, nan, nan], nan_ok=True)


def test_image_dice_of_many_classes_has_no_bonus_for_nothing() -> None:
    board = ScoreBoard(["a", "b", "c"], exclude=["a"])
    board.add("only a", matrix([9, 0, 0], [0, 0, 0], [0, 0, 0]))
    board.add("b", matrix([0, 0, 0], [1, 3, 0], [0, 0, 0]))
    assert board.table().iloc[0, 1:4].tolist() == pytest.approx([nan, 1, nan], nan_ok=True)
    assert board.summary()["image_miou"] == pytest.approx(3 / 4)
    assert board.summary()["excluded"] == ["a"]


def test_empty_board_is_plain_json() -> None:
    summary = ScoreBoard(["a", "b"]).summary()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["miou"] is None
    assert summary["iou"] == {"a": None, "b": None}
    assert ScoreBoard(["a", "b"]).table().empty


def test_no_image_counts_twice() -> None:
    board = ScoreBoard(["a", "b"])
    board.add("x", matrix([1, 0], [0, 1]))
    with pytest.raises(ValueError, match="'x' would be counted twice"):
        board.add("x", matrix([1, 0], [0, 1]))
    assert board.total.sum() == 2


def test_unknown_excluded_class() -> None:
    with pytest.raises(ValueError, match="not in"):
        ScoreBoard(["a", "b"], exclude=["car"])


pairs = st.lists(
    st.tuples(
        hnp.arrays(np.uint8, (5, 4), elements=st.sampled_from([0, 1, 2, 255])),
        hnp.arrays(np.uint8, (5, 4), elements=st.integers(0, 2)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40)
@given(pairs=pairs)
def test_scores_do_not_hang_on_the_order_of_the_images(pairs: list) -> None:
    forward, backward = (ScoreBoard(["a", "b", "c"]) for _ in range(2))
    for index, pair in enumerate(pairs):
        forward.add_pair(str(index), *pair)
    for index, pair in reversed(list(enumerate(pairs))):
        backward.add_pair(str(index), *pair)
    assert forward.summary() == backward.summary()


@settings(max_examples=40)
@given(pairs=pairs)
def test_scores_stay_in_range_and_dice_follows_iou(pairs: list) -> None:
    board = ScoreBoard(["a", "b", "c"])
    for index, pair in enumerate(pairs):
        board.add_pair(str(index), *pair)
    scores = board.scores()
    assert ((scores.iou >= 0) & (scores.iou <= 1) | np.isnan(scores.iou)).all()
    assert scores.class_dice == pytest.approx(2 * scores.iou / (1 + scores.iou), nan_ok=True)


@settings(max_examples=40)
@given(truth=hnp.arrays(np.uint8, (6, 6), elements=st.sampled_from([0, 1, 2])))
def test_a_perfect_prediction_scores_one(truth: np.ndarray) -> None:
    board = ScoreBoard(["a", "b", "c"])
    board.add_pair("x", truth, truth)
    summary = board.summary()
    assert [summary[key] for key in ("miou", "image_miou", "dice", "image_dice", "pixel_accuracy")] == [1] * 5


def test_a_class_may_be_called_as_a_column_of_the_table() -> None:
    board = ScoreBoard(["truth", "miou"])
    board.add("x", matrix([5, 1], [2, 3]))
    table = confusion_table(board)
    assert table.columns.tolist() == ["truth", "truth", "miou"]
    assert table.to_numpy().tolist() == [["truth", 5, 1], ["miou", 2, 3]]
