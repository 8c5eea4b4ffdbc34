"""Whatever is wrong with what the model commands are given: one line, the right status, nothing half-written."""

import errno
import hashlib
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Type
from huggingface_hub import constants as hub
from PIL import Image
from safetensors.torch import save_file

from segtool.core import files

NETWORK = "--arch linknet --encoder tu-test_efficientnet --threads 1 --workers 0"
FRESH = f"{NETWORK} --encoder-weights none"
TRAIN = f"train tiny {FRESH} --epochs 1 --batch 2"
RUN = f"{TRAIN} -o run"
# Of the images of `tiny` these two are held out when no folds are given.
HELD_OUT = ("train_2", "train_3")


# Faults: each damages the test's folder, where `tiny` and perhaps a run of it are.


def cut(name: str, keep: float = 0.5) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])

    return fault


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def mask(name: str, value: int, height: int = 32) -> Callable[[Path], None]:
    return lambda folder: Image.new("L", (32, height), value).save(folder / "tiny" / "masks" / f"{name}.png")


def one_pixel(folder: Path) -> None:
    for kind in ("images", "masks"):
        path = folder / "tiny" / kind / "train_0.png"
        Image.open(path).resize((1, 1), Image.Resampling.NEAREST).save(path)


def all_masks(value: int, *, valid: bool) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        for name in (f"train_{i}" for i in range(8)):
            if (name in HELD_OUT) is valid:
                mask(name, value)(folder)

    return fault


def rows(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Change the lines of train.csv: image_id,image,mask,group."""

    def fault(folder: Path) -> None:
        path = folder / "tiny" / "train.csv"
        path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))

    return fault


def dataset(old: str, new: str) -> Callable[[Path], None]:
    def fault(folder: Path) -> None:
        path = folder / "tiny" / "dataset.yaml"
        path.write_text(path.read_text().replace(old, new))

    return fault


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text)  # type: ignore[return-value]


def folds(*numbers: int) -> Callable[[Path], None]:
    return write("folds.csv", "image_id,fold\n" + "".join(f"train_{i},{n}\n" for i, n in enumerate(numbers)))


class Code:
    """Makes the file `ran` when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.folder / "ran",)


def checkpoint(**changes: Any) -> Callable[[Path], None]:
    """Change entries of the run's best.pt; of `network`, entries of that."""

    def fault(folder: Path) -> None:
        path = folder / "run" / "best.pt"
        content = torch.load(path, weights_only=True)
        network = changes.pop("network", {})
        torch.save({**content, **changes, "network": {**content["network"], **network}}, path)

    return fault


def code_in_checkpoint(folder: Path) -> None:
    checkpoint(extra=Code(folder))(folder)


def unfinished(folder: Path) -> None:
    (folder / "run" / "done.json").rename(folder / "run" / "begun.json")


def without_weights(folder: Path) -> None:
    unfinished(folder)
    (folder / "run" / "best.pt").unlink()


def unfinished_with_code(folder: Path) -> None:
    unfinished(folder)
    torch.save(Code(folder), folder / "run" / "last.pt")


def of_another_network(folder: Path) -> None:
    save_file({"layer1.weight": torch.zeros(3), "layer2.weight": torch.zeros(3)}, folder / "w.safetensors")


def cut_weights(folder: Path) -> None:
    of_another_network(folder)
    cut("w.safetensors")(folder)


def cut_pth(folder: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, folder / "w.pth")
    cut("w.pth")(folder)


def code_in_zip(folder: Path) -> None:
    torch.save({"a": torch.zeros(3), "b": Code(folder)}, folder / "w.pth")


def code_in_pickle(folder: Path) -> None:
    (folder / "w.pth").write_bytes(pickle.dumps(Code(folder)))


@dataclass(frozen=True)
class Case:
    """A command, what is done before it, and how it must end."""

    command: str
    status: int
    words: str
    fault: Callable[[Path], None] = lambda folder: None
    before: tuple[str, ...] = ()


PREDICT = "predict tiny --threads 1"
WEIGHTS = f"train tiny {NETWORK} --epochs 1 -o out --encoder-weights"

