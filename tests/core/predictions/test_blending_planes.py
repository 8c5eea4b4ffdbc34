"""Blends of classes that overlap against float64 formulas, and what weights decide."""

import numpy as np
import pytest

from segtool.core.predictions.bit_planes import decide_planes
from segtool.core.predictions.blending import Blend, PlanesBlend, for_planes
from segtool.core.predictions.probability_maps import SCALE, quantise

MODES = ("mean", "gmean", "tsharpen", "vote", "max", "min")
WEIGHTS = (1.0, 2.0, 0.5)


def members(seed: int = 0) -> list[np.ndarray]:
    """Three members' levels of two classes, with pixels of 0 and 1 in some, and of exactly one half."""
    levels = np.random.default_rng(seed).integers(0, SCALE + 1, (3, 2, 9, 13)).astype(np.uint16)
    levels[0, :, 0], levels[1, :, 1], levels[:, :, 2], levels[:, :, 3] = 0, SCALE, 0, SCALE
    levels[0, :, 4], levels[1, :, 4] = 0, SCALE
    return list(levels)


def formula(mode: str, levels: list[np.ndarray], weights: tuple[float, ...], exponent: float) -> np.ndarray:
    p = np.array(levels, np.float64) / SCALE
    w = np.array(weights, np.float64)[:, None, None, None] / sum(weights)
    if mode == "mean":
        return (w * p).sum(0)
    if mode == "vote":
        return (w * (p * SCALE >= 32767)).sum(0)
    if mode in ("max", "min"):
        return p.max(0) if mode == "max" else p.min(0)
    if mode == "tsharpen":
        this, other = (w * p**exponent).sum(0), (w * (1 - p) ** exponent).sum(0)
        return this / (this + other)
    p = np.clip(p, 0.5 / SCALE, None)
    q = np.clip(1 - np.array(levels, np.float64) / SCALE, 0.5 / SCALE, None)
    this, other = (p**w).prod(0), (q**w).prod(0)
    return this / (this + other)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_each_class_is_blended_on_its_own(mode: str, exponent: float) -> None:
    levels = members()
    merged = for_planes(Blend(mode, WEIGHTS, exponent))(levels)
    assert merged.dtype == np.float32 and merged.min() >= 0 and merged.max() <= 1
    np.testing.assert_allclose(merged, formula(mode, levels, WEIGHTS, exponent), atol=2e-6)


@pytest.mark.parametrize("mode", ["mean", "gmean", "tsharpen"])
def test_the_blend_of_complements_is_the_complement(mode: str) -> None:
    levels = members()
    merged = PlanesBlend(mode, WEIGHTS, 0.5)(levels)
    flipped = PlanesBlend(mode, WEIGHTS, 0.5)([SCALE - one for one in levels])
    np.testing.assert_allclose(merged + flipped, 1, atol=1e-5)


@pytest.mark.parametrize("mode", ["mean", "gmean", "tsharpen", "vote"])
def test_the_sum_of_margins_decides_as_the_stored_blend_does(mode: str) -> None:
    levels = members(1)
    blend = PlanesBlend(mode, WEIGHTS, 0.5)
    stored = quantise(blend(levels))
    margin = sum(w * blend.margins[one].astype(np.float64) for w, one in zip(WEIGHTS, levels, strict=True))
    exact = formula(mode, levels, WEIGHTS, 0.5)
    clear = np.abs(exact - 0.5) > 1e-4
    assert clear.mean() > 0.9
    assert np.array_equal((margin >= 0)[clear], decide_planes(stored)[clear])
    if mode == "mean":
        assert np.array_equal(margin >= 0, decide_planes(stored))
