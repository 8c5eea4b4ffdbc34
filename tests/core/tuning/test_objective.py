"""Metrics of counts are what boards say, and add up over images."""

import numpy as np
import pytest

from segtool.core.images import IGNORE
from segtool.core.scoring.bootstrap import paired_difference
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tuning.objective import Metric, metric

KEYS = {"miou": "miou", "dice": "dice", "image_dice": "image_dice"}


def board(classes: int, exclude: tuple[int, ...] = (), seed: int = 0) -> ScoreBoard:
    """Images of which one has no foreground, one no predicted pixel of it either, and one nothing scored."""
    random = np.random.default_rng(seed)
    names = [str(index) for index in range(classes)]
    made = ScoreBoard(names, [names[index] for index in exclude])
    for number in range(6):
        truth, pred = random.integers(0, classes, (2, 5, 5)).astype(np.uint8)
        if number in (1, 2):
            truth[:] = 0
        if number == 2:
            pred[:] = 0
        if number == 3:
            truth[:] = IGNORE
        made.add_pair(str(number), truth, pred)
    return made


def counts(made: ScoreBoard) -> np.ndarray:
    return np.array(list(made.per_image.values()))


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("exclude", [(), (0,)])
def test_two_classes_as_evaluate_has_them(name: str, exclude: tuple[int, ...]) -> None:
    made = board(2, exclude)
    assert Metric(name, 2, exclude).score(counts(made)) == pytest.approx(made.summary()[KEYS[name]])


@pytest.mark.parametrize("name", ["miou", "dice"])
@pytest.mark.parametrize("exclude", [(), (0,), (1, 2)])
def test_several_classes_as_evaluate_has_them(name: str, exclude: tuple[int, ...]) -> None:
    made = board(4, exclude)
    assert Metric(name, 4, exclude).score(counts(made)) == pytest.approx(made.summary()[KEYS[name]])


def test_image_dice_of_several_classes_by_hand() -> None:
    #                 hits       truth      predicted
    images = np.array([
        [[2, 1, 0], [2, 2, 0], [3, 1, 0]],  # 4/5, 2/3, nothing there and nothing found: 1
        [[4, 0, 0], [4, 0, 0], [3, 0, 1]],  # 8/7 would be no count; found where nothing is: 0
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],  # nothing scored
    ])  # fmt: skip
    images[1, 0, 0] = 3
    first, second = (4 / 5 + 2 / 3 + 1) / 3, (6 / 7 + 1 + 0) / 3
    assert Metric("image_dice", 3).score(images) == pytest.approx((first + second) / 2)
    assert Metric("image_dice", 3, (0,)).score(images) == pytest.approx(((2 / 3 + 1) / 2 + (1 + 0) / 2) / 2)


@pytest.mark.parametrize("name", KEYS)
def test_the_gain_is_the_difference_of_the_scores(name: str) -> None:
    wanted, one, other = Metric(name, 3), counts(board(3)), counts(board(3, seed=1))
    sums, single = (wanted.additive(one), wanted.additive(other)), np.arange(len(one))
    gain = paired_difference(*sums, single, repeats=50, score=wanted.of_sums)
    assert gain.value == pytest.approx(wanted.score(other) - wanted.score(one))
    assert gain.low <= gain.high


def test_which_classes_may_have_a_threshold() -> None:
    assert metric("miou", ("a", "b"), ("a",)).fitted == [1]
    assert metric("dice", ("a", "b"), ()).kept == [1]
    assert metric("miou", ("a", "b", "c"), ("b",)).fitted == [0, 2]