CASES = {
    # The data.
    "image missing": Case(f"{TRAIN} -o out", 1, "train_0.png", remove("tiny/images/train_0.png")),
    "image truncated": Case(f"{TRAIN} -o out", 1, "image train_0.png truncated", cut("tiny/images/train_0.png")),
    "image truncated, found in a data worker": Case(
        f"{TRAIN} -o out --workers 1", 1, "error: cannot read image images/train_0.png", cut("tiny/images/train_0.png")
    ),
    "held-out image truncated": Case(f"{TRAIN} -o out", 1, "train_2.png truncated", cut("tiny/images/train_2.png")),
    "image truncated, predicted": Case(
        f"{PREDICT} --run run --subset train -o out", 1, "train_0.png truncated", cut("tiny/images/train_0.png"), (RUN,)
    ),
    "test image missing": Case(
        f"{PREDICT} --run run -o out", 1, "test_1.png", remove("tiny/test_images/test_1.png"), (RUN,)
    ),
    "mask missing": Case(f"{TRAIN} -o out", 1, "masks/train_0.png", remove("tiny/masks/train_0.png")),
    "mask truncated": Case(f"{TRAIN} -o out", 1, "mask train_0.png truncated", cut("tiny/masks/train_0.png")),
    "mask of another size": Case(f"{TRAIN} -o out", 1, "mask train_0.png 30x32 image 32x32", mask("train_0", 0, 30)),
    "mask of another size, found in a data worker": Case(
        f"{TRAIN} -o out --workers 1", 1, "error: mask tiny/masks/train_0.png 30x32", mask("train_0", 0, 30)
    ),
    "mask value outside the classes": Case(f"{TRAIN} -o out", 1, "train_2.png 7 3 classes", mask("train_2", 7)),
    "image of one pixel, made smaller": Case(
        f"{TRAIN} -o out --crop 32 --scale 0.1,0.2", 1, "train_0.png 1x1 --scale", one_pixel
    ),
    "all training masks ignored": Case(f"{TRAIN} -o out", 1, "loss 0 ignore_index", all_masks(255, valid=False)),
    "all validation masks ignored": Case(f"{TRAIN} -o out", 1, "2 validation ignore_index", all_masks(255, valid=True)),
    "all weights zero": Case(
        f"{TRAIN} -o out", 1, "loss 0 weights", rows(lambda r: [f"{r[0]},weight", *(f"{x},0" for x in r[1:])])
    ),
    "no rows": Case(f"{TRAIN} -o out", 1, "no training image", rows(lambda r: r[:1])),
    "empty train.csv": Case(f"{TRAIN} -o out", 1, "train.csv image_id", rows(lambda r: [])),
    "no masks": Case(f"{TRAIN} -o out", 1, "mask", rows(lambda r: [",".join(x.split(",")[:2]) for x in r])),
    "one image, some to hold out": Case(f"{TRAIN} -o out", 2, "1 image --fold all", rows(lambda r: r[:2])),
    "an id twice": Case(f"{TRAIN} -o out", 1, "train.csv duplicate 'train_0'", rows(lambda r: [*r, r[1]])),
    "two ids of one file": Case(
        f"{TRAIN} -o out", 1, "train.csv './train_0' same 'train_0'", rows(lambda r: [*r, f"./{r[1]}"])
    ),
    "data set missing": Case(f"train nowhere {FRESH} -o out", 1, "nowhere missing"),
    # Folds and subsets.
    "fold without folds": Case(f"{TRAIN} -o out --fold 1", 2, "--fold 1 --folds"),
    "folds missing": Case(f"{TRAIN} -o out --folds no.csv", 1, "no.csv missing"),
    "fold missing": Case(
        f"{TRAIN} -o out --folds folds.csv --fold 2", 2, "folds.csv 2 0, 1", folds(0, 0, 0, 0, 1, 1, 1, 1)
    ),
    "fold without images": Case(f"{TRAIN} -o out --folds folds.csv", 2, "folds.csv no fold 0", folds(*[-1] * 8)),
    "nothing left to train on": Case(f"{TRAIN} -o out --folds folds.csv", 1, "training 8", folds(*[0] * 8)),
    "folds of other images": Case(f"{TRAIN} -o out --folds folds.csv", 1, "folds.csv lacks 'train_6'", folds(*[0] * 6)),
    "held out of a run on everything": Case(
        f"{PREDICT} --run run --subset valid -o out", 2, "--subset valid --fold all", before=(f"{RUN} --fold all",)
    ),
    "out-of-fold, all seen": Case(f"{PREDICT} --run run --subset oof -o out", 2, "--subset oof train_0", before=(RUN,)),
    "held out by one, seen by the other": Case(
        f"{PREDICT} --run run --run whole --subset valid -o out",
        2,
        "whole train_2 oof",
        before=(RUN, f"{TRAIN} -o whole --fold all"),
    ),
    "no test images": Case(
        f"{PREDICT} --run run -o out", 2, "--subset test", write("tiny/test.csv", "image_id,image\n"), (RUN,)
    ),
    "scores on images the model has seen": Case(
        "evaluate tiny seen -o out", 2, "--subset train", before=(RUN, f"{PREDICT} --run run --subset train -o seen")
    ),
    # Names and numbers typed.
    "architecture": Case(f"{TRAIN} -o out --arch unett", 2, "--arch 'unett' unet upernet"),
    "encoder": Case(f"{TRAIN} -o out --encoder resnet181", 2, "--encoder 'resnet181' resnet18"),
    "encoder of timm": Case(f"{TRAIN} -o out --encoder tu-hrnet_w81", 2, "--encoder 'hrnet_w81' tu-hrnet_w18"),
    "encoder of timm without tu-": Case(f"{TRAIN} -o out --encoder hrnet_w18", 2, "--encoder tu-hrnet_w18?"),
    "weights of timm": Case(f"{TRAIN} -o out --encoder tu-hrnet_w18.ms", 2, "'ms' tu-hrnet_w18.ms_in1k"),
    "epochs beyond all measure": Case(f"{TRAIN} -o out --epochs {10**18}", 2, "--epochs"),
    "batch beyond all measure": Case(f"{TRAIN} -o out --batch {10**9}", 2, "--batch"),
    "seed of more than 32 bits": Case(f"{TRAIN} -o out --seed {2**64}", 2, "--seed"),
    "recipe beyond all measure": Case(
        f"{TRAIN.replace(' --epochs 1', '')} -o out --config a.yaml",
        2,
        "--epochs 100000",
        write("a.yaml", f"epochs: {10**18}\n"),
    ),
    "file without a name": Case("split tiny -o .", 2, "output '.' file"),
    "file without a name in a recipe": Case(
        "split tiny --config a.yaml", 2, "output '.' file", write("a.yaml", "out: ''\n")
    ),
    "optimizer": Case(f"{TRAIN} -o out --optimizer adamv", 2, "--optimizer 'adamv' adam"),
    "unknown names in debug": Case(f"debug tiny {FRESH} --arch unett -o out", 2, "--arch 'unett' unet"),
    "architecture that cannot stand on the encoder": Case(
        f"{TRAIN} -o out --arch deeplabv3 --encoder tu-hrnet_w18", 2, "--arch deeplabv3 --encoder tu-hrnet_w18 dilated"
    ),
    "batch norm of one image": Case(f"{TRAIN} -o out --arch upernet --batch 1", 2, "upernet batch norm --batch 2"),
    "batch norm of one image in debug": Case(
        f"debug tiny {FRESH} -o out --arch upernet --batch 1", 2, "upernet batch norm --batch 2"
    ),
    "mean of one value": Case(f"{TRAIN} -o out --mean 0.5 --std 0.5", 2, "--mean 1 3 channel"),
    "no GPU": Case(f"{TRAIN} -o out --device cuda", 1, "--device cuda GPU"),
    "learning rate absurd": Case(f"{TRAIN} -o out --lr 1e30", 1, "loss NaN epoch 1 --lr"),
    "learning rate absurd, one update": Case(f"{TRAIN} -o out --lr 1e30 --batch 6", 1, "loss NaN epoch 1 --lr"),
    # Encoder weights.
    "weights missing": Case(f"{WEIGHTS} w.pth", 1, "--encoder-weights w.pth imagenet"),
    "weights truncated": Case(f"{WEIGHTS} w.safetensors", 1, "w.safetensors truncated", cut_weights),
    "weights truncated, pth": Case(f"{WEIGHTS} w.pth", 1, "w.pth truncated", cut_pth),
    "weights of another network": Case(f"{WEIGHTS} w.safetensors", 1, "w.safetensors fit missing", of_another_network),
    "weights with code": Case(f"{WEIGHTS} w.pth", 1, "w.pth not loaded code", code_in_zip),
    "weights that are code": Case(f"{WEIGHTS} w.pth", 1, "w.pth not loaded code", code_in_pickle),
    "hub out of reach": Case(f"{WEIGHTS} imagenet", 1, "tu-test_efficientnet hub --encoder-weights FILE none"),
    "hub out of reach, native encoder": Case(
        "train tiny -o out --encoder resnet18 --threads 1", 1, "'resnet18' hub --encoder-weights FILE none"
    ),
    "no weights on the hub": Case(f"{TRAIN} -o out --encoder dpn92 --encoder-weights imagenet", 2, "dpn92 FILE"),
    # Checkpoints.
    "checkpoint truncated": Case(f"{PREDICT} --run run -o out", 1, "run/best.pt truncated", cut("run/best.pt"), (RUN,)),
    "checkpoint missing": Case(f"{PREDICT} --run run -o out", 1, "run best.pt", remove("run/best.pt"), (RUN,)),
    "checkpoint of other classes": Case(
        f"{PREDICT} --run run -o out", 1, "run/best.pt classes stripe strip", dataset("stripe", "strip"), (RUN,)
    ),
    "checkpoint of other channels": Case(
        f"{PREDICT} --run run -o out", 1, "run/best.pt 3 channels 1", dataset("channels: 3", "channels: 1"), (RUN,)
    ),
    "checkpoint of another network": Case(
        f"{PREDICT} --run run -o out", 1, "run/best.pt weights fit", checkpoint(network={"arch": "unet"}), (RUN,)
    ),
    "checkpoint of an encoder this machine has not": Case(
        f"{PREDICT} --run run -o out", 1, "run/best.pt built", checkpoint(network={"encoder": "tu-new"}), (RUN,)
    ),
    "checkpoint of another version": Case(
        f"{PREDICT} --run run -o out", 1, "run/best.pt 'segtool checkpoint 1'", checkpoint(format="2"), (RUN,)
    ),
    "checkpoint with code": Case(
        f"{PREDICT} --run run -o out", 1, "run/best.pt not loaded code", code_in_checkpoint, (RUN,)
    ),
    "checkpoint to resume from with code": Case(RUN, 1, "run/last.pt not loaded code", unfinished_with_code, (RUN,)),
    "checkpoint to resume from truncated": Case(
        RUN, 1, "run/last.pt truncated remove", lambda f: (unfinished(f), cut("run/last.pt")(f)), (RUN,)
    ),
    "samples.csv missing": Case(f"{PREDICT} --run run -o out", 1, "samples.csv", remove("run/samples.csv"), (RUN,)),
    "run not finished": Case(f"{PREDICT} --run run -o out", 1, "run finished `segtool train`", without_weights, (RUN,)),
    "run that is none": Case(f"{PREDICT} --run tiny -o out", 1, "tiny not run"),
    "run missing": Case(f"{PREDICT} --run nowhere -o out", 1, "nowhere exist"),
    "run twice": Case(f"{PREDICT} --run run --run tiny/../run -o out", 2, "--run twice", before=(RUN,)),
    # Outputs.
    "output of something else": Case(f"{TRAIN} -o tiny", 2, "tiny segtool did not write"),
    "output of another command": Case(f"{PREDICT} --run run -o run", 2, "run `segtool predict` train", before=(RUN,)),
    "output of other settings": Case(f"{RUN} --lr 0.5", 2, "run lr 0.001 0.5 --overwrite", before=(RUN,)),
    "output is a file": Case(f"{TRAIN} -o tiny/train.csv", 2, "tiny/train.csv file"),
    "output below a file": Case(f"{TRAIN} -o tiny/train.csv/run", 1, "tiny/train.csv"),
    "output where nothing can be written": Case(f"{TRAIN} -o /proc/run", 1, "/proc/run"),
}


