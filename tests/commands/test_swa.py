"""`swa`: averages of epochs and runs, continued runs, and what is refused."""

import csv
import json
import math
import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Type
from PIL import Image
from torch.optim.swa_utils import AveragedModel, update_bn

from segtool.core.averaging.evaluator import CheckpointEvaluator, run_data
from segtool.core.averaging.job import read_averaging_job
from segtool.core.averaging.runs import Checkpoint
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, write_dataset
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.core.models.inputs import network_input
from segtool.core.runtime.distributed import World
from segtool.core.runtime.seeding import seed_torch
from segtool.core.training.context import RunContext
from segtool.settings.options import assemble
from segtool.settings.swa import SwaSettings

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0 --batch 2"
SWA = "swa --threads 1 --workers 0"


@pytest.fixture
def folder(tiny: Path, typed: Type, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test's folder with `tiny` and runs of it, trained once for all tests.

    `run` has kept four epochs; `tuned` started from `run`, froze its encoder, and has kept two epochs.
    """
    kept = tmp_path_factory.getbasetemp() / "swa_runs"
    if not kept.exists():
        for line in (
            "--epochs 4 --keep-last 4 -o run",
            "--epochs 2 --keep-last 2 --init run --freeze-encoder 2 --lr 1e-4 --seed 1 -o tuned",
        ):
            assert typed(f"train tiny {NETWORK} {line}").status == 0
        for run in ("run", "tuned"):
            shutil.copytree(run, kept / run)
    for run in kept.iterdir():
        shutil.copytree(run, tiny.parent / run.name, dirs_exist_ok=True)
    return tiny.parent


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def miou(path: Path) -> dict[str, float]:
    """The score of each network that was evaluated."""
    return {row["network"]: float(row["miou"] or "nan") for row in table(path / "scores.csv")}


def weights(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(path)["weights"]
    return state


def same(path: Path, other: Path) -> bool:
    a, b = weights(path), weights(other)
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def stamp(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "done.json").read_text())
    return content


def spoil(path: Path) -> None:
    """Give an intact checkpoint random weights."""
    content = load_checkpoint(path)
    generator = torch.Generator().manual_seed(0)
    for value in content["weights"].values():
        if value.is_floating_point() and value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator))
    torch.save(content, path)


# Averages of existing checkpoints.


def test_the_average_is_torchs_of_the_same_checkpoints(folder: Path, typed: Type) -> None:
    assert typed(f"{SWA} run --epochs 2-4 --keep average -o out").status == 0
    files = [Path("run") / f"epoch_00{epoch}.pt" for epoch in (2, 3, 4)]
    networks = [restore_network(load_checkpoint(file), file)[1] for file in files]
    average = AveragedModel(networks[0])
    for network in networks:
        average.update_parameters(network)
    written = weights(Path("out/swa.pt"))
    for name, value in average.module.named_parameters():
        torch.testing.assert_close(written[name], value, rtol=1e-6, atol=1e-7, msg=name)
    # Statistics of few pixels magnify the last bit of a weight, so both networks get the same weights from here on. The
    # batches are those of the command: the six training images, once each.
    average.module.load_state_dict({name: written[name] for name, _ in average.module.named_parameters()}, strict=False)
    values = {"runs": (Path("run"),), "out": Path("out"), "last": 3, "threads": 1, "workers": 0, "quiet": True}
    job = read_averaging_job(assemble(SwaSettings, values), 1)
    data = run_data(job)
    evaluator = CheckpointEvaluator(RunContext.create(job.settings, data, "cpu", World()), epoch=4, frozen=False)
    batches = list(evaluator.batches.load(evaluator.plan.everything(4)))
    assert [len(batch.images) for batch in batches] == [2, 2, 2]
    seed_torch(0, 4, 0)
    average.to(memory_format=torch.channels_last)
    update_bn([network_input(batch.images, data.spec, "cpu") for batch in batches], average)
    expected = average.module.state_dict()
    assert all(
        torch.equal(value, expected[name]) and value.dtype == expected[name].dtype for name, value in written.items()
    )
    assert same(Path("out/best.pt"), Path("out/swa.pt"))
    last = weights(files[-1])
    assert not any(torch.equal(value, last[name]) for name, value in written.items() if name.endswith("running_var"))


def test_the_output_is_a_run_like_any_other(folder: Path, typed: Type) -> None:
    ended = typed(f"{SWA} run --last 3 -o out")
    assert ended.status == 0, ended.stderr
    assert typed(f"{SWA} run --last 3 -o out").stdout == "out is up to date\n"
    assert {row["role"] for row in table(Path("out/samples.csv"))} == {"train", "valid"}
    assert Path("out/samples.csv").read_bytes() == Path("run/samples.csv").read_bytes()
    config = json.loads(Path("out/config.json").read_text())
    assert [member["file"] for member in config["swa"]["averaged"]] == ["epoch_002.pt", "epoch_003.pt", "epoch_004.pt"]
    assert config["settings"]["arch"] == "linknet"
    for subset in ("valid", "oof"):
        options = "" if subset == "valid" else "--run tuned"
        ended = typed(f"predict tiny --run out {options} --subset {subset} --threads 1 -o {subset}")
        # Both were trained on the same images: nothing is out of fold.
        assert (ended.status, "every run was trained on" in ended.stderr) == ((0, False), (2, True))[subset == "oof"]
    assert typed("evaluate tiny valid -o scores").status == 0
    (row,) = table(Path("out/history.csv"))
    scored = json.loads(Path("scores/summary.json").read_text())["miou"]
    assert scored == pytest.approx(float(row["miou"]), abs=1e-6)
    assert scored == pytest.approx(max(miou(Path("out")).values()), abs=1e-6)
    assert scored == pytest.approx(stamp(Path("out"))["best"], abs=1e-6)
    assert len(table(Path("out/per_image.csv"))) == 2
    assert typed("predict tiny --run out --checkpoint swa --subset valid --threads 1 -o swa").status == 0
    assert typed("evaluate tiny swa -o swa_scores").status == 0
    average = json.loads(Path("swa_scores/summary.json").read_text())["miou"]
    assert average == pytest.approx(float(row["swa_miou"]), abs=1e-6)
    ended = typed("predict tiny --run run --checkpoint swa -o no")
    assert (ended.status, "`segtool swa` makes one" in ended.stderr) == (2, True)
    assert typed("bundle out -o out.zip").status == 0
    assert typed("predict tiny --run out.zip --subset valid --threads 1 -o bundled").status == 0
    ended = typed(f"{SWA} out tuned -o again")
    assert ended.status == 0, ended.stderr
    assert list(miou(Path("again"))) == ["out best", "tuned best", "out best + tuned best"]


def test_an_average_that_scores_lower_is_reported_and_not_kept_by_default(folder: Path, typed: Type) -> None:
    spoil(folder / "run" / "epoch_003.pt")
    ended = typed(f"{SWA} run --last 2 -o better")
    assert ended.status == 0
    scores = miou(Path("better"))
    # An epoch's checkpoint keeps the scores it had in training.
    assert scores["run epoch 4"] == pytest.approx(float(table(Path("run/history.csv"))[3]["miou"]))
    average = scores["run epoch 3 + run epoch 4"]
    assert average < max(scores.values())
    kept = stamp(Path("better"))["kept"]
    assert scores[kept] == max(scores.values())
    assert f"better: the average of 2 checkpoints: miou {average:.4f}, best single checkpoint" in ended.stdout
    assert f"best.pt is {kept}" in ended.stdout
    assert same(Path("better/best.pt"), Path("run/best.pt"))
    assert typed(f"{SWA} run --last 2 --keep average -o average").status == 0
    assert same(Path("average/best.pt"), Path("better/swa.pt"))
    assert stamp(Path("average"))["best"] == average


def test_other_settings_are_refused_until_overwritten(folder: Path, typed: Type) -> None:
    assert typed(f"{SWA} run --last 2 -o out").status == 0
    ended = typed(f"{SWA} run --last 3 -o out")
    assert (ended.status, "last (2, now 3)" in ended.stderr) == (2, True)
    assert typed(f"{SWA} run --last 3 --overwrite -o out").status == 0
    assert len(json.loads(Path("out/config.json").read_text())["swa"]["averaged"]) == 3
    ended = typed(f"{SWA} run --last 3 -o run")
    assert (ended.status, "not an output of `segtool swa`" in ended.stderr) == (2, True)


def test_norms_of_an_encoder_that_was_frozen_keep_their_statistics(folder: Path, typed: Type) -> None:
    assert typed(f"{SWA} tuned --keep average -o out").status == 0
    before, after = weights(Path("run/best.pt")), weights(Path("out/swa.pt"))
    norms = [name for name in before if name.endswith("running_var")]
    frozen = {name for name in norms if torch.equal(before[name], after[name])}
    assert frozen == {name for name in norms if name.startswith("encoder.")}
    assert 0 < len(frozen) < len(norms)


# Greedy soups.


def test_a_greedy_soup_leaves_out_what_does_not_help_and_never_scores_below_the_best(folder: Path, typed: Type) -> None:
    shutil.copytree("run", "bad")
    spoil(Path("bad/best.pt"))
    ended = typed(f"{SWA} bad run tuned --greedy -o out")
    assert ended.status == 0, ended.stderr
    scores = miou(Path("out"))
    used = [f"{member['run']} best" for member in _averaged("out")]
    assert "bad best" not in used
    assert scores[" + ".join(used)] >= max(scores[name] for name in ("bad best", "run best", "tuned best"))
    assert scores[stamp(Path("out"))["kept"]] == max(scores.values())
    # If everything else lowers the score, the soup is the best checkpoint, unchanged.
    ended = typed(f"{SWA} bad run --greedy -o alone")
    assert "no other checkpoint improves on run best" in ended.stdout
    assert "best.pt is run best" in ended.stdout
    assert same(Path("alone/swa.pt"), Path("run/best.pt"))


def _averaged(run: str) -> list[dict[str, str]]:
    averaged: list[dict[str, str]] = json.loads((Path(run) / "config.json").read_text())["swa"]["averaged"]
    return averaged


def test_a_stopped_soup_resumes_with_the_scores_it_has(
    folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"{SWA} run tuned --last 2 --greedy"
    evaluated: list[int] = []
    evaluate = CheckpointEvaluator.evaluate

    def counted(evaluator: CheckpointEvaluator, checkpoints: Sequence[Checkpoint]) -> Any:
        if len(evaluated) == stop:
            raise KeyboardInterrupt
        evaluated.append(len(checkpoints))
        return evaluate(evaluator, checkpoints)

    monkeypatch.setattr(CheckpointEvaluator, "evaluate", counted)
    stop = -1
    assert typed(f"{line} -o whole").status == 0
    whole = evaluated.copy()
    evaluated.clear()
    stop = 4
    assert typed(f"{line} -o out").status == 130
    assert not Path("out/done.json").exists()
    stop = -1
    assert typed(f"{line} -o out").status == 0
    assert evaluated == whole
    for name in ("scores.csv", "history.csv", "per_image.csv", "samples.csv"):
        assert (Path("out") / name).read_bytes() == (Path("whole") / name).read_bytes()
    assert same(Path("out/best.pt"), Path("whole/best.pt"))


# Continued runs.


def test_a_continuation_trains_at_its_own_rate_and_averages_its_epochs(folder: Path, typed: Type) -> None:
    ended = typed(f"{SWA} run --start 0.5 --until 1.25 --swa-lr 2e-4 -o out")
    assert ended.status == 0, ended.stderr
    before, rows = table(Path("run/history.csv")), table(Path("out/history.csv"))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["train_loss"] for row in rows[:2]] == [row["train_loss"] for row in before[:2]]
    assert rows[2]["train_loss"] != before[2]["train_loss"]
    # Of three updates an epoch, the last has a rate two thirds along a cosine; after the epoch the rate is constant.
    first, last = float(before[1]["lr"]), 2e-4
    assert float(rows[2]["lr"]) == pytest.approx(last + (first - last) * 0.5 * (1 + math.cos(math.pi * 2 / 3)))
    assert [float(row["lr"]) for row in rows[3:]] == pytest.approx([last, last])
    assert _files("out") == ["epoch_003.pt", "epoch_004.pt", "epoch_005.pt"]
    assert [float(row["swa_miou"] or "nan") for row in rows[:4]] == pytest.approx([math.nan] * 4, nan_ok=True)
    scores = miou(Path("out"))
    assert float(rows[4]["swa_miou"]) == scores["out epoch 3 + out epoch 4 + out epoch 5"]
    assert {name: scores[name] for name in scores if name.startswith("out epoch 5")} == {
        "out epoch 5": float(rows[4]["miou"])
    }
    assert scores[stamp(Path("out"))["kept"]] == max(scores.values())
    assert typed(f"{SWA} out --last 2 -o again").status == 0
    assert typed("predict tiny --run out --checkpoint last:3 --subset valid --threads 1 -o preds").status == 0


def _files(run: str) -> list[str]:
    return [member["file"] for member in _averaged(run)]


def test_cycles_average_their_last_epochs_and_may_start_from_last_pt(folder: Path, typed: Type) -> None:
    for epoch in range(1, 5):
        (folder / "run" / f"epoch_00{epoch}.pt").unlink()
    ended = typed(f"{SWA} run --start 1 --until 2.25 --swa-lr 1e-3 --cycle 2 -o out")
    assert ended.status == 0, ended.stderr
    rows = table(Path("out/history.csv"))
    # A ninth epoch would begin an incomplete cycle.
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert [float(row["lr"]) for row in rows[4:]] == pytest.approx([5.5e-4, 1e-4] * 2)
    assert _files("out") == ["epoch_006.pt", "epoch_008.pt"]


def test_a_continuation_has_no_patience_plateau_or_moving_average(tiny: Path, typed: Type) -> None:
    options = "--epochs 3 --keep-last 3 --ema 0.9 --patience 1 --schedule plateau --plateau-patience 1 --monitor loss"
    assert typed(f"train tiny {NETWORK} {options} -o run").status == 0
    ended = typed(f"{SWA} run --start 0.34 -o out")
    assert ended.status == 0, ended.stderr
    rows = table(Path("out/history.csv"))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert not any("ema" in name for name in rows[0])
    assert rows[2]["swa_valid_loss"]
    # A quarter of --lr, however far plateaus reduced it.
    assert float(rows[2]["lr"]) == 2.5e-4
    lowest = min(float(row["valid_loss"]) for row in table(Path("out/scores.csv")))
    assert stamp(Path("out"))["best"] == lowest


def test_a_killed_continuation_resumes_to_the_same_result(folder: Path, typed: Type) -> None:
    line = f"{SWA} run --start 0.25 --until 2 --swa-lr 1e-3"
    assert typed(f"{line} -o out").status == 0
    Path("out").rename("whole")
    killed = 0
    for epoch in (3, 5):
        child = multiprocessing.get_context("fork").Process(target=typed, args=(f"{line} -o out",))
        child.start()
        while child.is_alive() and not Path(f"out/epoch_{epoch:03d}.pt").exists():
            time.sleep(0.002)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
    assert killed == 2, "it ended before it could be killed"
    assert not Path("out/done.json").exists()
    ended = typed(f"{line} -o out")
    assert ended.status == 0, ended.stderr
    for name in ("best.pt", "swa.pt", "last.pt", "epoch_008.pt"):
        assert same(Path("out") / name, Path("whole") / name), name
    for name in ("config.json", "samples.csv", "scores.csv", "per_image.csv"):
        assert (Path("out") / name).read_bytes() == (Path("whole") / name).read_bytes(), name
    assert not list(Path("out").glob(".tmp-*"))


def test_two_processes_give_what_one_gives(tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "--arch fpn --batch 4 --epochs 2 --keep-last 2"
    assert typed(f"train tiny {NETWORK} {options} -o run").status == 0
    line = f"{SWA} run --start 0.5 --until 1.5"
    assert typed(f"{line} -o one").status == 0
    assert _launch(typed, monkeypatch, f"{line} -o two") == [0, 0]
    assert _launch(typed, monkeypatch, f"{line} -o two") == [0, 0]
    assert stamp(Path("two"))["best"] == pytest.approx(stamp(Path("one"))["best"], abs=0.2)
    # The same checkpoints averaged by one process and by two: only the statistics may differ.
    assert typed(f"{SWA} two --last 2 -o alone").status == 0
    assert _launch(typed, monkeypatch, f"{SWA} two --last 2 -o both") == [0, 0]
    by_one, by_two = weights(Path("alone/swa.pt")), weights(Path("both/swa.pt"))
    for name, value in by_one.items():
        if "running" in name or "num_batches" in name:
            continue
        assert torch.equal(value, by_two[name]), name
    assert miou(Path("both")).keys() == miou(Path("alone")).keys()
    assert _launch(typed, monkeypatch, f"{SWA} two --last 2 -o three", world=3) == [2, 2, 2]


def _launch(typed: Type, monkeypatch: pytest.MonkeyPatch, line: str, world: int = 2) -> list[int]:
    """Start processes as a launcher does, and return their exit statuses."""

    def run(rank: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        os._exit(typed(line).status)

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for name, value in {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, str(value))
    children = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(world)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    monkeypatch.delenv("WORLD_SIZE")
    return [child.exitcode for child in children if child.exitcode is not None]


# The data of the run.


def test_training_continues_on_the_masks_of_relabel(tiny: Path, typed: Type) -> None:
    dataset = load_dataset(tiny)
    corrected = _all_stripe(dataset, [record.image_id for record in dataset.train])
    options = f"--relabel {corrected} --epochs 8 --keep-last 8 --lr 1e-2"
    assert typed(f"train tiny {NETWORK} {options} -o run").status == 0
    ended = typed(f"{SWA} run --start 0.75 --swa-lr 1e-4 -o out")
    assert ended.status == 0, ended.stderr
    before, after = ([float(row["train_loss"]) for row in table(Path(run) / "history.csv")] for run in ("run", "out"))
    assert max(after[6:]) < 1.2 * before[5] < 0.5 * before[0]
    # With the data set's own masks the loss is that of a network that has never seen them.
    job = read_averaging_job(assemble(SwaSettings, {"runs": (Path("run"),), "out": Path("no"), "last": 2}), 1)
    assert [dataset.source(record) for record in job.train] == ["relabel"] * 6
    assert all((dataset.read_mask(record) == 2).all() for record in job.train)
    assert all((dataset.read_mask(record) != 2).any() for record in job.valid)
    # The corrected masks are inputs.
    assert typed(f"{SWA} run --start 0.75 --swa-lr 1e-4 -o out").stdout == "out is up to date\n"
    for mask in corrected.parent.glob("*.png"):
        Image.new("L", (32, 32), 1).save(mask)
    ended = typed(f"{SWA} run --start 0.75 --swa-lr 1e-4 -o out")
    assert (ended.status, "relabel files" in ended.stderr) == (2, True), ended.stderr


def test_only_the_images_that_the_run_relabelled_have_new_masks(tiny: Path, typed: Type) -> None:
    dataset = load_dataset(tiny)
    corrected = _all_stripe(dataset, ["train_1", "train_2"])
    assert typed(f"train tiny {NETWORK} --relabel {corrected} --fold all --epochs 2 --keep-last 2 -o run").status == 0
    expected = ["relabel" if record.image_id in ("train_1", "train_2") else "dataset.yaml" for record in dataset.train]
    settings = assemble(SwaSettings, {"runs": (Path("run"),), "out": Path("no"), "last": 2})
    _all_stripe(dataset, ["train_1", "train_2", "train_3"])
    assert [dataset.source(record) for record in read_averaging_job(settings, 1).train] == expected
    _all_stripe(dataset, ["train_1"])
    ended = typed(f"{SWA} run --last 2 -o out")
    assert ended.status == 1
    assert "trained with a mask of image 'train_2' from --relabel" in ended.stderr
    assert not Path("out").exists()


def _all_stripe(dataset: Dataset, ids: list[str]) -> Path:
    """Masks of nothing but stripe for some images."""
    folder = dataset.path.parents[1] / "corrected"
    folder.mkdir(exist_ok=True)
    records = []
    for image_id in ids:
        Image.new("L", (32, 32), 2).save(folder / f"{image_id}.png")
        records.append(Record(image_id, dataset.by_id[image_id].image, folder / f"{image_id}.png"))
    write_dataset(folder, Dataset(folder, dataset.classes, train=tuple(records)))
    return folder / "dataset.yaml"


@pytest.mark.parametrize("extra", [False, True])
def test_a_run_that_was_trained_on_crops(extra: bool, tiny: Path, typed: Type) -> None:
    shutil.copytree(tiny, "other")
    for image in Path("other/images").iterdir():
        Image.open(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(image)
    assert typed(f"roi crop {'other' if extra else 'tiny'} --masks --margin 0.5 --classes box -o crops").status == 0
    data = "tiny --extra crops" if extra else "crops"
    options = "--resize 32x32 --epochs 2 --keep-last 2"
    assert typed(f"train {data} {NETWORK} {options} -o run").status == 0
    ended = typed(f"{SWA} run --last 2 -o out")
    assert ended.status == 0, ended.stderr
    ended = typed(f"{SWA} run --start 0.5 --until 1.5 -o continued")
    assert ended.status == 0, ended.stderr
    # A crop that no longer tells which image it was cut from is another image.
    rows = table(Path("run/samples.csv"))
    image_id = next(r["image_id"] for r in rows if r["role"] == "train" and r["source"].startswith("extra") == extra)
    path = load_dataset(Path("crops")).by_id[image_id].image
    Image.open(path).save(path)
    ended = typed(f"{SWA} run --last 2 -o refused")
    assert (ended.status, f"{path.name} has changed since run was trained" in ended.stderr) == (1, True), ended.stderr


# What is refused.


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("run --epochs 3-6", 2, "--epochs 3-6: run has not kept these epochs (it has kept 1, 2, 3, 4)"),
        ("run --last 5", 2, "--last 5: run has not kept these epochs"),
        ("run --last 1", 2, "--last"),
        ("run --epochs 4-4", 2, "'4-4' is not a range of epochs"),
        ("run --epochs 3-4 --last 2", 2, "--last and --epochs"),
        ("run run", 2, "the same run is given twice"),
        ("gone", 1, "run folder gone does not exist"),
        ("tiny", 1, "tiny is not a run folder"),
        ("run --start 0.6 --last 2", 2, "--last has no effect with --start"),
        ("run tuned --start 0.6", 2, "--start continues one run, but 2 are given"),
        ("run --cycle 2", 2, "--cycle needs --start"),
        ("run --swa-lr 0.1", 2, "--swa-lr needs --start"),
        ("run --until 2", 2, "--until needs --start"),
        ("run --start 0.5 --until 0.5", 2, "no epoch is left to train"),
        (
            "run --start 0.75",
            2,
            "between the ends of epochs 3 and 4 there is 1 epoch, and an average needs two or more",
        ),
        ("run --start 0.25 --cycle 2", 2, "between the ends of epochs 1 and 4 there is 1 cycle of 2 epochs"),
        ("bare --start 0.5", 2, "epoch 1 of 2, and bare has no checkpoint of it (it has kept none); train with --keep"),
        ("bare", 2, "bare has not kept these epochs (it has kept none); train with --keep-last N"),
        ("bare run --last 2", 2, "--last 2: bare has not kept these epochs"),
        ("run wider", 2, "only equal networks can be averaged: arch is unet in wider best, linknet in run best"),
        ("run renamed", 2, "only equal networks can be averaged: classes is ground, box, line in renamed best"),
        ("run all --greedy", 2, "--greedy: all was trained on images that run held out (such as train_"),
        ("all --last 2 --greedy", 2, "--greedy needs validation images: the runs have held out no images"),
        ("all --last 2 --keep better", 2, "--keep better needs validation images"),
    ],
)
def test_refusals(line: str, status: int, words: str, refused: Path, typed: Type) -> None:
    ended = typed(f"{SWA} {line} -o out")
    assert (ended.status, words in ended.stderr) == (status, True), ended.stderr
    assert not Path("out").exists()


@pytest.fixture
def refused(folder: Path, typed: Type, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Further runs, valid only in the parts that are read before the refusal."""
    kept = tmp_path_factory.getbasetemp() / "swa_refused"
    if not kept.exists():
        assert typed(f"train tiny {NETWORK} --epochs 2 --keep-last 2 --fold all -o {kept / 'all'}").status == 0
        for name, change in (
            ("bare", {}),
            ("wider", {"arch": "unet"}),
            ("renamed", {"classes": ["ground", "box", "line"]}),
        ):
            shutil.copytree("tuned", kept / name)
            for file in (kept / name).glob("epoch_*.pt"):
                file.unlink()
            content = load_checkpoint(kept / name / "best.pt")
            content["network"] |= change
            torch.save(content, kept / name / "best.pt")
    for run in kept.iterdir():
        shutil.copytree(run, folder / run.name)
    return folder


def test_runs_of_other_folds_are_averaged_unscored_and_all_their_images_are_seen(
    refused: Path, typed: Type, caplog: pytest.LogCaptureFixture
) -> None:
    assert typed(f"{SWA} run all -o out").status == 0
    assert "all was trained on images that run held out" in caplog.text
    assert "no validation: best.pt will be the average" in caplog.text
    assert {row["role"] for row in table(Path("out/samples.csv"))} == {"train"}
    assert same(Path("out/best.pt"), Path("out/swa.pt"))
    assert not Path("out/per_image.csv").exists()
    ended = typed("predict tiny --run out --subset valid -o preds")
    assert (ended.status, "held out no image" in ended.stderr) == (2, True)


def test_data_that_moved_or_changed(folder: Path, typed: Type) -> None:
    (folder / "tiny").rename(folder / "moved")
    ended = typed(f"{SWA} run --last 2 -o out")
    assert (ended.status, "if the data of run has moved, give --data" in ended.stderr) == (1, True)
    assert typed(f"{SWA} run --last 2 --data moved -o out").status == 0
    path = folder / "moved" / "images" / "train_0.png"
    Image.open(path).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    ended = typed(f"{SWA} run --last 2 --data moved -o other")
    assert (ended.status, "train_0.png has changed since run was trained" in ended.stderr) == (1, True)
    path.unlink()
    ended = typed(f"{SWA} run --last 2 --data moved -o other")
    assert ended.status == 1
    assert not Path("other").exists()


def test_settings_that_are_gone_or_changed(folder: Path, typed: Type) -> None:
    path = Path("run/config.json")
    config = json.loads(path.read_text())
    Path("pipeline.json").write_text("{}")
    path.write_text(json.dumps({**config, "settings": {**config["settings"], "augment": "pipeline.json"}}))
    ended = typed(f"{SWA} run --last 2 -o out")
    assert (ended.status, "pipeline.json has changed since run was trained with it" in ended.stderr) == (1, True)
    path.write_text("{}")
    ended = typed(f"{SWA} run --last 2 -o out")
    assert (ended.status, "run/config.json lacks `settings`" in ended.stderr) == (1, True)


def test_a_broken_checkpoint_is_named_and_leaves_nothing(folder: Path, typed: Type) -> None:
    content = load_checkpoint(Path("run/epoch_003.pt"))
    del content["weights"][next(iter(content["weights"]))]
    torch.save(content, "run/epoch_003.pt")
    ended = typed(f"{SWA} run --last 2 --keep average -o out")
    assert (ended.status, "epoch_003.pt holds other weights than its network has" in ended.stderr) == (1, True)
    Path("run/epoch_003.pt").write_bytes(b"half")
    ended = typed(f"{SWA} run --last 2 -o other")
    assert (ended.status, "checkpoint run/epoch_003.pt is truncated" in ended.stderr) == (1, True)
    assert not Path("other").exists()


def test_a_lost_checkpoint_file_is_made_again(folder: Path, typed: Type) -> None:
    assert typed(f"{SWA} run --start 0.5 -o out").status == 0
    before = weights(Path("out/best.pt"))
    Path("out/best.pt").unlink()
    assert typed(f"{SWA} run --start 0.5 -o out").status == 0
    after = weights(Path("out/best.pt"))
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    Path("out/best.pt").unlink()
    Path("out/epoch_003.pt").unlink()
    ended = typed(f"{SWA} run --start 0.5 -o out")
    assert (ended.status, "lost the checkpoint of epoch 3: remove out/last.pt" in ended.stderr) == (1, True)
    Path("out/last.pt").unlink()
    assert typed(f"{SWA} run --start 0.5 -o out").status == 0
    again = weights(Path("out/best.pt"))
    assert all(torch.equal(value, again[name]) for name, value in before.items())
