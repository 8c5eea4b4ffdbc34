"""Two processes make the update of one, also when one of them runs out of memory in the middle of it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_mixed_update import snap_updater, snapped
from test_update import after, assert_same, data, part, updater
from torch import nn

from segtool.core.runtime.distributed import World, join
from segtool.core.training.update import Updater, split_micro_batches
from segtool.errors import SegtoolError

Result = tuple[list[float], dict[str, torch.Tensor]]
SHORT_MEMORY = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"


def short_of_memory(made: Updater, most: int, when: str) -> Updater:
    """With more images the forward pass fails, or in it the backward pass."""
    network, forward = made.network, made.network.forward

    class Short(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(SHORT_MEMORY)

    def too_much(images: torch.Tensor) -> torch.Tensor:
        if len(images) <= most:
            return forward(images)
        if when == "forward":
            raise MemoryError(SHORT_MEMORY)
        return Short.apply(forward(images))

    network.forward = too_much  # type: ignore[method-assign]
    return made


def accumulated(world: World) -> Result:
    batch, rank = data(8), world.rank
    return after(updater(world), [part(batch, slice(i + rank, i + 4, 2)) for i in (0, 4)])


def snapmixed(world: World) -> Result:
    return after(snap_updater(world), [split_micro_batches([snapped()], 2)[world.rank]])


def short(when: str) -> Callable[[World], Result]:
    """In one of the two processes there is memory for two of four images."""

    def run(world: World) -> Result:
        made = updater(world)
        if world.rank == (when == "forward"):
            short_of_memory(made, 2, when)
        result = after(made, [part(data(8), slice(world.rank, 8, 2))])
        assert made.micro_splits == 2
        return result

    return run


def statistics(world: World) -> Result:
    """The second process has weights and statistics of its own, until it is told those of the first."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    network[0].weight.data += world.rank
    made = Updater(network, **{**like_others(updater(World())), "world": world, "ema": 0.5})
    started = network[0].weight.detach().clone()
    for step in range(2):
        made.step([part(data(8), slice(4 * world.rank, 4 * world.rank + 4))], 1.0, 0, step)
    own = network[1].running_mean.clone()
    made.sync_statistics()
    return [], {"start": started, "own": own, **network.state_dict(), "ema": made.average.network[1].running_mean}


def like_others(made: Updater) -> dict[str, object]:
    names = ("spec", "criterion", "clip", "seed", "device")
    # Its rate is 0: nothing but statistics moves.
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0)
    optimizer.param_groups[0]["base_lr"] = 0.0
    return {name: getattr(made, name) for name in names} | {"optimizer": optimizer}


CASES = {"accumulated": accumulated, "snapmixed": snapmixed, "statistics": statistics} | {
    f"short in the {when} pass": short(when) for when in ("forward", "backward")
}


def one_process(rank: int, port: int, folder: str) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    with join("cpu") as world:
        assert world.gather(rank) == [0, 1]
        assert world.run_on_main(lambda: "told") == "told"
        torch.save({name: run(world) for name, run in CASES.items()}, Path(folder) / f"{rank}.pt")
        # One image is too much for one of them: both end, and neither waits for the other.
        hopeless = updater(world)
        if rank:
            short_of_memory(hopeless, 0, "forward")
        with pytest.raises(SegtoolError, match="out of memory with one image at a time"):
            hopeless.step([part(data(8), slice(rank, 8, 2))], 1.0, 0, 0)
        dist.barrier()


@pytest.fixture(scope="module")
def of_both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Result]]:
    """What both processes have come to in each case."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_process, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", ["accumulated", "short in the forward pass", "short in the backward pass"])
def test_two_processes_give_the_single_update(case: str, of_both: list[dict[str, Result]]) -> None:
    whole = after(updater(World()), [data(8)])
    for results in of_both:
        assert_same(whole, results[case])


def test_two_processes_give_the_single_update_of_snapmix(of_both: list[dict[str, Result]]) -> None:
    losses, weights = after(snap_updater(World()), [snapped()])
    for results in of_both:
        assert results["snapmixed"][0] == pytest.approx(losses, rel=1e-5)
        for name, value in weights.items():
            assert torch.allclose(value, results["snapmixed"][1][name], atol=1e-6), name


def test_weights_and_statistics_are_those_of_the_first_process(of_both: list[dict[str, Result]]) -> None:
    one, other = (results["statistics"][1] for results in of_both)
    assert not torch.equal(one["own"], other["own"])
    assert torch.equal(one["own"], one["1.running_mean"])
    for name in one.keys() - {"own"}:
        assert torch.equal(one[name], other[name]), name