@pytest.fixture(autouse=True)
def no_gpu_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("cache")))


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with a digest of what is in it; folders too."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_with_its_status_and_leaves_nothing(name: str, tiny: Path, typed: Type) -> None:
    case = CASES[name]
    if "/proc" in case.command and not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    for command in case.before:
        assert typed(f"{command} --quiet").status == 0
    case.fault(tiny.parent)
    there = contents(tiny.parent)
    ended = typed(f"{case.command} --quiet")
    assert (ended.status, ended.stdout) == (case.status, ""), ended.stderr
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert len(ended.stderr) < 600
    for word in case.words.split():
        assert word in ended.stderr
    assert contents(tiny.parent) == there


def test_the_planted_code_would_run_if_anything_ran_it(tmp_path: Path) -> None:
    code_in_zip(tmp_path)
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_mended_call_needs_no_overwrite(tiny: Path, typed: Type) -> None:
    good = (tiny / "images" / "train_0.png").read_bytes()
    cut("tiny/images/train_0.png")(tiny.parent)
    assert typed(f"{TRAIN} -o out").status == 1
    (tiny / "images" / "train_0.png").write_bytes(good)
    assert typed(f"{TRAIN} -o out --arch deeplabv3 --encoder tu-hrnet_w18").status == 2
    assert typed(f"{TRAIN} -o out").status == 0


