"""Random combinations of all training options: refused in one line, or stopped and resumed bit for bit.

SEGTOOL_COMBINATIONS=200 runs the combinations of that many seeds.
"""

import logging
import os
import random
import shutil
from itertools import chain
from pathlib import Path

import albumentations as A
import pytest
import yaml
from conftest import Type
from PIL import Image
from test_train_night import NETWORK, assert_same_run, train_with_stops

# The first twelve from here on hold every option, schedule, precision and term that is drawn at least once.
FIRST = 282
SEEDS = range(FIRST, FIRST + int(os.environ.get("SEGTOOL_COMBINATIONS", "12")))
LOSSES = ("ce", "bce", "focal", "topk", "dice", "jaccard", "lovasz", "tversky")
OPTIMIZERS = (
    "adamw adam sgd momentum radam nadam adamp sgdp lamb lion adan adafactor adabelief madgrad rmsprop novograd"
)
# The share of the combinations that hold an option of the family, and what can be typed for each of its options.
FAMILIES: list[tuple[float, dict[str, tuple[str, ...]]]] = [
    (0.7, {"augment": ("none", "light", "medium", "heavy", "pipe.json")}),
    (0.2, {"hflip": ("0", "1"), "scale": ("1,1", "0.5,3"), "brightness": ("0", "0.5"), "contrast": ("0", "0.5")}),
    (0.4, {"cutout": ("0.5", "1"), "gridmask": ("0.5", "1"), "dropped-pixels": ("ignore",)}),
    (0.5, {"mixup": ("0.4", "1"), "cutmix": ("0.4", "1"), "snapmix": ("0.4", "1"), "mix-p": ("0.3", "1")}),
    (0.8, {"resize": ("32", "48x40", "64"), "crop": ("16", "32x24", "48")}),
    (0.6, {"crop-nonempty": ("0.3", "0.6"), "crop-balance": ("0.4", "0.6")}),
    (0.4, {"window": ("24", "32x16", "40"), "stride": ("12", "24x16"), "min-foreground": ("0.02",)}),
    (0.3, {"extra": ("twin", "twin/dataset.yaml:0.5"), "extra-map": ("map.csv",), "oversample": ("0.5", "0.9")}),
    (0.3, {"fold": ("all",)}),
    (0.5, {"class-weights": ("median", "inverse-log", "weights.csv"), "label-smoothing": ("0.1", "0.5")}),
    (0.6, {"focal-gamma": ("0", "1"), "topk": ("1", "100"), "tversky-alpha": ("1",), "tversky-beta": ("0.9",)}),
    (0.3, {"init": ("base",), "freeze-encoder": ("1", "2"), "encoder-lr-scale": ("0", "0.1")}),
    (0.4, {"aux-head": ("0.2", "1")}),
    (0.8, {"optimizer": tuple(OPTIMIZERS.split()), "lookahead": ("",), "lr": ("0.01", "1e-4"), "weight-decay": ("0",)}),
    (0.8, {"schedule": ("cosine", "poly", "onecycle", "cyclic", "plateau", "constant")}),
    (0.4, {"restarts": ("1", "2", "5"), "plateau-patience": ("1",), "warmup": ("0", "0.5", "9")}),
    (0.3, {"clip": ("0.1", "1")}),
    (0.3, {"precision": ("fp16", "bf16")}),
    (0.4, {"accumulate": ("2", "3")}),
    (0.5, {"ema": ("0.5", "0.999"), "keep-last": ("1", "3")}),
    (0.5, {"patience": ("1", "2"), "monitor": ("image_miou", "dice", "loss"), "save-images": ("1", "9")}),
]
# An option and those of which it needs one.
NEEDS = {
    "mixup": ("crop", "resize"),
    "cutmix": ("crop", "resize"),
    "snapmix": ("crop", "resize"),
    "mix-p": ("mixup", "cutmix", "snapmix"),
    "dropped-pixels": ("cutout", "gridmask"),
    "crop-nonempty": ("crop",),
    "crop-balance": ("crop",),
    "stride": ("window",),
    "min-foreground": ("window",),
    "extra-map": ("extra",),
    "freeze-encoder": ("init",),
}
# A size and another that it must fit into.
WITHIN = (("crop", "resize"), ("window", "resize"), ("crop", "window"), ("stride", "window"))
# An option and the terms of the loss of which it needs one.
TERMS = {
    "focal-gamma": ("focal",),
    "topk": ("topk",),
    "tversky-alpha": ("tversky",),
    "tversky-beta": ("tversky",),
    "label-smoothing": ("ce", "bce"),
}
Options = dict[str, str]


