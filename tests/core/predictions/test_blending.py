"""Merging stored probabilities against formulas written out in float64, and the readers beneath."""

from pathlib import Path

import numpy as np
import pytest

from segtool.core.predictions.blending import Blend, MaskReader
from segtool.core.predictions.probability_maps import SCALE, ProbReader, decide, quantise, write_probs

RANDOM = np.random.default_rng(3)


def maps(count: int = 3) -> list[np.ndarray]:
    logits = RANDOM.normal(0, 3, (count, 4, 9, 7))
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return [quantise(one.astype(np.float32)) for one in probs]


def by_the_book(mode: str, levels: list[np.ndarray], weights: tuple[float, ...], exponent: float) -> np.ndarray:
    probs = np.stack(levels).astype(np.float64) / SCALE
    share = np.array(weights)[:, None, None, None] / sum(weights)
    if mode == "mean":
        return (share * probs).sum(0)
    if mode == "vote":
        one_hot = probs.argmax(1)[:, None] == np.arange(4)[None, :, None, None]
        return (share * one_hot).sum(0)
    merged = {
        "gmean": lambda: np.prod(np.maximum(probs, 0.5 / SCALE) ** share, axis=0),
        "max": lambda: probs.max(0),
        "min": lambda: np.maximum(probs.min(0), 1e-30),
        "tsharpen": lambda: (share * probs**exponent).sum(0),
    }[mode]()
    return merged / merged.sum(0)


@pytest.mark.parametrize("mode", ["mean", "gmean", "max", "min", "vote", "tsharpen"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (2.0, 0.5, 3.0)])
def test_a_blend_is_its_formula(mode: str, weights: tuple[float, ...]) -> None:
    levels = maps()
    blended = Blend(mode, weights, 0.4)(levels)
    assert blended.dtype == np.float32
    assert np.abs(blended - by_the_book(mode, levels, weights, 0.4)).max() < 1e-5
    assert np.abs(blended.sum(0) - 1).max() < 1e-4 and blended.max() <= 1


@pytest.mark.parametrize("count", [3, 5, 7])
def test_classes_that_are_equal_stay_so(count: int) -> None:
    """The lowest id takes the pixel, whatever the members' number."""
    levels = RANDOM.integers(0, SCALE // 2, (count, 1, 40)).astype(np.uint16)
    members = [np.stack([one, np.roll(levels, 1, axis=0)[member]]) for member, one in enumerate(levels)]
    blended = Blend("mean", (1.0,) * count, 0.5)(members)
    assert np.array_equal(blended[0], blended[1])
    assert not decide(blended).any()


def test_a_weight_of_0_leaves_a_member_out() -> None:
    levels = maps()
    blend = Blend("mean", (1.0, 0.0, 3.0), 0.5)
    assert blend.used == [0, 2]
    assert np.array_equal(blend([levels[0], levels[2]]), Blend("mean", (1.0, 3.0), 0.5)([levels[0], levels[2]]))


@pytest.mark.parametrize("mode", ["min", "gmean"])
def test_what_members_rule_out_each_is_shared_evenly(mode: str) -> None:
    certain = np.zeros((2, 2, 1, 1), np.uint16)
    certain[0, 0] = certain[1, 1] = SCALE
    assert Blend(mode, (1.0, 1.0), 0.5)(list(certain)).ravel() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("mode", ["mean", "gmean", "vote", "tsharpen"])
def test_the_argmax_of_the_sum_of_terms_is_the_blends(mode: str) -> None:
    levels, blend = maps(), Blend(mode, (2.0, 1.0, 4.0), 0.5)
    total = sum(weight * blend.term(one) for weight, one in zip(blend.weights, levels, strict=True))
    assert np.array_equal(decide(total), decide(blend(levels)))


def test_a_mask_votes_for_its_classes() -> None:
    mask = RANDOM.integers(0, 4, (6, 5)).astype(np.uint8)
    levels = MaskReader(mask, 4).levels(2, 5)
    assert levels.shape == (4, 3, 5) and np.array_equal(levels.argmax(0), mask[2:5])
    assert (levels.sum(0, dtype=np.int64) == SCALE).all()


def test_bands_are_read_as_they_are_stored_and_any_other_rows_too(tmp_path: Path) -> None:
    probs = RANDOM.dirichlet(np.ones(3), (700, 401)).transpose(2, 0, 1).astype(np.float32)
    write_probs(tmp_path / "a.b2nd", probs)
    reader = ProbReader(tmp_path / "a.b2nd")
    whole = quantise(probs)
    assert 0 < reader.band_rows < 700
    for top in range(0, 700, reader.band_rows):
        assert np.array_equal(reader.levels(top, top + reader.band_rows), whole[:, top : top + reader.band_rows])
    assert np.array_equal(reader.levels(), whole)
    assert np.array_equal(reader.levels(5, 17), whole[:, 5:17])