class SmallDisk(io.FileIO):
    """A file that takes no more than it has room for; small writes may still find some, as on a real disk."""

    room = 0

    def write(self, data: Any) -> int:
        if SmallDisk.room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        SmallDisk.room -= len(data)
        return super().write(data)


@pytest.mark.parametrize("room", [100, 10_000, 600_000, 1_100_000, 2_000_000, 4_000_000])
def test_a_full_disk_is_one_line_keeps_the_last_checkpoint_and_the_same_command_goes_on(
    room: int, tiny: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """best.pt has 0.45 MB here, last.pt 1.3 MB: the disk fills up in each of them, first and later ones."""
    train = TRAIN.replace("--epochs 1", "--epochs 3")
    assert typed(f"{train} -o whole").status == 0
    SmallDisk.room = room
    with monkeypatch.context() as full:
        full.setattr(files.os, "fdopen", lambda fd, mode, **_: _open(fd, mode))
        ended = typed(f"{train} -o run --quiet")
    assert ended.status == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
    for word in ("disk is full", "run/", "same command"):
        assert word in ended.stderr
    assert not list((tiny.parent / "run").glob(".tmp-*"))
    last = tiny.parent / "run" / "last.pt"
    assert last.exists() is (room >= 2_000_000)
    if last.exists():
        assert torch.load(last, weights_only=True)["epoch"] in (1, 2)
    assert typed(f"{train} -o run").status == 0
    for name in ("last.pt", "best.pt"):
        one, other = (torch.load(tiny.parent / run / name, weights_only=True)["weights"] for run in ("whole", "run"))
        assert all(torch.equal(value, other[key]) for key, value in one.items())


def _open(descriptor: int, mode: str) -> Any:
    disk = SmallDisk(descriptor, mode.replace("b", ""))
    return io.BufferedWriter(disk) if "b" in mode else io.TextIOWrapper(io.BufferedWriter(disk), encoding="utf-8")


def test_debug_names_broken_data_with_status_3(tiny: Path, typed: Type) -> None:
    mask("train_4", 0, 30)(tiny.parent)
    ended = typed(f"debug tiny {FRESH} -o out")
    assert ended.status == 3
    assert "train_4.png is 30x32" in " ".join(ended.stdout.split())
    assert not (tiny.parent / "out" / "done.json").exists()
