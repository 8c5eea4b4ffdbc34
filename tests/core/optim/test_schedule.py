"""Learning-rate curves by hand: every schedule is a function of the update alone."""

import math

import pytest
import torch
from torch.optim.swa_utils import SWALR

from segtool.core.optim.schedule import averaging_factor, lr_factor, warmup_updates
from segtool.errors import UsageError
from segtool.settings.optimizer import OptimizerSettings
from segtool.settings.options import assemble


def curve(total: int, warmup: int = 0, **options: object) -> list[float]:
    settings = OptimizerSettings(**options)  # type: ignore[arg-type]
    return [lr_factor(settings, update, total, warmup) for update in range(total + 3)]


def test_cosine_with_warmup_by_hand() -> None:
    factors = curve(12, warmup=2)
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert factors[7] == pytest.approx(0.5)  # half of the ten updates after the warm-up
    assert factors[11] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert factors[12:] == pytest.approx([0, 0, 0])  # never climbs again


def test_cosine_restarts_at_the_highest_rate_in_equal_cycles() -> None:
    factors = curve(14, warmup=2, restarts=3)
    assert factors[2:6] == pytest.approx([1, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 - math.cos(math.pi / 4))])
    assert factors[6:10] == factors[10:14] == factors[2:6]
    assert factors[14] == 0


def test_poly() -> None:
    assert curve(12, warmup=2, schedule="poly")[1:8:6] == pytest.approx([2 / 3, 0.5**0.9])
    assert curve(10, schedule="poly")[9:11] == pytest.approx([0.1**0.9, 0])


def test_onecycle_rises_to_its_peak_at_30_percent_and_ends_far_below_its_start() -> None:
    factors = curve(100, schedule="onecycle")
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[15] == pytest.approx((1 / 25 + 1) / 2)
    assert factors.index(max(factors)) == 30 and factors[30] == 1
    assert factors[65] == pytest.approx(0.5)
    assert factors[99] < factors[0] / 50


def test_cyclic_triangles() -> None:
    assert curve(8, schedule="cyclic", restarts=2)[:8] == pytest.approx([0.1, 0.55, 1, 0.55] * 2)
    assert curve(8, schedule="cyclic")[:8] == pytest.approx([0.1, 1] * 4)
    assert curve(8, schedule="cyclic")[8] == pytest.approx(0.1)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_constant_until_something_else_reduces_it(schedule: str) -> None:
    assert curve(3, warmup=1, schedule=schedule) == pytest.approx([0.5, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("schedule", ["cosine", "poly", "onecycle", "cyclic", "constant", "plateau"])
def test_the_warmup_is_linear_and_leads_to_where_the_curve_begins(schedule: str) -> None:
    factors, bare = curve(20, warmup=4, schedule=schedule), curve(16, schedule=schedule)
    assert factors[:4] == pytest.approx([bare[0] * step / 5 for step in (1, 2, 3, 4)])
    assert factors[4:] == pytest.approx(bare)


def test_default_warmup_is_an_epoch_or_a_tenth_of_a_short_run() -> None:
    assert warmup_updates(OptimizerSettings(), epochs=20, updates_per_epoch=30) == 30
    assert warmup_updates(OptimizerSettings(), epochs=2, updates_per_epoch=30) == 6
    assert warmup_updates(OptimizerSettings(warmup=3), epochs=2, updates_per_epoch=30) == 90
    assert warmup_updates(OptimizerSettings(warmup=0), epochs=2, updates_per_epoch=30) == 0
    assert warmup_updates(OptimizerSettings(schedule="onecycle"), epochs=20, updates_per_epoch=30) == 0
    assert warmup_updates(OptimizerSettings(schedule="cyclic", warmup=1), epochs=20, updates_per_epoch=30) == 30


def test_restarts_of_a_schedule_without_cycles_are_refused() -> None:
    with pytest.raises(UsageError, match="--restarts has no effect without --schedule cosine or --schedule cyclic"):
        assemble(OptimizerSettings, {"schedule": "poly", "restarts": 2})


def test_while_averaging_the_rate_is_constant_after_torchs_anneal() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.8)
    scheduler = SWALR(optimizer, swa_lr=0.2, anneal_epochs=5, anneal_strategy="cos")
    for update in range(9):
        assert averaging_factor(update, 5, None, 0.8, 0.2) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_in_cycles_the_rate_is_lowest_where_weights_are_taken() -> None:
    factors = [averaging_factor(update, 2, 2, 0.8, 0.4) for update in range(8)]
    assert factors[3] == factors[7] == min(factors) == pytest.approx(0.04)
    assert factors[:4] == factors[4:] == pytest.approx([0.31, 0.22, 0.13, 0.04])
