"""What trackers have written is read back; they go on after a kill, change nothing, and stop nothing."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, Type

from segtool.core.tables import read_csv
from segtool.core.tracking import trackers as module
from segtool.core.tracking.tracker import PACKAGES, Target
from segtool.core.tracking.trackers import Trackers
from segtool.core.training.trainer import Trainer

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 2"
TRAIN = f"train tiny {NETWORK} --epochs 3 --save-images 1"


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account and no server, whatever the machine has."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("HOME", str(tmp_path))


def weights(run: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(f"{run}/best.pt", weights_only=True)["weights"]
    return found


def log_records(content: bytes) -> Iterator[bytes]:
    """The records of a log in LevelDB's format, behind W&B's header of 7 bytes; blocks are of 32 KiB."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        # Whole, or the last part.
        if kind in (1, 4):
            yield parts
            parts = b""


def wandb_records(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]], set[str]]:
    """The settings, logged values and run ids in W&B's offline files."""
    from wandb.proto import wandb_internal_pb2

    settings: dict[str, Any] = {}
    history, ids = [], set()
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for data in log_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
                settings |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return settings, history, ids


def test_a_run_that_was_stopped_goes_on_in_all_trackers(
    typed: Type, segtool: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(f"{TRAIN} -o plain").status == 0
    follow = f"{TRAIN} -o run --track tensorboard --track wandb --track mlflow --track-every 1"
    step, calls = Trainer.step, []

    def stops_once(self: Trainer, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(Trainer, "step", stops_once)
    stopped = typed(follow)
    assert stopped.status == 130 and "switched off" not in stopped.stderr
    ids = json.loads(Path("run/tracking.json").read_text())
    # In a process of its own, as after any kill.
    resumed = segtool(*follow.split())
    assert resumed.returncode == 0 and "switched off" not in resumed.stderr, resumed.stderr
    assert json.loads(Path("run/tracking.json").read_text()).items() >= ids.items()
    # The result is that of a run that nobody looked at; its stamp is the same.
    one, other = weights("plain"), weights("run")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert "up to date" in typed(f"{TRAIN} -o run").stdout
    epochs = {int(row["epoch"]): float(row["miou"]) for row in read_csv(Path("run/history.csv"))}
    updates = list(range(1, 10))

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("run/tensorboard", size_guidance={"images": 0, "scalars": 0}).Reload()
    assert {e.step: e.value for e in events.Scalars("epoch/miou")} == pytest.approx(epochs)
    assert [e.step for e in events.Scalars("update/loss")] == updates
    tags = events.Tags()
    (picture,) = tags["images"]
    assert picture.startswith("validation/train_") and [e.step for e in events.Images(picture)] == [1, 2, 3]

    settings, history, runs = wandb_records(Path("run"))
    assert runs == {ids["wandb"]} and settings["encoder"] == "tu-test_efficientnet" and settings["epochs"] == 3
    assert {row["epoch"]: row["epoch/miou"] for row in history if "epoch/miou" in row} == pytest.approx(epochs)
    assert sorted({row["update"] for row in history if "update/loss" in row}) == updates
    masks = [row["epoch/validation/all_masks"] for row in history if "epoch/validation/all_masks" in row]
    assert len(masks) == 3 and set(masks[0][0]) == {"truth", "prediction"}

    from mlflow import MlflowClient

    client = MlflowClient()
    assert client.get_run(ids["mlflow"]).data.params["loss"] == "ce+dice"
    found = client.get_metric_history(ids["mlflow"], "epoch/miou")
    assert {metric.step: metric.value for metric in found} == pytest.approx(epochs)
    assert sorted({metric.step for metric in client.get_metric_history(ids["mlflow"], "update/loss")}) == updates
    assert client.get_run(ids["mlflow"]).info.status == "FINISHED"
    assert len(client.list_artifacts(ids["mlflow"], "validation")) == 3
    # A finished run is sent afterwards, and not twice.
    ended = typed("track plain run --to tensorboard")
    assert ended.stdout.startswith("1 run(s) sent to tensorboard; 1 were there already")
    events = EventAccumulator("plain/tensorboard", size_guidance={"scalars": 0}).Reload()
    assert {e.step: e.value for e in events.Scalars("epoch/miou")} == pytest.approx(epochs)
    assert "0 run(s)" in typed("track plain run --to tensorboard").stdout


class Broken:
    """A tracker whose calls fail, or hang."""

    def __init__(self, hang: bool = False) -> None:
        self.hang, self.got = hang, 0

    def scalars(self, *args: Any) -> None:
        self.got += 1
        if self.hang:
            threading.Event().wait()
        raise OSError(28, "No space left on device")

    images = scalars

    def close(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(("hang", "told"), [(False, "No space left"), (True, "has not answered")])
def test_a_tracker_that_fails_or_hangs_is_switched_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, hang: bool, told: str
) -> None:
    broken = Broken(hang)
    monkeypatch.setattr(module, "_create", lambda name, target: broken)
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with Trackers(["tensorboard"], Target(tmp_path, "p", {}, ())) as trackers:
        for step in range(100):
            trackers.scalars("update", {"loss": 1.0}, step)
    assert broken.got == 1 and not trackers
    (message,) = [record.getMessage() for record in caplog.records]
    assert "--track tensorboard is switched off, and the run goes on" in message and told in message


def test_a_sending_that_failed_is_not_taken_for_one_that_was_made(
    typed: Type, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(f"train tiny {NETWORK} --epochs 1 -o run").status == 0
    with monkeypatch.context() as patch:
        patch.setattr(module, "_create", lambda name, target: target.keep_id(name, "begun") or Broken())
        for _ in range(2):
            ended = typed("track run --to tensorboard")
            assert ended.status == 1 and "was not sent to tensorboard" in ended.stderr
    assert typed("track run --to tensorboard").stdout.startswith("1 run(s) sent")


def test_steps_before_the_first_checkpoint_are_not_there_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    target = Target(tmp_path, "p", {}, ())
    for steps in (3, 5):
        with Trackers(["tensorboard"], target) as trackers:
            for step in range(1, steps + 1):
                trackers.scalars("update", {"loss": 1.0}, step)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("update/loss")] == [1, 2, 3, 4, 5]


def test_unknown_and_missing_trackers_are_refused_before_the_engine(
    typed: Type, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unknown tracker; did you mean tensorboard?" in typed(f"{TRAIN} -o x --track tensorbord").stderr
    monkeypatch.setitem(PACKAGES, "wandb", "no_such_package")
    ended = typed(f"{TRAIN} -o x --track wandb")
    assert ended.status == 2 and "pip install 'segtool[tracking]'" in ended.stderr and not Path("x").exists()
    assert typed("track nothing --to mlflow").status == 1
