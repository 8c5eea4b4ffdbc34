"""The average against its formula in float64, and that it goes on from what was saved."""

import copy

import torch
from torch import nn

from segtool.core.optim.ema import Average


def test_the_average_is_its_formula_and_goes_on_from_what_was_saved() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    average = Average(network, 0.7)
    assert not average.network.training
    expected = {name: value.double() for name, value in network.state_dict().items()}
    for update in range(1, 13):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        network(torch.rand(2, 3, 8, 8))
        decay = min(0.7, 1 - update ** (-2 / 3))
        average.follow()
        for name, value in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
        if update == 5:
            again = copy.deepcopy(network)
            other = Average(again, 0.7)
            other.load_state_dict(copy.deepcopy(average.state_dict()))
        if update > 5:
            # The weights that are followed are put into the same tensors, as a checkpoint's are.
            again.load_state_dict(network.state_dict())
            other.follow()
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), expected[name], atol=1e-6), name
        assert torch.equal(value, other.network.state_dict()[name]), name
    assert int(average.network[1].num_batches_tracked) == 12
