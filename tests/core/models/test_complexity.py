"""Parameters and multiply-adds, against counts by hand."""

import pytest
import torch
from torch import nn

from segtool.core.models.build import build_network
from segtool.core.models.complexity import measure_complexity
from segtool.values import Size


def test_a_convolution_and_a_product_are_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(8, 5))
    found = measure_complexity(network, 3, Size(64, 32))
    assert found == (3 * 8 * 9 + 8 + 8 * 5 + 5, 32 * 16 * 8 * 3 * 9 + 8 * 5, 64, 32)


@pytest.mark.parametrize(
    ("arch", "encoder"), [("unet", "resnet18"), ("segformer", "mit_b0"), ("dpt", "tu-vit_tiny_patch16_224")]
)
def test_networks_are_counted_without_being_changed(arch: str, encoder: str) -> None:
    network = build_network(arch, encoder, 3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    small, large = (measure_complexity(network, 3, Size(side, side)) for side in (64, 128))
    assert small.multiply_adds and large.multiply_adds and large.multiply_adds >= 3.9 * small.multiply_adds
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.training


def test_what_cannot_be_counted_leaves_the_parameters() -> None:
    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.max())

    assert measure_complexity(Looks(), 1, Size(32, 32)) == (7, None, 32, 32)
