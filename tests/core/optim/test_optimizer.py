"""Parameter groups, Lookahead and names."""

import copy

import pytest
import torch
from torch import nn

from segtool.core.optim.optimizer import make_optimizer, set_lr
from segtool.errors import UsageError
from segtool.settings.optimizer import OptimizerSettings


@pytest.mark.parametrize("name", ["adamw", "sgd", "radam", "adamp", "lookahead_adamw"])
def test_norms_and_biases_have_no_weight_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = make_optimizer(network, OptimizerSettings(optimizer=name, weight_decay=0.1, lr=0.5))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(network[0].weight)] == pytest.approx(0.1)
    assert [decay[id(p)] for p in (network[0].bias, network[1].weight, network[1].bias)] == [0, 0, 0]
    assert set_lr(optimizer, 0.5) == pytest.approx(0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


class WithEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Conv2d(2, 1, 1)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lookahead_radam"])
def test_the_encoder_has_its_own_rate_and_norms_still_no_decay(name: str) -> None:
    network = WithEncoder()
    options = OptimizerSettings(optimizer=name, weight_decay=0.1, lr=0.5, encoder_lr_scale=0.1)
    optimizer = make_optimizer(network, options)
    assert set_lr(optimizer, 0.5) == pytest.approx(0.25)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    conv, norm = network.encoder
    assert len(found) == len(list(network.parameters()))
    assert found[id(conv.weight)] == pytest.approx((0.025, 0.1))
    assert [found[id(p)] for p in (conv.bias, norm.weight, norm.bias)] == [pytest.approx((0.025, 0))] * 3
    assert found[id(network.head.weight)] == pytest.approx((0.25, 0.1))
    assert found[id(network.head.bias)] == pytest.approx((0.25, 0))


def test_lookahead_goes_half_the_way_back_at_every_sixth_step_after_its_first() -> None:
    def walk(lookahead: bool) -> list[float]:
        weight = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(weight.weight)
        options = OptimizerSettings(optimizer="momentum", lr=1, weight_decay=0, lookahead=lookahead)
        optimizer = make_optimizer(weight, options)
        places = []
        for _ in range(12):
            weight.weight.grad = torch.ones_like(weight.weight)
            for group in optimizer.param_groups:
                group["momentum"] = 0
            optimizer.step()
            places.append(float(weight.weight.detach()))
        return places

    assert walk(False) == [-float(step) for step in range(1, 13)]
    # The slow weights are those of step 6, where they begin; at step 12 half the way from -12 back to -6.
    assert walk(True) == [-float(step) for step in range(1, 12)] + [-9.0]


def test_an_unknown_optimizer_is_named_with_its_neighbours() -> None:
    with pytest.raises(UsageError, match=r"adamww.*adamw"):
        make_optimizer(nn.Linear(1, 1), OptimizerSettings(optimizer="adamww"))


def test_state_goes_through_a_weights_only_file(tmp_path) -> None:
    network = nn.Linear(2, 2)
    optimizer = make_optimizer(network, OptimizerSettings())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "o.pt")
    again = make_optimizer(network, OptimizerSettings())
    again.load_state_dict(torch.load(tmp_path / "o.pt", weights_only=True))
    assert again.param_groups[0]["base_lr"] == optimizer.param_groups[0]["base_lr"]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "momentum", "nesterov", "lookahead_adamw"])
def test_steps_in_one_pass_are_those_of_the_plain_optimizer(name: str) -> None:
    """Also of weights in channels-last memory, and after a checkpoint."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8))
    network = network.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(network)
    optimizer = make_optimizer(network, OptimizerSettings(optimizer=name, lr=0.01))
    slow = make_optimizer(plain, OptimizerSettings(optimizer=name, lr=0.01))
    for group in slow.param_groups:
        assert group["fused"]
        group["fused"] = False
    for step in range(14):
        for weight, other in zip(network.parameters(), plain.parameters(), strict=True):
            weight.grad = torch.empty_like(weight).normal_()
            other.grad = weight.grad.clone()
        optimizer.step()
        slow.step()
        if step == 8:
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for weight, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(weight, other, atol=1e-6)
