"""Merging views against float64 formulas: of classes that exclude each other, and of those that overlap."""

import numpy as np
import pytest
import torch

from segtool.core.inference.merging import make_merge

WEIGHTS = (0.5, 0.2, 0.3)
MODES = ("mean", "sum", "max", "min", "gmean", "tsharpen")


def combined(mode: str, p: np.ndarray, exponent: float) -> np.ndarray:
    w = np.array(WEIGHTS)[:, None, None, None]
    if mode == "max":
        return p.max(0)
    if mode == "min":
        return p.min(0)
    if mode == "gmean":
        return (np.maximum(p, np.finfo(np.float32).tiny) ** w).prod(0)
    return (w * p ** (exponent if mode == "tsharpen" else 1)).sum(0)


@pytest.mark.parametrize("mode", MODES)
def test_classes_that_exclude_each_other_add_up_to_one(mode: str) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(4), (3, 5, 6)).transpose(0, 3, 1, 2)
    merged = make_merge(mode, 0.5, multi=False)([torch.from_numpy(one).float() for one in p], WEIGHTS)
    expected = combined(mode, p, 0.5)
    np.testing.assert_allclose(merged.numpy(), expected / expected.sum(0), atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_overlapping_classes_are_merged_each_on_its_own(mode: str) -> None:
    p = np.random.default_rng(0).random((3, 4, 5, 6))
    p[0, :, 0], p[1, :, 1], p[:, :, 2], p[:, :, 3] = 0, 1, 0, 1
    p = p.astype(np.float32).astype(np.float64)
    merged = make_merge(mode, 0.5, multi=True)([torch.from_numpy(one).float() for one in p], WEIGHTS).numpy()
    expected = combined(mode, p, 0.5)
    if mode in ("gmean", "tsharpen"):
        this, other = (combined(mode, np.maximum(one, 2**-24), 0.5) for one in (p, 1 - p))
        expected = this / (this + other)
    np.testing.assert_allclose(merged, expected, atol=1e-6)
    alone = make_merge(mode, 0.5, multi=True)([torch.from_numpy(one[:1]).float() for one in p], WEIGHTS).numpy()
    np.testing.assert_array_equal(alone, merged[:1])


def test_the_geometric_mean_of_overlapping_classes_is_the_sigmoid_of_the_mean_logit() -> None:
    logits = np.random.default_rng(0).normal(0, 4, (3, 2, 5, 6))
    p = 1 / (1 + np.exp(-logits))
    certain = make_merge("gmean", 0.5, multi=True)([torch.tensor([1.0]), torch.tensor([0.0])], (0.5, 0.5))
    assert certain.item() == 0.5, "certainty counts the same on both sides"
    merged = make_merge("gmean", 0.5, multi=True)([torch.from_numpy(one).float() for one in p], WEIGHTS)
    mean = (np.array(WEIGHTS)[:, None, None, None] * logits).sum(0)
    np.testing.assert_allclose(merged.numpy(), 1 / (1 + np.exp(-mean)), atol=1e-5)
