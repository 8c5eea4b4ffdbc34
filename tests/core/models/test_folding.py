"""Folded networks answer as before, hold no batch norm, and what cannot be folded is left as it is."""

import pytest
import torch
from torch import nn

from segtool.core.models.build import build_network
from segtool.core.models.folding import fold_norms


def shaken(network: nn.Module) -> nn.Module:
    """Statistics and weights of norms as a training leaves them, not ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight.data, module.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.5)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [
        ("linknet", "tu-test_efficientnet"),
        ("unet", "tu-tf_efficientnet_lite0"),
        ("fpn", "resnet18"),
        ("deeplabv3plus", "tu-test_resnet"),
        ("segformer", "mit_b0"),
    ],
)
def test_a_folded_network_answers_the_same_without_norms(arch: str, encoder: str) -> None:
    torch.manual_seed(0)
    network = shaken(build_network(arch, encoder, 3, 4))
    pixels = torch.randn(2, 3, 64, 96)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_norms(network, pixels)
    with torch.no_grad():
        for x in (pixels, torch.randn(1, 3, 128, 64)):
            expected = network(x)
            atol = 1e-4 * expected.abs().max().item()
            torch.testing.assert_close(folded(x), expected, atol=atol, rtol=0)
    assert norms(folded) < norms(network)
    if arch != "segformer":
        assert norms(folded) == 0
    # The network itself is left alone: training goes on with it.
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in [*network.modules(), *folded.modules()])


class UsedTwice(nn.Module):
    """The convolution's output goes to the norm and round it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class SharedConv(nn.Module):
    """One convolution, two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.conv(self.one(self.conv(x))))


@pytest.mark.parametrize("network", [UsedTwice(), SharedConv(), nn.Conv2d(3, 2, 1)], ids=lambda n: type(n).__name__)
def test_what_cannot_be_folded_is_the_network_itself(network: nn.Module) -> None:
    assert fold_norms(shaken(network), torch.randn(1, 3, 8, 8)) is network
