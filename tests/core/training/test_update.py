"""One update is the same update however it is cut: into micro-batches, or over processes."""

import math

import pytest
import torch
from torch import nn

from segtool.core.dataloading.batches import Batch
from segtool.core.losses.criterion import Criterion
from segtool.core.models.build import NetworkSpec
from segtool.core.runtime.distributed import World
from segtool.core.training.update import Updater, split_micro_batches
from segtool.errors import SegtoolError
from segtool.settings.loss import LossSettings

SPEC = NetworkSpec("toy", "toy", ("a", "b", "c"), 3, (0.5,) * 3, (0.25,) * 3, None, "fp32")


def toy() -> nn.Module:
    """About 2,000 parameters, without batch norm, and one layer that no output uses."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 3, 3, padding=1))
    network.register_module("unused", nn.Linear(2, 2))
    network.forward = lambda x: toy_forward(network, x)  # type: ignore[method-assign]
    return network


def toy_forward(network: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = network[2](network[1](network[0](x)))
    return y


def data(count: int) -> Batch:
    """Images whose ignored pixels are spread unevenly: the first has almost none left."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 16, 16, 3), generator=generator, dtype=torch.uint8)
    masks = torch.randint(0, 3, (count, 16, 16), generator=generator, dtype=torch.uint8)
    masks[0, :15] = 255
    masks[1, :, :5] = 255
    return Batch(images, masks, torch.linspace(0.5, 2, count))


def part(batch: Batch, indices: slice) -> Batch:
    return Batch(batch.images[indices], batch.masks[indices], batch.weights[indices])


def updater(
    world: World, loss: str = "ce", precision: str = "fp32", clip: float = 0.1, network: nn.Module | None = None
) -> Updater:
    network = network or toy()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    spec = NetworkSpec(**{**SPEC.__dict__, "precision": precision})
    return Updater(
        network,
        spec,
        optimizer,
        Criterion(LossSettings(loss=loss)),
        clip=clip,
        seed=0,
        device="cpu",
        world=world,
    )


def after(updates: Updater, pieces: list[Batch], steps: int = 3) -> tuple[list[float], dict[str, torch.Tensor]]:
    losses = [updates.step(pieces, 1.0, 0, step) for step in range(steps)]
    return losses, {name: value.clone() for name, value in updates.network.state_dict().items()}


def assert_same(
    one: tuple[list[float], dict[str, torch.Tensor]], other: tuple[list[float], dict[str, torch.Tensor]]
) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    for name, value in one[1].items():
        assert torch.allclose(value, other[1][name], atol=1e-6), name
    assert not torch.equal(one[1]["0.weight"], toy().state_dict()["0.weight"]), "nothing was learnt"


def test_accumulation_gives_the_single_update() -> None:
    batch = data(8)
    whole = after(updater(World()), [batch])
    pieces = [part(batch, slice(i, i + 2)) for i in range(0, 8, 2)]
    assert_same(whole, after(updater(World()), pieces))


def test_accumulation_counts_pixels_with_their_class_weights() -> None:
    def step(pieces: list[Batch]) -> tuple[list[float], dict[str, torch.Tensor]]:
        made = updater(World())
        made.criterion = Criterion(LossSettings(loss="ce+focal", label_smoothing=0.1), (0.25, 1.0, 4.0))
        return after(made, pieces)

    batch = data(8)
    assert_same(step([batch]), step([part(batch, slice(i, i + 2)) for i in range(0, 8, 2)]))


