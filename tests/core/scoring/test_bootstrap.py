"""The paired bootstrap: its value is the difference, its interval holds what it should."""

import numpy as np
import pytest

from segtool.core.scoring.bootstrap import FEW, few_drawn, paired_difference
from segtool.core.scoring.scores import ScoreBoard

CLASSES = ("a", "b", "c")
SINGLE = np.arange(60)


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
    found = paired_difference(counts(one), counts(other), SINGLE, repeats=200)
    assert found.value == pytest.approx(other.scores().miou - one.scores().miou, abs=1e-12)
    assert found.low < found.value < found.high
    assert found.low > 0
    back = paired_difference(counts(other), counts(one), SINGLE, repeats=200)
    assert back == pytest.approx((-found.value, -found.high, -found.low))


def test_equal_predictions_differ_by_nothing_for_sure() -> None:
    assert paired_difference(counts(board(0.3, 1)), counts(board(0.3, 1)), SINGLE, repeats=100) == (0, 0, 0)


def test_pairing_cancels_what_images_have_in_common() -> None:
    """Shuffling one side's images leaves the value and widens the interval."""
    one, other = counts(board(0.3, 1)), counts(board(0.28, 1))
    paired = paired_difference(one, other, SINGLE, repeats=500)
    shuffled = paired_difference(one, other[np.random.default_rng(0).permutation(len(other))], SINGLE, repeats=500)
    assert shuffled.value == pytest.approx(paired.value)
    assert shuffled.high - shuffled.low > 1.5 * (paired.high - paired.low)


def test_the_interval_holds_no_difference_about_as_often_as_it_says() -> None:
    """Two predictions of equal quality: the interval should leave out 0 in one of twenty, more or less."""
    missed = 0
    for trial in range(60):
        one, other = counts(board(0.25, 2 * trial + 10)), counts(board(0.25, 2 * trial + 11))
        found = paired_difference(one, other, SINGLE, repeats=300, seed=trial)
        missed += not found.low <= 0 <= found.high
    assert missed <= 10


def grouped(random: np.random.Generator, groups: np.ndarray, share: float) -> np.ndarray:
    """Two predictions of equal quality, (2, images, 3, 2) counts, whose errors are `share` alike within a group."""
    count = int(groups.max()) + 1
    errors = np.sqrt(share) * random.normal(size=(2, count, 2))[:, groups]
    errors += np.sqrt(1 - share) * random.normal(size=(2, len(groups), 2))
    missed = np.round(1000 * np.clip(0.2 + 0.04 * errors, 0, 1)).astype(np.int64)
    hits = 1000 - missed
    return np.stack([hits, np.full_like(hits, 1000), hits + missed[..., ::-1]], axis=2)


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_the_interval_holds_the_truth_where_the_images_of_a_group_are_alike(share: float) -> None:
    """12 videos of 10 frames: of independent images the interval held the truth in 67 % and 47 %."""
    random, groups = np.random.default_rng(1), np.repeat(np.arange(12), 10)
    found = [paired_difference(*grouped(random, groups, share), groups, repeats=400) for _ in range(200)]
    assert sum(one.low <= 0 <= one.high for one in found) >= 0.87 * len(found)


def test_a_group_is_drawn_whole() -> None:
    """Two images that are the same, in one group, tell as much as one of twice the pixels."""
    one, other = counts(board(0.3, 1)), counts(board(0.2, 2))
    twice = paired_difference(np.repeat(one, 2, 0), np.repeat(other, 2, 0), np.repeat(SINGLE, 2), repeats=100)
    assert twice == pytest.approx(paired_difference(2 * one, 2 * other, SINGLE, repeats=100))


def test_images_of_one_group_alone_are_drawn_one_by_one() -> None:
    one, other = counts(board(0.3, 1)), counts(board(0.2, 2))
    alone = paired_difference(one, other, np.zeros(60, np.int64), repeats=100)
    assert alone == paired_difference(one, other, SINGLE, repeats=100)


def test_too_few_to_draw_from_is_said() -> None:
    assert few_drawn(np.arange(FEW)) == few_drawn(np.repeat(np.arange(FEW), 3)) == ""
    assert few_drawn(np.array([0, 0, 1, 2])) == "with 3 groups of images (fewer than 10) the interval is too short"
    assert few_drawn(np.arange(4)) == "with 4 images (fewer than 10) the interval is too short"
    assert "takes them as independent" in few_drawn(np.zeros(50, np.int64))


def test_a_class_that_occurs_nowhere_is_left_out() -> None:
    one, other = counts(board(0.3, 1)), counts(board(0.2, 2))
    empty = np.zeros((*one.shape[:2], 1), np.int64)
    with_empty = paired_difference(*(np.concatenate([side, empty], 2) for side in (one, other)), SINGLE, repeats=100)
    assert with_empty == pytest.approx(paired_difference(one, other, SINGLE, repeats=100))


def test_other_images_are_refused() -> None:
    one = counts(board(0.3, 1))
    with pytest.raises(ValueError, match="not of the same images"):
        paired_difference(one, one[:-1], SINGLE)
