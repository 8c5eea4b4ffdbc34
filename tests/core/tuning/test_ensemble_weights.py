"""Greedy weights: what they gain where members complement each other, and that chance gains nothing."""

from dataclasses import replace

import numpy as np
import pytest

from segtool.core.predictions.blending import Blend
from segtool.core.predictions.probability_maps import SCALE
from segtool.core.scoring.scores import miou_of_counts
from segtool.core.tuning.ensemble_weights import Images, _Selection, fit_weights

CLASSES, SIZE = 3, (24, 20)


def images(members: list[np.ndarray], truths: np.ndarray, mode: str = "mean", parts: int = 5) -> Images:
    """`members`: uint16 (N, C, H, W) each."""

    def read(number: int):  # type: ignore[no-untyped-def]
        rows = ((top, [one[number][:, top : top + 7] for one in members]) for top in range(0, SIZE[0], 7))
        return rows, truths[number]

    which = np.arange(len(truths)) % parts
    return Images(read, which, np.arange(len(truths)), len(members), CLASSES, Blend(mode, (1.0,) * len(members), 0.5))


def made(random: np.random.Generator, truths: np.ndarray, skill: np.ndarray) -> np.ndarray:
    """Probabilities that lean to the truth by `skill`, one for each class."""
    one_hot = truths[:, None] == np.arange(CLASSES)[None, :, None, None]
    logits = random.normal(size=one_hot.shape) + one_hot * skill[None, :, None, None]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return np.round(probs * SCALE).astype(np.uint16)


def test_members_that_complement_each_other_gain() -> None:
    random = np.random.default_rng(0)
    truths = random.integers(0, CLASSES, (20, *SIZE)).astype(np.uint8)
    truths[:, 0] = 255
    skills = [np.array([2.5, 0.5, 1]), np.array([0.5, 2.5, 1]), np.array([-1.0, -1, -1])]
    fitted = fit_weights(images([made(random, truths, skill) for skill in skills], truths), steps=12)
    assert fitted.weights[0] > 0 and fitted.weights[1] > 0 and fitted.weights[2] == 0
    assert fitted.gain.low > 0.05
    assert fitted.nested_score == pytest.approx(fitted.best_score + fitted.gain.value)
    assert fitted.alone[2] < min(fitted.alone[:2])


def test_random_members_gain_nothing_where_it_is_honestly_scored() -> None:
    """On the images the weights were chosen by they always seem to."""
    naive, honest = [], []
    for seed in range(8):
        random = np.random.default_rng(seed)
        truths = random.integers(0, CLASSES, (15, *SIZE)).astype(np.uint8)
        members = [made(random, truths, np.zeros(CLASSES)) for _ in range(4)]
        fitted = fit_weights(images(members, truths), steps=10)
        naive.append(fitted.score - max(fitted.alone))
        honest.append(fitted.gain)
    assert min(naive) >= 0 and np.mean(naive) > 0.001
    assert abs(np.mean([gain.value for gain in honest])) < 0.001
    assert sum(gain.low <= 0 <= gain.high for gain in honest) >= 5


def test_a_selection_never_looks_at_its_part() -> None:
    random = np.random.default_rng(1)
    counts = random.integers(1, 1000, (5, 4, 3, CLASSES)).cumsum(2)
    other = counts.copy()
    other[:, 2] = random.integers(1, 10**6, (5, 3, CLASSES)).cumsum(1)
    chosen = []
    for alone in (counts, other):
        selection = _Selection(2, alone[:3], folds=4)
        proposals = selection.proposals()
        selection.take(dict(zip(proposals, alone[2:], strict=True)))
        chosen.append((selection.best, selection.best_score, selection.now))
    assert chosen[0] == chosen[1]
    assert _Selection(3, counts[:3], folds=4).best_score != _Selection(3, other[:3], folds=4).best_score


def test_scores_and_disagreement_are_those_of_direct_formulas() -> None:
    random = np.random.default_rng(2)
    truths = random.integers(0, CLASSES, (6, *SIZE)).astype(np.uint8)
    truths[:, :, :3] = 255
    members = [made(random, truths % CLASSES, np.full(CLASSES, skill)) for skill in (1.0, 0.3)]
    fitted = fit_weights(images(members, truths, parts=3), steps=4)
    masks = [one.argmax(1) for one in members]
    valid = truths != 255
    assert (
        fitted.disagreement[0, 1] == fitted.disagreement[1, 0] == ((masks[0] != masks[1]) & valid).sum() / valid.sum()
    )
    weights = np.array(fitted.weights, np.float64)
    mask = sum(w * one.astype(np.float64) for w, one in zip(weights, members, strict=True)).argmax(1)
    for score, chosen in ((fitted.score, mask), (fitted.alone[0], masks[0])):
        counts = np.array(
            [
                [((chosen == c) & (truths == c)).sum(), (truths == c).sum(), ((chosen == c) & valid).sum()]
                for c in range(CLASSES)
            ]
        ).T
        assert score == pytest.approx(float(miou_of_counts(counts)))


def test_the_interval_draws_groups() -> None:
    """Every image twice, as two of one group, says no more than once."""
    random = np.random.default_rng(5)
    truths = random.integers(0, CLASSES, (8, *SIZE)).astype(np.uint8)
    members = [made(random, truths, np.eye(CLASSES)[number] * 2) for number in range(3)]
    once = images(members, truths, parts=4)
    numbers = np.repeat(np.arange(8), 2)
    twice = replace(
        once, read=lambda number: once.read(int(numbers[number])), parts=once.parts[numbers], groups=numbers
    )
    alone = fit_weights(once, steps=4).gain
    assert alone.low < alone.high
    assert fit_weights(twice, steps=4).gain == pytest.approx(alone)
