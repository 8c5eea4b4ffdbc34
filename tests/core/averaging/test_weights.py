"""Averages of weights and refreshed batch norms: as torch's AveragedModel and update_bn, but for torch's mistakes."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from segtool.core.averaging.weights import WeightAverage, refresh_norms


class Network(nn.Module):
    """Convolutions, batch norms (one is used twice), and a buffer of integers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.again, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, momentum=0.3)
        self.idle = nn.BatchNorm2d(2)
        self.register_buffer("index", torch.arange(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(x)
        output: torch.Tensor = self.norm(self.again(self.norm(x)))
        return output


def batches(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 8, 8, generator=generator) * (1 + index) for index, size in enumerate(sizes)]


def trained(seed: int) -> Network:
    """Return a network with the batch-norm statistics of some batches."""
    network = Network(seed).train()
    for batch in batches(4, 4)[: 1 + seed % 2]:
        network(batch)
    return network


def test_the_mean_is_that_of_torchs_averaged_model_and_integers_stay_integers() -> None:
    networks = [trained(seed) for seed in range(7)]
    average, total = AveragedModel(networks[0], use_buffers=True), WeightAverage()
    for network in networks:
        average.update_parameters(network)
        total.add(network.state_dict())
    mean, expected = total.mean(), average.module.state_dict()
    assert mean.keys() == expected.keys()
    for name, value in mean.items():
        assert value.dtype == expected[name].dtype
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-7)
        else:
            # Torch warns that its average of these counts and indices is meaningless.
            assert torch.equal(value, networks[-1].state_dict()[name])
    # The networks that were added are unchanged.
    assert torch.equal(networks[0].again.weight, trained(0).again.weight)


def test_order_does_not_matter_and_equal_weights_are_unchanged() -> None:
    states = [trained(seed).state_dict() for seed in range(5)]
    sums = [WeightAverage(), WeightAverage(), WeightAverage()]
    for state in states:
        sums[0].add(state)
        sums[2].add(states[0])
    for state in reversed(states):
        sums[1].add(state)
    there, back, same = (average.mean() for average in sums)
    for name, value in there.items():
        assert torch.equal(value, back[name]) or not value.is_floating_point()
        assert torch.equal(same[name], states[0][name])


def test_refreshed_statistics_are_those_of_torchs_update_bn() -> None:
    ours, theirs = trained(0).train(), trained(0)
    refresh_norms(ours, batches(4, 4, 4), ours)
    update_bn(batches(4, 4, 4), theirs)
    for name, value in theirs.state_dict().items():
        if not name.startswith("idle"):
            assert torch.equal(ours.state_dict()[name], value), name
    assert (ours.norm.momentum, ours.encoder[1].momentum) == (0.3, 0.1)
    assert ours.norm.num_batches_tracked.dtype == torch.int64


def test_batches_are_weighted_by_their_images() -> None:
    norm, (long, short) = nn.BatchNorm2d(3).train(), batches(6, 2)
    refresh_norms(norm, [long, short], norm)
    means = [batch.mean((0, 2, 3)) for batch in (long, short)]
    variances = [batch.var((0, 2, 3)) for batch in (long, short)]
    torch.testing.assert_close(norm.running_mean, (6 * means[0] + 2 * means[1]) / 8)
    torch.testing.assert_close(norm.running_var, (6 * variances[0] + 2 * variances[1]) / 8)
    by_torch = nn.BatchNorm2d(3)
    update_bn([long, short], by_torch)
    assert not torch.allclose(norm.running_var, by_torch.running_var)


def test_frozen_and_unused_norms_keep_their_statistics() -> None:
    network, before = trained(1).train(), trained(1)
    network.encoder.eval()
    network.idle.running_mean.fill_(7)
    refresh_norms(network, batches(4), network)
    assert torch.equal(network.encoder[1].running_var, before.encoder[1].running_var)
    assert network.idle.running_mean.tolist() == [7, 7]
    assert not torch.equal(network.norm.running_var, before.norm.running_var)


def test_momentum_is_restored_after_an_error() -> None:
    network = trained(0).train()
    network.encoder[1].momentum = None

    def broken() -> Iterator[torch.Tensor]:
        yield from batches(4)
        raise OSError("an image is gone")

    with pytest.raises(OSError, match="gone"):
        refresh_norms(network, broken(), network)
    assert (network.norm.momentum, network.encoder[1].momentum) == (0.3, None)
    assert not network.norm._forward_pre_hooks


def test_without_a_batch_norm_nothing_is_read() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.GroupNorm(1, 2), nn.BatchNorm2d(2, track_running_stats=False))

    def unread() -> Iterator[torch.Tensor]:
        raise AssertionError("a batch was read")
        yield

    refresh_norms(network.train(), unread(), network)


def test_processes_average_over_all_images() -> None:
    mine, theirs = batches(3, 1), batches(2, 2, 2)[1:]
    whole, part, other = (nn.BatchNorm2d(3).train() for _ in range(3))
    refresh_norms(whole, [*mine, *theirs], whole)
    refresh_norms(other, theirs, other)
    assert other.running_mean is not None and other.running_var is not None
    sent = iter([torch.tensor(4.0), other.running_mean * 4, other.running_var * 4])
    refresh_norms(part, mine, part, lambda tensor: tensor.add_(next(sent)))
    torch.testing.assert_close(part.running_mean, whole.running_mean)
    torch.testing.assert_close(part.running_var, whole.running_var)
