"""Scores of classes that may overlap, against float64 formulas over single pixels."""

import math

import numpy as np
import pytest

from segtool.core.scoring.planes import MultiScoreBoard, plane_counts
from segtool.errors import SegtoolError

CLASSES = ("hand", "ring", "nail", "scar")


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random planes with ignored pixels; scars are nowhere, in odd images nobody looked for nails."""
    random = np.random.default_rng(seed)
    truth = (random.random((4, 9, 7)) < 0.3).astype(np.uint8)
    pred = (random.random((4, 9, 7)) < 0.4).astype(np.uint8)
    truth[3] = pred[3] = 0
    if seed == 2:
        truth[1] = pred[1] = 0
    truth[:, :2] = 255
    truth[0, 5] = 255
    if seed % 2:
        truth[2] = 255
    return truth, pred


def written_out(pairs: list, index: int) -> tuple[float, float]:
    """IoU and Dice of one class over the pixels of some images, pixel by pixel; NaN where it is nowhere."""
    both = true = found = 0
    for truth, pred in pairs:
        for t, p in zip(truth[index].ravel(), pred[index].ravel(), strict=True):
            if t != 255:
                both, true, found = both + (t and p), true + t.astype(int), found + p.astype(int)
    if not true + found:
        return math.nan, math.nan
    return both / (true + found - both), 2 * both / (true + found)


@pytest.fixture
def pairs() -> list:
    return [draw(seed) for seed in range(4)]


def board(pairs: list, exclude: tuple = ()) -> MultiScoreBoard:
    filled = MultiScoreBoard(CLASSES, exclude)
    for number, (truth, pred) in enumerate(pairs):
        filled.add_pair(f"i{number}", truth, pred)
    return filled


@pytest.mark.parametrize("exclude", [(), ("ring",)])
def test_pooled_scores_are_of_all_scored_pixels(pairs, exclude):
    scores = board(pairs, exclude).scores()
    values = [written_out(pairs, index) for index in range(4)]
    np.testing.assert_allclose(scores.iou, [iou for iou, _ in values], rtol=1e-12)
    np.testing.assert_allclose(scores.class_dice, [dice for _, dice in values], rtol=1e-12)
    # Scars are in no truth and in no prediction, so they are in no mean.
    kept = [values[0], values[2]] if exclude else values[:3]
    assert scores.miou == pytest.approx(sum(iou for iou, _ in kept) / len(kept), rel=1e-12)
    assert scores.dice == pytest.approx(sum(dice for _, dice in kept) / len(kept), rel=1e-12)


def test_scores_per_image_in_both_variants(pairs):
    summary, table = board(pairs).summary(), board(pairs).table()
    for kind, (name, column) in enumerate((("image_miou", "iou"), ("image_dice", "dice"))):
        with_empty, present = [], []
        for number, pair in enumerate(pairs):
            for index, label in enumerate(CLASSES):
                told = table[f"{column}_{label}"][number]
                if (pair[0][index] == 255).all():
                    assert math.isnan(told)
                    continue
                value = written_out([pair], index)[kind]
                present += [] if math.isnan(value) else [value]
                with_empty.append(1.0 if math.isnan(value) else value)
                assert told == pytest.approx(with_empty[-1], rel=1e-12)
        assert len(with_empty) == 14 and len(present) == 9
        assert summary[name] == pytest.approx(sum(with_empty) / 14, rel=1e-12)
        assert summary[f"{name}_present"] == pytest.approx(sum(present) / 9, rel=1e-12)


def test_pixel_accuracy_is_over_scored_pairs(pairs):
    right = scored = 0
    for truth, pred in pairs:
        right += int((truth == pred)[truth != 255].sum())
        scored += int((truth != 255).sum())
    summary = board(pairs).summary()
    assert summary["pixel_accuracy"] == pytest.approx(right / scored, rel=1e-12)
    assert summary["pixels"] == scored


def test_unknown_classes_have_no_counts():
    truth, pred = draw(1)
    assert plane_counts(truth, pred)[:, 2].tolist() == [0, 0, 0, 0]
    assert plane_counts(truth, pred)[3].tolist() == [42, 49, 0, 49]


def test_nothing_to_score_has_no_score():
    summary = board([(np.full((4, 3, 3), 255, np.uint8), np.ones((4, 3, 3), np.uint8))]).summary()
    assert summary["miou"] is summary["image_dice"] is summary["pixel_accuracy"] is None


def test_errors():
    with pytest.raises(SegtoolError, match=r"4x9x6 \(CxHxW\), its mask 4x9x7"):
        plane_counts(draw(0)[0], draw(0)[1][:, :, :6])
    filled = board([draw(0)])
    with pytest.raises(ValueError, match="twice"):
        filled.add("i0", filled.total)
