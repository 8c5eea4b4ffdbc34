"""The paired bootstrap: its value is the difference, its interval holds what it should."""

import numpy as np
import pytest

from segtool.core.scoring.bootstrap import paired_difference
from segtool.core.scoring.scores import ScoreBoard

CLASSES = ("a", "b", "c")


def board(noise: float, seed: int, images: int = 60, hard: bool = True) -> ScoreBoard:
    """Predictions with a share of wrong pixels; some images are harder than others."""
    truths = np.random.default_rng(0)
    errors = np.random.default_rng(seed)
    made = ScoreBoard(CLASSES)
    for number in range(images):
        truth = truths.integers(0, 3, (20, 20)).astype(np.uint8)
        difficulty = truths.random() if hard else 0.5
        wrong = errors.random((20, 20)) < noise * 2 * difficulty
        made.add_pair(str(number), truth, np.where(wrong, (truth + 1) % 3, truth).astype(np.uint8))
    return made


def counts(made: ScoreBoard) -> np.ndarray:
    return np.array(list(made.per_image.values()))


def test_the_value_is_the_difference_of_the_pooled_scores() -> None:
    one, other = board(0.3, 1), board(0.2, 2)
    found = paired_difference(counts(one), counts(other), repeats=200)
    assert found.value == pytest.approx(other.scores().miou - one.scores().miou, abs=1e-12)
    assert found.low < found.value < found.high
    assert found.low > 0
    back = paired_difference(counts(other), counts(one), repeats=200)
    assert back == pytest.approx((-found.value, -found.high, -found.low))


def test_equal_predictions_differ_by_nothing_for_sure() -> None:
    assert paired_difference(counts(board(0.3, 1)), counts(board(0.3, 1)), repeats=100) == (0, 0, 0)


def test_pairing_cancels_what_images_have_in_common() -> None:
    """Shuffling one side's images leaves the value and widens the interval."""
    one, other = counts(board(0.3, 1)), counts(board(0.28, 1))
    paired = paired_difference(one, other, repeats=500)
    shuffled = paired_difference(one, other[np.random.default_rng(0).permutation(len(other))], repeats=500)
    assert shuffled.value == pytest.approx(paired.value)
    assert shuffled.high - shuffled.low > 1.5 * (paired.high - paired.low)


def test_the_interval_holds_no_difference_about_as_often_as_it_says() -> None:
    """Two predictions of equal quality: the interval should leave out 0 in one of twenty, more or less."""
    missed = 0
    for trial in range(60):
        one, other = counts(board(0.25, 2 * trial + 10)), counts(board(0.25, 2 * trial + 11))
        found = paired_difference(one, other, repeats=300, seed=trial)
        missed += not found.low <= 0 <= found.high
    assert missed <= 10


def test_a_class_that_occurs_nowhere_is_left_out() -> None:
    one, other = counts(board(0.3, 1)), counts(board(0.2, 2))
    empty = np.zeros((*one.shape[:2], 1), np.int64)
    with_empty = paired_difference(np.concatenate([one, empty], 2), np.concatenate([other, empty], 2), repeats=100)
    assert with_empty == pytest.approx(paired_difference(one, other, repeats=100))


def test_other_images_are_refused() -> None:
    one = counts(board(0.3, 1))
    with pytest.raises(ValueError, match="not of the same images"):
        paired_difference(one, one[:-1])