@pytest.mark.parametrize("loss", ["ce", "ce+dice", "topk"])
def test_the_weight_of_an_image_alone_in_its_update_counts(loss: str) -> None:
    """As with --batch 1: half the weight, half the loss and half the step."""
    batch, steps = part(data(3), slice(2, 3)), []
    for weight in (1.0, 0.5):
        losses, after_step = after(
            updater(World(), loss, clip=0.0), [batch._replace(weights=torch.tensor([weight]))], steps=1
        )
        steps.append((losses[0], after_step["0.weight"] - toy().state_dict()["0.weight"]))
    assert steps[1][0] == pytest.approx(steps[0][0] / 2)
    torch.testing.assert_close(steps[1][1], steps[0][1] / 2, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_mixed_precision_comes_near_the_full_one(precision: str) -> None:
    exact = after(updater(World(), "ce+dice"), [data(4)])
    mixed = after(updater(World(), "ce+dice", precision), [data(4)])
    assert mixed[0] == pytest.approx(exact[0], rel=0.02)
    assert not torch.equal(mixed[1]["0.weight"], exact[1]["0.weight"])


def test_clipping_bounds_the_step() -> None:
    before = toy().state_dict()
    moved = after(updater(World(), clip=1e-3), [data(4)], steps=1)[1]
    step = torch.cat([(moved[name] - before[name]).flatten() for name in before])
    assert float(step.norm()) == pytest.approx(0.5 * 1e-3, rel=1e-3)


def test_an_all_ignored_update_changes_nothing() -> None:
    batch = data(4)
    ignored = Batch(batch.images, torch.full_like(batch.masks, 255), batch.weights)
    losses, weights = after(updater(World(), "ce+dice"), [ignored], steps=1)
    assert losses == [0.0]
    assert all(torch.equal(value, weights[name]) for name, value in toy().state_dict().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_an_update_that_is_not_finite_moves_nothing(fault: str, precision: str) -> None:
    layers = toy()
    layers.register_module("norm", nn.BatchNorm2d(3))
    broken = updater(World(), precision=precision, network=layers)
    # As a square root at zero: the loss is finite and its gradient is not.
    bend = (lambda x: (x * 0).abs().sqrt()) if fault == "gradient" else (lambda x: x * math.nan)
    norm = layers.get_submodule("norm")
    layers.forward = lambda x: norm(bend(toy_forward(layers, x))) + toy_forward(layers, x)
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    assert math.isnan(broken.step([data(4)], 1.0, 0, 5))
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())
    assert not broken.optimizer.state
    layers.forward = lambda x: toy_forward(layers, x)
    assert math.isfinite(broken.step([data(4)], 1.0, 0, 6))
    assert not torch.equal(layers.state_dict()["0.weight"], before["0.weight"])


def test_loss_scaling_seeks_its_scale_without_a_fault() -> None:
    scaled = updater(World(), precision="fp16")
    scaled.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    losses, _ = after(scaled, [data(4)], steps=30)
    assert all(map(math.isfinite, losses))
    assert scaled.scaler.get_scale() < 2.0**30
    assert losses[-1] < losses[0]


def test_clipping_comes_after_unscaling() -> None:
    before = toy().state_dict()
    moved = after(updater(World(), precision="fp16", clip=1e-3), [data(4)], steps=1)[1]
    step = torch.cat([(moved[name] - before[name]).flatten() for name in before])
    assert float(step.norm()) == pytest.approx(0.5 * 1e-3, rel=1e-2)


def test_short_memory_gives_the_same_update_from_fewer_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, seen = data(8), []
    whole = after(updater(World()), [batch])
    short = updater(World())
    forward = short.network.forward

    def at_most_two(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        if len(images) > 2:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return forward(images)

    short.network.forward = at_most_two  # type: ignore[method-assign]
    assert_same(whole, after(short, [batch]))
    assert seen == [8, 4] + [2] * 4 * 3
    again = updater(World())
    again.load(short.network.state_dict(), short.state())
    assert again.micro_splits == 4, "forgotten"
    short.network.forward = lambda images: at_most_two(torch.cat([images] * 3))  # type: ignore[method-assign]
    with pytest.raises(SegtoolError, match="out of memory with one image at a time"):
        short.step([batch], 1.0, 0, 0)


def test_pieces_hold_all_images_once_also_of_odd_numbers() -> None:
    parts = split_micro_batches([data(5), data(2)], 3)
    assert [len(part.images) for part in parts] == [2, 2, 1, 1, 1, 0]
