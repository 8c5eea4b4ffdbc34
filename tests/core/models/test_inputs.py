"""What networks take, and what they cannot."""

import numpy as np
import pytest
import torch
from torch import nn

from segtool.core.models.build import NetworkSpec
from segtool.core.models.inputs import network_input, too_few_for_batch_norm

BYTES = NetworkSpec("toy", "toy", ("a", "b"), 2, (0.5, 0.2), (0.25, 0.1), None, "fp32")
RANGE = NetworkSpec(
    "toy", "toy", ("a", "b"), 2, (0.5, 0.2), (0.25, 0.1), None, "fp32", False, "uint16", (0, 100), (1000, 300), True
)


def test_bytes_and_values_in_the_unit_range_are_normalised_alike() -> None:
    image = np.array([[[255, 51], [0, 0]]], np.uint8)
    found = network_input(torch.from_numpy(image)[None], BYTES, "cpu")
    assert found.flatten().tolist() == pytest.approx([2, -2, 0, -2])
    unit = RANGE.intensity.unit(np.array([[[1000, 140], [0, 100]]], np.uint16))
    assert torch.allclose(network_input(torch.from_numpy(unit)[None], RANGE, "cpu"), found, atol=1e-6)
    # Beyond the range: cut off.
    assert RANGE.intensity.unit(np.array([[[9999, 0]]], np.uint16)).ravel().tolist() == [1, 0]


def test_a_description_survives_a_checkpoint_and_that_of_bytes_is_as_before() -> None:
    for spec in (BYTES, RANGE):
        assert NetworkSpec.from_plain(spec.plain()) == spec
    assert set(RANGE.plain()) - set(BYTES.plain()) == {"dtype", "low", "high", "clip"}


def test_one_value_per_channel_is_too_few_for_batch_norm() -> None:
    norm = nn.BatchNorm2d(3).train()
    with pytest.raises(ValueError, match="per channel") as too_few:
        norm(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="4D") as wrong_shape:
        norm(torch.zeros(1, 3))
    assert too_few_for_batch_norm(too_few.value)
    assert not too_few_for_batch_norm(wrong_shape.value)
