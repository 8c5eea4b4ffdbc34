"""Learning-rate curves by hand, weight decay, and names."""

import math

import pytest
import torch
from torch import nn

from segtool.core.models.optim import lr_factor, make_optimizer, set_lr, warmup_updates
from segtool.errors import UsageError
from segtool.settings.optimizer import OptimizerSettings


def test_cosine_with_warmup_by_hand() -> None:
    factors = [lr_factor("cosine", u, total=12, warmup=2) for u in range(12)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[7] == pytest.approx(0.5)  # half of the ten updates after the warm-up
    assert factors[11] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert lr_factor("cosine", 99, total=12, warmup=2) == pytest.approx(0)  # never climbs again


def test_constant() -> None:
    assert [lr_factor("constant", u, 10, 1) for u in range(3)] == pytest.approx([0.5, 1, 1])


def test_default_warmup_is_an_epoch_or_a_tenth_of_a_short_run() -> None:
    assert warmup_updates(OptimizerSettings(), epochs=20, updates_per_epoch=30) == 30
    assert warmup_updates(OptimizerSettings(), epochs=2, updates_per_epoch=30) == 6
    assert warmup_updates(OptimizerSettings(warmup=3), epochs=2, updates_per_epoch=30) == 90
    assert warmup_updates(OptimizerSettings(warmup=0), epochs=2, updates_per_epoch=30) == 0


@pytest.mark.parametrize("name", ["adamw", "sgd", "radam", "adamp", "lookahead_adamw"])
def test_norms_and_biases_have_no_weight_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    optimizer = make_optimizer(network, OptimizerSettings(optimizer=name, weight_decay=0.1, lr=0.5))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(network[0].weight)] == pytest.approx(0.1)
    assert [decay[id(p)] for p in (network[0].bias, network[1].weight, network[1].bias)] == [0, 0, 0]
    assert set_lr(optimizer, 0.5) == pytest.approx(0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


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
