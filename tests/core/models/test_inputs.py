"""What a network cannot take."""

import pytest
import torch
from torch import nn

from segtool.core.models.inputs import too_few_for_batch_norm


def test_one_value_per_channel_is_too_few_for_batch_norm() -> None:
    norm = nn.BatchNorm2d(3).train()
    with pytest.raises(ValueError, match="per channel") as too_few:
        norm(torch.zeros(1, 3, 1, 1))
    with pytest.raises(ValueError, match="4D") as wrong_shape:
        norm(torch.zeros(1, 3))
    assert too_few_for_batch_norm(too_few.value)
    assert not too_few_for_batch_norm(wrong_shape.value)
