"""The interval over images and seeds: against plain bootstraps, and how often it holds what is true."""

import numpy as np
import pytest

from segtool.core.comparison.seeded_difference import seeded_difference
from segtool.core.scoring.bootstrap import paired_difference
from segtool.core.scoring.metrics import sums

ALONE = np.zeros(40, np.int64)


def mean(total: np.ndarray) -> np.ndarray:
    return np.asarray(total[..., 0] / total[..., 1])


def values(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, np.ones_like(scores)], axis=1)


def test_with_one_seed_it_is_the_paired_bootstrap_over_images() -> None:
    random = np.random.default_rng(0)
    counts = random.integers(1, 100, (2, 30, 3, 4))
    counts[:, :, 1:] += counts[:, :, :1]
    groups = np.arange(30) // 3
    score = sums("miou", counts[0]).score
    found = seeded_difference([counts[0]], [counts[1]], groups, score)
    assert found == pytest.approx(paired_difference(counts[0], counts[1], groups))


@pytest.mark.parametrize("seeds", [(3, 3), (2, 2), (3, 1), (5, 5)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(seeds: tuple[int, int]) -> None:
    """Images differ in hardness, runs in luck, and each run in how it does on each image."""
    random, held, times = np.random.default_rng(sum(seeds)), 0, 200
    for number in range(times):
        hard = random.normal(0.6, 0.15, 40)
        sides = [
            [values(hard + gain + random.normal(0, 0.02) + random.normal(0, 0.03, 40)) for _ in range(count)]
            for gain, count in zip((0.0, 0.01), seeds, strict=True)
        ]
        found = seeded_difference(*sides, ALONE, mean, repeats=400, seed=number)
        held += found.low <= 0.01 <= found.high
    assert 0.90 * times <= held


def test_without_seeds_the_same_interval_is_far_too_short() -> None:
    random, held = np.random.default_rng(1), 0
    for number in range(100):
        sides = [[values(0.5 + random.normal(0, 0.02) + random.normal(0, 0.01, 40))] for _ in range(2)]
        found = seeded_difference(*sides, ALONE, mean, repeats=200, seed=number)
        held += found.low <= 0 <= found.high
    assert held < 40


def test_runs_that_do_the_same_differ_by_nothing() -> None:
    one = values(np.linspace(0.1, 0.9, 40))
    assert seeded_difference([one, one], [one, one], ALONE, mean) == (0, 0, 0)
