"""Checkpoints of a run folder: which are kept, and which state a run goes on from."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segtool.core.models.build import NetworkSpec
from segtool.core.runtime.distributed import World
from segtool.core.training import checkpoints
from segtool.core.training.state import TrainingState
from segtool.errors import SegtoolError

SPEC = NetworkSpec("unet", "resnet18", ("a", "b"), 3, (0.5,) * 3, (0.5,) * 3, None, "fp32")


class Parts:
    """What a checkpoint needs of an updater."""

    spec = SPEC
    world = World()

    def __init__(self) -> None:
        self.network = nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}


def save(folder: Path, epochs: range, keep: int) -> None:
    parts: Any = Parts()
    for epoch in epochs:
        state = TrainingState(epochs.stop, epoch=epoch, history=[{"epoch": float(epoch), "valid_loss": 0.0}])
        checkpoints.Checkpoints(folder, parts, state).save_epoch(keep)


def test_the_last_epochs_are_kept_and_files_of_a_user_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "epoch_001_good.pt").write_bytes(b"mine")
    save(tmp_path, range(1, 5), keep=2)
    assert sorted(p.name for p in tmp_path.glob("*.pt")) == [
        "epoch_001_good.pt",
        "epoch_003.pt",
        "epoch_004.pt",
        "last.pt",
    ]


def test_a_broken_last_state_is_replaced_by_the_newest_epoch(tmp_path: Path) -> None:
    save(tmp_path, range(999, 1002), keep=3)
    (tmp_path / "last.pt").unlink()
    (tmp_path / "last.pt").write_bytes(b"half")
    state = checkpoints.find_state(tmp_path)
    assert state is not None and state["epoch"] == 1001


def test_no_state_and_no_readable_state(tmp_path: Path) -> None:
    assert checkpoints.find_state(tmp_path) is None
    (tmp_path / "last.pt").write_bytes(b"half")
    with pytest.raises(SegtoolError, match=r"last\.pt is truncated.*remove it to start this run again"):
        checkpoints.find_state(tmp_path)


def test_the_history_has_scores_in_full_times_rounded_and_whole_numbers_whole(tmp_path: Path) -> None:
    row = {"epoch": 1, "miou": 0.0779354336596, "skipped": 0, "images_per_s": 63.1377, "seconds": 0.4949}
    checkpoints.write_history(tmp_path / "history.csv", [row, {**row, "epoch": 2, "miou": math.nan, "swa_miou": 0.1}])
    assert (tmp_path / "history.csv").read_text().splitlines() == [
        "epoch,miou,skipped,images_per_s,seconds,swa_miou",
        "1,0.0779354336596,0,63.14,0.49,",
        "2,,0,63.14,0.49,0.1",
    ]
