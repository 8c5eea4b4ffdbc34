"""The check of `debug` that images and masks belong together: how often chance passes it."""

import math

import numpy as np
import pytest

from segtool.core.debugging.checks import CHANCE, Check, MaskFit


def verdict(random: np.random.Generator, count: int, share: float) -> Check:
    """Of predictions and masks of `count` images that share a layout; what is an image's own is `share` the same."""
    layout = 0.3 * random.normal(size=(3, 8, 8))
    fit = MaskFit()
    for _ in range(count):
        truth = layout + random.normal(size=(3, 8, 8))
        guess = layout + share * truth + (1 - share) * random.normal(size=(3, 8, 8))
        probs = np.exp(guess) / np.exp(guess).sum(axis=0)
        fit.add(probs.astype(np.float32), truth.argmax(axis=0).astype(np.uint8))
    return fit.check(pretrained=True)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_a_handful_of_images_is_not_judged(count: int) -> None:
    assert verdict(np.random.default_rng(0), count, 1).ok is None


@pytest.mark.parametrize("count", [6, 10, 20])
def test_pairs_that_do_not_belong_together_pass_as_rarely_as_is_said(count: int) -> None:
    random, tries = np.random.default_rng(count), 400
    passed = sum(bool(verdict(random, count, 0).ok) for _ in range(tries))
    assert passed <= CHANCE * tries + 3 * math.sqrt(CHANCE * tries)


@pytest.mark.parametrize("count", [6, 10, 20])
def test_pairs_that_belong_together_pass(count: int) -> None:
    random = np.random.default_rng(count)
    assert all(verdict(random, count, 0.7).ok for _ in range(20))


def test_predictions_that_are_all_the_same_do_not_fit() -> None:
    random, fit = np.random.default_rng(0), MaskFit()
    for _ in range(8):
        fit.add(np.full((2, 8, 8), 0.5, np.float32), random.integers(0, 2, (8, 8), dtype=np.uint8))
    assert fit.check(pretrained=True).ok is False