def draw(dice: random.Random) -> Options:
    """Options and what is typed for each; whether they go together is not looked at."""
    terms = dice.sample(LOSSES, dice.choice((1, 1, 2, 3)))
    options = {
        "epochs": dice.choice(("2", "3", "4")),
        "batch": dice.choice(("2", "3")),
        "seed": str(dice.randrange(100)),
        "loss": "+".join(f"{dice.choice(('', '', '0.5*'))}{term}" for term in terms),
    }
    for share, family in FAMILIES:
        if dice.random() < share:
            for name in dice.sample(sorted(family), dice.randint(1, len(family))):
                options[name] = dice.choice(family[name])
    return options


def misfits(options: Options, classes: int) -> set[str]:
    """The options that mean nothing beside the others, each of which is a reason to refuse the command."""
    terms = {term.rpartition("*")[2] for term in options["loss"].split("+")}
    schedule = options.get("schedule", "cosine")
    rules = {
        "snapmix": "aux-head" not in options,
        "restarts": schedule not in ("cosine", "cyclic"),
        "loss": "bce" in terms and classes > 2,
        "class-weights": classes == 2 and terms <= {"dice", "jaccard", "lovasz", "tversky"},
        "crop-balance": sum(float(options.get(name, 0)) for name in ("crop-nonempty", "crop-balance")) > 1,
        "fold": schedule == "plateau" or "patience" in options or "save-images" in options,
    }
    found = {name for name, needed in NEEDS.items() if not any(other in options for other in needed)}
    found |= {name for name, needed in TERMS.items() if not terms & set(needed)}
    found |= {inner for inner, outer in WITHIN if {inner, outer} <= options.keys() and not fits(options, inner, outer)}
    return (found | {name for name, broken in rules.items() if broken}) & options.keys()


def fits(options: Options, inner: str, outer: str) -> bool:
    small, large = ([int(side) for side in options[name].split("x")] for name in (inner, outer))
    return small[0] <= large[0] and small[-1] <= large[-1]


def typed_as(options: Options) -> str:
    return " ".join(f"--{name} {value}".strip() for name, value in options.items())


@pytest.fixture
def folder(tiny: Path, twin: Path) -> Path:
    """`tiny`, the same with two classes as `pair`, `twin`, and the files that options name."""
    folder = tiny.parent
    pair = Path(shutil.copytree(tiny, folder / "pair"))
    content = yaml.safe_load((pair / "dataset.yaml").read_text())
    (pair / "dataset.yaml").write_text(yaml.safe_dump({**content, "classes": ["ground", "box"]}))
    for mask in (pair / "masks").iterdir():
        Image.open(mask).point(lambda value: 255 if value == 2 else value).save(mask)
    (folder / "map.csv").write_text("theirs,ours\nother,ignore\n")
    A.save(A.Compose([A.VerticalFlip(p=0.5), A.GaussNoise(p=0.5)]), folder / "pipe.json")
    return folder


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_combination_is_refused_or_resumed_bit_for_bit(
    seed: int, folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    data, classes = dice.choice((("tiny", ("ground", "box", "stripe")), ("pair", ("ground", "box"))))
    (folder / "weights.csv").write_text("\n".join(["class,weight", *(f"{name},{len(name)}" for name in classes)]))
    train = f"train {data} {NETWORK}"
    options = draw(dice)
    if "init" in options:
        assert typed(f"train tiny {NETWORK} --batch 2 --epochs 1 -o base").status == 0
    while wrong := misfits(options, len(classes)):
        ended = typed(f"{train} {typed_as(options)} -o refused")
        assert ended.status == 2, (wrong, ended)
        assert len(ended.stderr.strip().splitlines()) == 1 and ended.stderr.startswith("error: "), ended.stderr
        assert any(f"--{name}" in ended.stderr for name in wrong), (wrong, ended.stderr)
        assert not (folder / "refused").exists()
        options = {name: value for name, value in options.items() if name not in wrong} | (
            {"loss": "ce+dice"} if "loss" in wrong else {}
        )
    line = f"{train} {typed_as(options)}"
    logging.getLogger("segtool").info(line)
    ended = typed(f"{line} -o whole")
    assert ended.status == 0, ended.stderr
    # How images are read ahead, and how often is saved, change nothing.
    free = dice.choice(("", "", "--workers 1", "--checkpoint-every 0.01s"))
    # After the first update, which is never the last, and then at random.
    updates = chain([1], iter(lambda: dice.randint(1, 9), None))
    assert train_with_stops(f"{line} {free}", "stopped", typed, monkeypatch, every=updates.__next__)
    assert_same_run(folder / "whole", folder / "stopped")
