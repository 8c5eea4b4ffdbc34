"""`train` on data that are awkward but right: whatever it promises of its folder, its scores and its options."""

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Type
from PIL import Image

from segtool.core.training import run_folder, time_limit
from segtool.core.training.time_limit import TimeLimit
from segtool.core.training.trainer import Trainer
from segtool.values import Size

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
TRAIN = f"train tiny {NETWORK} --batch 2 --epochs 2"


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open() as file:
        return [{k: float(v) if v else math.nan for k, v in row.items()} for row in csv.DictReader(file)]


def roles(run: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "valid": set()}
    with (run / "samples.csv").open() as file:
        for row in csv.DictReader(file):
            found[row["role"]].add(row["image_id"])
    return found


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = load(one)["weights"], load(other)["weights"]
    assert all(torch.equal(value, b[key]) for key, value in a.items())


def stamp(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "done.json").read_text())
    return content


# Awkward data: each changes `tiny` in place.


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def images(mode: str, channels: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        edit(folder, channels=channels)
        for path in folder.glob("*images/*.png"):
            Image.open(path).convert(mode).save(path)

    return change


def masks(change: Callable[[np.ndarray], Image.Image]) -> Callable[[Path], None]:
    def change_all(folder: Path) -> None:
        for path in (folder / "masks").glob("*.png"):
            change(np.array(Image.open(path))).save(path)

    return change_all


def paletted(mask: np.ndarray) -> Image.Image:
    """The same ids behind colours that are no ids: palette index 1 is grey 7."""
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([value for i in range(256) for value in (7 * i % 256, i, 255 - i)])
    return image


def binary(folder: Path) -> None:
    edit(folder, classes=["ground", "box"])
    masks(lambda mask: Image.fromarray(np.where(mask == 2, 1, mask).astype(np.uint8)))(folder)


def binary_255(folder: Path) -> None:
    """Black and white masks: 255 is the foreground as long as dataset.yaml states no ignore_index."""
    edit(folder, classes=["ground", "box"])
    path = folder / "dataset.yaml"
    path.write_text(path.read_text().replace("ignore_index: 255\n", ""))
    masks(lambda mask: Image.fromarray(np.where((mask == 1) | (mask == 2), 255, 0).astype(np.uint8)))(folder)


def mixed_sizes(folder: Path) -> None:
    sizes = [(32, 32), (33, 47), (31, 65), (50, 20), (70, 33), (2, 2), (2, 40), (5, 3)]
    for index, (height, width) in enumerate(sizes):
        for kind in ("images", "masks"):
            path = folder / kind / f"train_{index}.png"
            Image.open(path).resize((width, height), Image.Resampling.NEAREST).save(path)


def odd_names(folder: Path) -> None:
    """Ids with spaces, folders and Hangul; files likewise."""
    names = ["a b", "one/two/three", "거리/장면 하나", "x.png", "NA", "001", "1e5", "été"]
    path = folder / "train.csv"
    lines = path.read_text().splitlines()
    for index, name in enumerate(names):
        for kind in ("images", "masks"):
            new = folder / kind / f"{name}.png"
            new.parent.mkdir(parents=True, exist_ok=True)
            (folder / kind / f"train_{index}.png").rename(new)
        lines[1 + index] = f"{name},images/{name}.png,masks/{name}.png,"
    path.write_text("\n".join(lines) + "\n")


def unused_class(folder: Path) -> None:
    edit(folder, classes=["ground", "box", "stripe", "never"])


def as_it_is(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (as_it_is, ""),
        (as_it_is, "--resize 48x40"),
        (as_it_is, "--resize 16x24 --crop 16x16"),
        (as_it_is, "--crop 64x40"),
        (as_it_is, "--monitor image_miou --loss ce"),
        (as_it_is, "--precision bf16"),
        (as_it_is, "--precision fp16 --clip 1"),
        (as_it_is, "--accumulate 3 --clip 0.1 --optimizer lookahead_radam --schedule constant"),
        (as_it_is, "--batch 20 --accumulate 2 --scale 1,1 --hflip 0 --brightness 0 --contrast 0"),
        (images("L", 1), "--crop 24x40"),
        (images("RGBA", 4), "--crop 40x24"),
        (images("RGBA", 4), "--mean 0.1,0.2,0.3,0.4 --std 0.5,0.5,0.5,0.5"),
        (images("L", 3), ""),
        (binary, "--loss dice"),
        (binary_255, "--monitor dice"),
        (mixed_sizes, "--batch 3"),
        (mixed_sizes, "--crop 24x24"),
        (mixed_sizes, "--resize 40x33"),
        (odd_names, ""),
        (unused_class, ""),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_best_score_in_the_history_is_what_predict_and_evaluate_give(
    change: Callable[[Path], None], options: str, tiny: Path, typed: Type
) -> None:
    change(tiny)
    assert typed(f"{TRAIN} {options} -o run").status == 0
    assert typed("predict tiny --run run --subset valid --threads 1 -o preds").status == 0
    assert typed("evaluate tiny preds -o scores").status == 0
    rows, done = history(tiny.parent / "run"), stamp(tiny.parent / "run")
    summary = json.loads((tiny.parent / "scores" / "summary.json").read_text())
    best = rows[done["best_epoch"] - 1]
    assert best[done["monitor"]] == max(row[done["monitor"]] for row in rows) == done["best"]
    assert all(math.isfinite(row["train_loss"]) and math.isfinite(row["valid_loss"]) for row in rows)
    for name in ("miou", "image_miou", "dice", "pixel_accuracy"):
        assert best[name] == pytest.approx(summary[name], abs=1e-6), name
    for name, iou in summary["iou"].items():
        assert best[f"iou_{name}"] == pytest.approx(math.nan if iou is None else iou, abs=1e-6, nan_ok=True)
    # What train keeps of that epoch is what evaluate writes.
    for name in ("per_image.csv", "pixel_counts.csv"):
        one, other = ((tiny.parent / folder / name).read_text() for folder in ("run", "scores"))
        assert one == other
    for image_id in roles(tiny.parent / "run")["valid"]:
        truth = Image.open(tiny / "masks" / f"{image_id}.png")
        assert Image.open(tiny.parent / "preds" / "masks" / f"{image_id}.png").size == truth.size


@pytest.mark.parametrize(
    "change",
    [
        masks(paletted),
        masks(lambda mask: Image.fromarray(mask.astype(np.uint16))),
        lambda folder: (
            edit(folder, ignore_index=1000),
            masks(lambda mask: Image.fromarray(np.where(mask == 255, 1000, mask.astype(np.uint16))))(folder),
        ),
    ],
    ids=["palette", "16 bit", "another ignore_index"],
)
def test_masks_in_another_form_give_the_same_weights(change: Callable[[Path], None], tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o plain").status == 0
    change(tiny)
    assert typed(f"{TRAIN} -o other").status == 0
    assert_same_weights(tiny.parent / "plain/last.pt", tiny.parent / "other/last.pt")


@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_the_mask_of_an_image_of_weight_0_changes_nothing(loss: str, tiny: Path, typed: Type) -> None:
    path = tiny / "train.csv"
    lines = path.read_text().splitlines()
    garbage = Image.fromarray(np.random.default_rng(0).integers(0, 3, (32, 32)).astype(np.uint8))
    runs = {}
    for weight in (0, 1):
        path.write_text(f"{lines[0]},weight\n{lines[1]},{weight}\n" + "".join(f"{x},1\n" for x in lines[2:]))
        right = (tiny / "masks" / "train_0.png").read_bytes()
        for mask in ("right", "garbage"):
            runs[weight, mask] = f"run_{weight}_{mask}"
            assert typed(f"{TRAIN} --loss {loss} -o {runs[weight, mask]}").status == 0
            garbage.save(tiny / "masks" / "train_0.png")
        (tiny / "masks" / "train_0.png").write_bytes(right)
    losses = {key: [row["train_loss"] for row in history(tiny.parent / run)] for key, run in runs.items()}
    assert losses[0, "right"] == losses[0, "garbage"]
    assert_same_weights(tiny.parent / runs[0, "right"] / "last.pt", tiny.parent / runs[0, "garbage"] / "last.pt")
    assert losses[1, "right"] != losses[1, "garbage"]


def test_training_on_everything_has_no_validation_and_its_best_is_its_last(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --fold all -o run").status == 0
    run = tiny.parent / "run"
    assert roles(run) == {"train": {f"train_{i}" for i in range(8)}, "valid": set()}
    assert_same_weights(run / "best.pt", run / "last.pt")
    assert load(run / "best.pt")["epoch"] == 2
    assert not (run / "per_image.csv").exists()
    assert all(math.isnan(row["miou"]) and math.isnan(row["valid_loss"]) for row in history(run))


def test_without_folds_the_same_fifth_is_held_out_for_any_seed_and_it_says_so(
    tiny: Path, typed: Type, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (0, 1):
        assert typed(f"{TRAIN} --seed {seed} -o run{seed}").status == 0
        assert "no --folds given: a fixed 2 of 8 images are held out" in caplog.text
        caplog.clear()
    one, other = (tiny.parent / f"run{seed}" for seed in (0, 1))
    assert roles(one) == roles(other)
    assert len(roles(one)["valid"]) == 2
    assert [row["train_loss"] for row in history(one)] != [row["train_loss"] for row in history(other)]
    assert typed(f"{TRAIN} --folds folds.csv -o run2").status == 1
    (tiny.parent / "folds.csv").write_text("image_id,fold\n" + "".join(f"train_{i},{i // 6}\n" for i in range(8)))
    assert typed(f"{TRAIN} --folds folds.csv --fold 1 -o run2").status == 0
    assert "no --folds given" not in caplog.text
    assert roles(tiny.parent / "run2")["valid"] == {"train_6", "train_7"}


def test_equal_commands_give_equal_runs_and_the_same_command_does_nothing(tiny: Path, typed: Type) -> None:
    for name, workers in (("one", 0), ("other", 2)):
        assert typed(f"{TRAIN} --workers {workers} -o {name}").status == 0
    assert_same_weights(tiny.parent / "one/last.pt", tiny.parent / "other/last.pt")
    before = (tiny.parent / "one/last.pt").stat().st_mtime_ns
    ended = typed(f"{TRAIN} -o one")
    assert (ended.status, "up to date" in ended.stdout) == (0, True)
    assert (tiny.parent / "one/last.pt").stat().st_mtime_ns == before


def test_max_samples_holds_for_both_parts(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --max-samples 1 -o one").status == 0
    assert typed(f"{TRAIN} --max-samples 4 -o four").status == 0
    counts = [{role: len(ids) for role, ids in roles(tiny.parent / run).items()} for run in ("one", "four")]
    assert counts == [{"train": 1, "valid": 1}, {"train": 4, "valid": 2}]


def test_the_best_loss_is_the_lowest(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 4 --lr 0.05 --schedule constant --monitor loss -o run").status == 0
    run = tiny.parent / "run"
    losses = [row["valid_loss"] for row in history(run)]
    assert stamp(run)["best"] == min(losses)
    assert load(run / "best.pt")["epoch"] == losses.index(min(losses)) + 1
    assert losses.index(min(losses)) != losses.index(max(losses))


@pytest.mark.parametrize("links", [True, False])
def test_the_last_epochs_are_kept_also_where_there_are_no_hard_links(
    links: bool, tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    assert typed(f"{TRAIN} --epochs 4 --keep-last 2 -o run").status == 0
    run = tiny.parent / "run"
    assert sorted(path.name for path in run.glob("epoch_*")) == ["epoch_003.pt", "epoch_004.pt"]
    assert [load(path)["epoch"] for path in sorted(run.glob("epoch_*"))] == [3, 4]
    assert (run / "last.pt").read_bytes() == (run / "epoch_004.pt").read_bytes()
    assert not list(run.glob(".tmp-*"))


@pytest.mark.parametrize("lost", ["best.pt", "per_image.csv"])
def test_what_only_training_makes_is_named_when_it_is_lost_and_made_again(lost: str, tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o run").status == 0
    run = tiny.parent / "run"
    (run / lost).write_bytes((run / lost).read_bytes()[:20])
    for _ in range(2):
        ended = typed(f"{TRAIN} -o run")
        assert (ended.status, lost in ended.stderr, "remove run" in ended.stderr) == (1, True, True)
    shutil.rmtree(run)
    assert typed(f"{TRAIN} -o run").status == 0


@pytest.mark.parametrize("lost", ["best.pt", "config.json", "history.csv"])
def test_without_its_last_checkpoint_a_finished_run_is_never_trained_over(lost: str, tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o run").status == 0
    run = tiny.parent / "run"
    (run / "last.pt").unlink()
    (run / lost).unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    for _ in range(2):
        ended = typed(f"{TRAIN} -o run")
        assert (ended.status, lost in ended.stderr, "without last.pt" in ended.stderr) == (2, True, True)
        assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_lost_history_is_written_again(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} -o run").status == 0
    path = tiny.parent / "run" / "history.csv"
    before = path.read_bytes()
    path.unlink()
    assert typed(f"{TRAIN} -o run").status == 0
    assert path.read_bytes() == before
    # Saved again by a spreadsheet, in a run whose last.pt was removed to save space.
    (tiny.parent / "run" / "last.pt").unlink()
    path.write_bytes(before.replace(b"\n", b"\r\n"))
    assert "up to date" in typed(f"{TRAIN} -o run").stdout


# Time limits, with a clock of our own: nothing here depends on how fast the machine is.


class Seconds:
    """The run's clock: as much has passed as the test says."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Seconds]]:
    Seconds.now = 0.0
    monkeypatch.setattr(TimeLimit, "seconds", lambda self: Seconds.now)
    monkeypatch.setattr(time_limit, "timed", lambda work: (work(), 0.0)[1])
    # Three updates an epoch.
    monkeypatch.setattr(time_limit, "measure_update", lambda *_: 1.0)
    yield Seconds


def after_updates(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Do something when so many updates are done."""
    update, done = Trainer.step, [0]

    def counted(self: Trainer, *args: Any) -> None:
        update(self, *args)
        done[0] += 1
        if done[0] == number:
            act()

    monkeypatch.setattr(Trainer, "step", counted)


LIMITED = TRAIN.replace("--epochs 2", "--epochs 9 --time-limit 25s")


def test_the_epochs_that_fit_are_planned_once_and_kept_on_resume(
    tiny: Path, typed: Type, clock: type[Seconds], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(f"{LIMITED} -o whole").status == 0
    whole = stamp(tiny.parent / "whole")
    # 25 s less 10 for the start of Python, 3.15 s an epoch.
    assert (whole["planned"], whole["epochs"], whole["stopped"]) == (4, 4, "")

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        after_updates(interrupted, 8, stop)
        assert typed(f"{LIMITED} -o run").status == 130
    # Measured again on a machine that is now slow, it would be one epoch.
    monkeypatch.setattr(time_limit, "measure_update", lambda *_: 100.0)
    assert typed(f"{LIMITED} -o run").status == 0
    assert stamp(tiny.parent / "run")["planned"] == 4
    assert_same_weights(tiny.parent / "whole/last.pt", tiny.parent / "run/last.pt")


def test_a_run_out_of_time_ends_in_good_order(
    tiny: Path, typed: Type, clock: type[Seconds], monkeypatch: pytest.MonkeyPatch
) -> None:
    after_updates(monkeypatch, 5, lambda: setattr(Seconds, "now", 24.0))
    ended = typed(f"{LIMITED} -o run")
    assert ended.status == 0
    assert "time limit" in ended.stdout
    run = tiny.parent / "run"
    done = stamp(run)
    assert (done["planned"], done["epochs"], done["stopped"]) == (4, 2, "time limit of 25 s")
    assert len(history(run)) == 2
    assert not (run / "clock.json").exists()
    assert typed("predict tiny --run run --subset valid --threads 1 -o preds").status == 0


@pytest.mark.parametrize("network", ["--arch fpn --encoder tu-hrnet_w18", "--arch unet --encoder efficientnet-b0"])
def test_encoders_with_layers_that_nothing_uses_learn(network: str, tiny: Path, typed: Type) -> None:
    line = f"train tiny {network} --encoder-weights none --threads 1 --workers 0 --epochs 1 --batch 2 --max-samples 2"
    ended = typed(f"{line} -o run")
    assert ended.status == 0, ended.stderr
    assert math.isfinite(history(tiny.parent / "run")[0]["valid_loss"])


def test_more_epochs_than_a_finished_run_has_are_refused_with_the_way_to_train_on(tiny: Path, typed: Type) -> None:
    assert typed(f"{TRAIN} --epochs 2 -o run").status == 0
    ended = typed(f"{TRAIN} --epochs 3 -o run")
    assert (ended.status, ended.stderr.count("\n")) == (2, 1)
    assert "epochs (2, now 3)" in ended.stderr
    assert "--init run --epochs 1 -o run_more" in ended.stderr
    assert typed(f"{TRAIN} --init run --epochs 1 -o run_more").status == 0
    assert "--init" not in typed(f"{TRAIN} --epochs 1 -o run").stderr
    assert "--init" not in typed(f"{TRAIN} --epochs 2 --seed 1 -o run").stderr


@pytest.mark.parametrize(
    ("shape", "size", "told"),
    [
        ((1024, 1024), "", "whole images of 1024x1024, 4 times .* --crop 512x512 .* --resize 512x512 "),
        ((400, 4000), "", "whole images of 400x4000, 6 times .* --crop 400x512 .* --resize 160x1632 "),
        ((1024, 1024), "--crop 32", None),
        ((1024, 1024), "--resize 32", None),
        ((512, 1024), "", None),
    ],
)
def test_large_images_without_a_size_are_told_with_the_option_to_type(
    shape: tuple[int, int],
    size: str,
    told: str | None,
    tiny: Path,
    typed: Type,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_folder, "image_size", lambda path: Size(*shape))
    for _ in range(2):
        assert typed(f"{TRAIN} --epochs 1 {size} -o run").status == 0
        Path("run/done.json").rename("run/begun.json")
    lines = [text for record in caplog.records if "whole images" in (text := record.getMessage())]
    assert len(lines) == (told is not None)
    assert told is None or re.search(told, lines[0])
