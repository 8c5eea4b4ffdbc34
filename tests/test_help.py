"""Every help page ends with an example that works, and the shell completes what takes names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Type
from test_readme import COMMANDS

from segtool.cli import app
from segtool.completion import completed

NETWORK = "--arch unet --encoder tu-test_efficientnet --encoder-weights none --resize 32x32 --workers 0 --threads 1"
# What is typed after an example so that it takes a second and needs no network.
QUICK = {
    "debug": f"{NETWORK} --lr 0.003 --samples 8 --epochs 4",
    "train": f"{NETWORK} --crop 32x32 --epochs 2 --keep-last 2",
    "split": "--n-folds 2",
    "bench": "--seconds 0 --threads 1 --task predict",
    "plan": "--encoder tu-test_efficientnet --encoder-weights none --time-limit 60s",
    "pseudo": "--threshold 0 --min-share 0",
}
# In an order in which each finds what it reads.
ORDER = (
    *("demo", "import coco", "import labelme", "import yolo", "import rle", "import folders"),
    *("inspect", "split", "debug", "train", "swa", "predict", "import preds", "ensemble", "threshold", "evaluate"),
    *("compare", "export", "noise-rank", "report", "pseudo", "submit", "roi crop", "roi paste", "bundle", "track"),
    *("bench", "plan"),
)


def example(command: str) -> str:
    groups = {"": app, **{f"{group.name} ": group.typer_instance for group in app.registered_groups}}
    found = {
        f"{prefix}{one.name}": one.epilog or "" for prefix, group in groups.items() for one in group.registered_commands
    }
    assert found[command].startswith(f"Example: segtool {command} ")
    return found[command].removeprefix("Example: segtool ")


def prepare(folder: Path, tiny: Path) -> None:
    """What the imports read, from the images and masks of a data set: a box in all, a stripe in some."""
    shutil.copytree(tiny / "images", folder / "photos")
    shutil.copytree(tiny / "masks", folder / "masks")
    for name in ("labels", "theirs"):
        (folder / name).mkdir()
    coco: dict[str, list[object]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "box"}]}
    rows = ["ImageId,EncodedPixels"]
    for number, path in enumerate(sorted((folder / "photos").iterdir()), 1):
        corners = [4, 4, 20, 4, 20, 20, 4, 20]
        coco["images"].append({"id": number, "file_name": path.name, "width": 32, "height": 32})
        coco["annotations"].append({"id": number, "image_id": number, "category_id": 1, "segmentation": [corners]})
        shape = {"label": "box", "shape_type": "polygon", "points": [[4, 4], [20, 4], [20, 20]]}
        labelme = {"shapes": [shape], "imagePath": path.name, "imageHeight": 32, "imageWidth": 32}
        (folder / "labels" / f"{path.stem}.json").write_text(json.dumps(labelme))
        (folder / "labels" / f"{path.stem}.txt").write_text("0 0.1 0.1 0.6 0.1 0.6 0.6\n")
        rows.append(f"{path.name},1 40")
    (folder / "train.json").write_text(json.dumps(coco))
    (folder / "train.csv").write_text("\n".join(rows) + "\n")


def test_every_example_of_the_help_works(typed: Type, tiny: Path, tmp_path: Path) -> None:
    # `push` needs a hub; its own test has one.
    assert {*ORDER, "push"} == set(COMMANDS)
    prepare(tmp_path, tiny)

    def run(line: str) -> None:
        ended = typed(line)
        assert ended.status == 0, f"segtool {line}\n{ended.stderr}"

    for command in ORDER:
        if command == "import folders":
            shutil.rmtree("labels")
            Path("masks").rename("labels")
        if command == "inspect":
            # Groups, and images to predict, which the imported folder of photos has not.
            shutil.rmtree("data")
            tiny.rename("data")
        if command == "train":
            Path("runs").mkdir()
            run(f"train data -o runs/1 --folds folds.csv --fold 1 {QUICK['train']}")
        if command == "import preds":
            run("predict data --run runs/0 --run runs/1 --subset oof -o preds/oof")
            for member in ("a", "b"):
                shutil.copytree("preds/oof", f"preds/{member}")
            for index in range(2):
                np.save(f"theirs/test_{index}.npy", np.full((3, 32, 32), 1 / 3, np.float32))
        if command == "roi paste":
            run("predict crops --run runs/0 --subset train -o preds/crops")
        if command.startswith("import") and command != "import preds":
            shutil.rmtree("data", ignore_errors=True)
        if command == "submit":
            run("predict data --run runs/0 --overwrite -o preds/test")
        run(f"{example(command)} {QUICK.get(command, '')}")


@pytest.mark.parametrize(
    ("field", "typed_so_far", "offered"),
    [
        ("arch", "unetp", ["unetplusplus"]),
        ("encoder", "mobilenet", ["mobilenet_v2"]),
        ("encoder", "tu-hrnet_w18_small_v", ["tu-hrnet_w18_small_v2"]),
        ("loss", "ce+0.5*di", ["ce+0.5*dice"]),
        ("tta", "hflip,vf", ["hflip,vflip"]),
        ("checkpoint", "ep", ["epoch:"]),
    ],
)
def test_names_are_completed(field: str, typed_so_far: str, offered: list[str]) -> None:
    complete = completed(field)
    assert complete and complete(typed_so_far) == offered
    assert completed("lr") is None


def test_a_shell_asks_for_completions() -> None:
    def asked(words: str) -> list[str]:
        shell = {"_SEGTOOL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [sys.executable, "-m", "segtool"]
        return subprocess.run(command, env={**os.environ, **shell}, capture_output=True, text=True).stdout.split()

    assert asked("segtool train --arch fp") == ["fpn"]
    assert asked("segtool noi") == ["noise-rank"]
