"""What may come in a night: NaN losses, short memory, signals, full disks, kills; a run ends as it would have."""

import contextlib
import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Type

from segtool.core.training import checkpoints
from segtool.core.training.trainer import Trainer
from segtool.core.training.update import Updater

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
# Three updates an epoch.
TRAIN = f"train tiny {NETWORK} --batch 2 --epochs 4"
# Six, of single images that are large enough for it.
ONES = f"train tiny {NETWORK} --batch 1 --resize 64 --epochs 4"
SHORT_MEMORY = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
SPEED = {"images_per_s", "peak_memory_mb", "seconds", "train_seconds"}


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open() as file:
        return [
            {k: float(v) if v else math.nan for k, v in row.items() if k not in SPEED} for row in csv.DictReader(file)
        ]


def state(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every tensor and plain value of a checkpoint, by its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in SPEED:
                yield from flat(inner, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{name}/{number}")
    else:
        yield name, value


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, average, optimizer, course, tables and pictures, bit for bit."""
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    for name in (name for name in names if name.endswith(".pt")):
        a, b = dict(flat(state(one / name))), dict(flat(state(other / name)))
        assert a.keys() == b.keys()
        for place, value in a.items():
            same = torch.equal(value, b[place]) if isinstance(value, torch.Tensor) else repr(value) == repr(b[place])
            assert same, (name, place)
    assert repr(history(one)) == repr(history(other))
    for path in (path for path in one.rglob("*.*") if path.suffix in (".csv", ".png") and path.name != "history.csv"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path.name


def at_update(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[Trainer], None]) -> None:
    """Do something when so many updates of this process are done."""
    update, done = Trainer.step, [0]

    def counted(self: Trainer, *args: Any) -> None:
        update(self, *args)
        done[0] += 1
        if done[0] == number:
            act(self)

    monkeypatch.setattr(Trainer, "step", counted)


def stop(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """SIGTERM comes in this update."""
    at_update(monkeypatch, number, lambda _: os.kill(os.getpid(), signal.SIGTERM))


def train_with_stops(
    line: str, run: str, typed: Type, monkeypatch: pytest.MonkeyPatch, every: int | Callable[[], int]
) -> int:
    """The same command until it is done, stopped by SIGTERM after so many updates each time."""
    stops = 0
    while True:
        with monkeypatch.context() as patch:
            stop(patch, every() if callable(every) else every)
            ended = typed(f"{line} -o {run}")
        if ended.status == 0:
            return stops
        assert (ended.status, "stopped by SIGTERM" in ended.stderr) == (143, True), ended.stderr
        stops += 1


@pytest.mark.parametrize(
    "options",
    [
        "--lookahead --optimizer radam --schedule onecycle --encoder-lr-scale 0.1",
        "--ema 0.9 --schedule cosine --restarts 2 --keep-last 2 --accumulate 2",
        "--schedule plateau --plateau-patience 1 --monitor loss --lr 0.3",
        "--freeze-encoder 2 --init base --ema 0.5 --schedule poly --clip 0.5",
        "--precision fp16 --schedule cyclic --lookahead --ema 0.99",
        "--patience 1 --monitor loss --lr 0.3 --epochs 9 --save-images 2",
    ],
)
def test_a_run_stopped_again_and_again_ends_as_one_never_stopped(
    options: str, tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--init" in options:
        assert typed(f"{TRAIN} --epochs 1 -o base").status == 0
    assert typed(f"{TRAIN} {options} -o whole").status == 0
    assert train_with_stops(f"{TRAIN} {options}", "stopped", typed, monkeypatch, every=2) >= 2
    assert_same_run(tiny.parent / "whole", tiny.parent / "stopped")


# Losses that are not finite.


def diverge(monkeypatch: pytest.MonkeyPatch, when: Callable[[Updater], bool]) -> None:
    losses = Updater._losses

    def broken(self: Updater, *args: Any) -> float:
        loss = losses(self, *args)
        return math.nan if when(self) else loss

    monkeypatch.setattr(Updater, "_losses", broken)


def rate_above(limit: float) -> Callable[[Updater], bool]:
    return lambda updater: float(updater.optimizer.param_groups[0]["lr"]) > limit


def test_a_few_bad_updates_are_left_out_and_counted(tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]

    def fourth_to_seventh(_: Updater) -> bool:
        calls[0] += 1
        return 4 <= calls[0] <= 7

    diverge(monkeypatch, fourth_to_seventh)
    assert typed(f"{ONES} -o run").status == 0
    rows = history(tiny.parent / "run")
    # One too few in a row to go back.
    assert [row["skipped"] for row in rows] == [3, 1, 0, 0]
    assert [row["rollbacks"] for row in rows] == [0, 0, 0, 0]
    assert all(math.isfinite(row["train_loss"]) for row in rows)


def test_bad_updates_in_a_row_go_back_to_the_last_epoch_at_half_the_rate(
    tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The rate rises by 0.01 / 13 an update: from the eighth on it is too high.
    line = f"{ONES} --schedule constant --warmup 2 --lr 0.01 --ema 0.9"
    diverge(monkeypatch, rate_above(0.006))
    assert typed(f"{line} -o whole").status == 0
    rows = history(tiny.parent / "whole")
    assert [row["rollbacks"] for row in rows] == [0, 1, 1, 1]
    assert rows[-1]["lr"] == pytest.approx(0.005)
    assert not any(row["skipped"] for row in rows)
    assert "back to the start of epoch 2, at half the learning rate (rollback 1 of at most 3)" in caplog.text
    assert not (tiny.parent / "whole" / checkpoints.EPOCH_START).exists()
    for every in (4, 5):
        train_with_stops(line, f"stopped{every}", typed, monkeypatch, every)
        assert_same_run(tiny.parent / "whole", tiny.parent / f"stopped{every}")


def test_a_rollback_in_the_first_epoch_starts_anew(tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    line = f"{ONES} --epochs 2 --schedule constant --warmup 0 --lr 0.002 --lookahead"
    assert typed(f"{line.replace('0.002', '0.001')} -o expected").status == 0
    diverge(monkeypatch, rate_above(0.001))
    assert typed(f"{line} -o run").status == 0
    expected, run = (state(tiny.parent / name / "last.pt")["weights"] for name in ("expected", "run"))
    assert all(torch.equal(value, run[name]) for name, value in expected.items())
    train_with_stops(line, "stopped", typed, monkeypatch, every=4)
    assert_same_run(tiny.parent / "run", tiny.parent / "stopped")


@pytest.mark.parametrize("lr", ["1e30", "0.001"])
def test_a_run_that_stays_broken_ends_with_a_clear_line(
    lr: str, tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if lr == "0.001":
        diverge(monkeypatch, rate_above(0))
    ended = typed(f"{TRAIN} --warmup 0 --lr {lr} -o run")
    assert ended.status == 1
    assert "even after 3 rollbacks that each halved the learning rate" in ended.stderr and "--clip 1" in ended.stderr
    assert caplog.text.count("back to the start of epoch") == 3


# Memory, disks, signals.


def test_short_memory_is_said_once_and_remembered(
    tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backward, seen = Updater._backward, []

    def short(self: Updater, batch: Any, *args: Any) -> torch.Tensor:
        seen.append(len(batch.images))
        if len(batch.images) > 2:
            raise MemoryError(SHORT_MEMORY)
        return backward(self, batch, *args)

    monkeypatch.setattr(Updater, "_backward", short)
    line = f"{ONES} --batch 6"
    with monkeypatch.context() as patch:
        stop(patch, 2)
        assert typed(f"{line} -o run").status == 143
    assert seen == [6, 3] + [2, 2, 1, 1] * 2
    assert caplog.text.count("out of memory: from now on") == 2
    caplog.clear()
    seen.clear()
    assert typed(f"{line} -o run").status == 0
    assert seen == [2, 2, 1, 1] * 2
    assert "out of memory" not in caplog.text


def test_memory_that_is_short_for_one_image_is_one_clear_line(
    tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: Any) -> torch.Tensor:
        raise RuntimeError(SHORT_MEMORY)

    monkeypatch.setattr(Updater, "_backward", short)
    ended = typed(f"{TRAIN} -o run")
    assert ended.status == 1
    assert "out of memory with one image at a time" in ended.stderr


def test_a_disk_that_fills_at_a_checkpoint_leaves_the_last_good_one(
    tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = torch.save, [0]

    def full(content: Any, file: Any) -> None:
        saved[0] += 1
        # last.pt and best.pt of the first epoch were the first two.
        if saved[0] == 3:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(content, file)

    assert typed(f"{TRAIN} --keep-last 1 -o whole").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        ended = typed(f"{TRAIN} --keep-last 1 -o run")
    assert ended.status == 1
    assert "the disk is full" in ended.stderr
    run = tiny.parent / "run"
    assert state(run / "last.pt")["epoch"] == 1
    assert not list(run.glob(".tmp-*"))
    assert typed(f"{TRAIN} --keep-last 1 -o run").status == 0
    assert_same_run(tiny.parent / "whole", run)


@pytest.mark.parametrize("saves", range(1, 9))
def test_a_kill_between_any_two_files_is_mended(
    saves: int, tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no epoch is left to train: what the stamp says of best.pt is what it holds."""

    class KilledError(BaseException):
        pass

    save, saved = checkpoints.save_checkpoint, [0]

    def killed(*args: Any, **kwargs: Any) -> None:
        saved[0] += 1
        if saved[0] == saves:
            raise KilledError
        save(*args, **kwargs)

    line = f"{TRAIN} --epochs 2 --ema 0.5"
    assert typed(f"{line} -o whole").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", killed)
        with contextlib.suppress(KilledError):
            typed(f"{line} -o run")
    assert typed(f"{line} -o run").status == 0
    assert_same_run(tiny.parent / "whole", tiny.parent / "run")


def test_a_signal_during_validation_loses_no_update(tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed(f"{TRAIN} -o whole").status == 0
    with monkeypatch.context() as patch:
        stop(patch, 6)
        assert typed(f"{TRAIN} -o run").status == 143
    course = state(tiny.parent / "run" / "last.pt")["course"]
    assert (course["epoch"], course["update"]) == (1, 3)
    assert typed(f"{TRAIN} -o run").status == 0
    assert_same_run(tiny.parent / "whole", tiny.parent / "run")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("launcher", ["alone", "torchrun"])
def test_a_signal_to_the_whole_group_ends_with_a_checkpoint(
    launcher: str, number: int, status: int, tiny: Path, tmp_path: Path
) -> None:
    """As a terminal or a job scheduler sends it: to data workers, launcher and all processes at once."""
    line = f"train tiny {NETWORK} --batch 4 --epochs 400 --workers 1 -o run --ema 0.9".split()
    command = [sys.executable, "-m", "segtool", *line]
    if launcher == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command[1:]]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True)
    while not (tmp_path / "run" / "best.pt").exists():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    if launcher == "alone":
        assert process.returncode == status, stderr.decode()
        assert b"Traceback" not in stderr
    kept = state(tmp_path / "run" / "last.pt")["course"]
    assert not (tmp_path / "run" / "done.json").exists()
    assert kept["update"] or kept["epoch"]
