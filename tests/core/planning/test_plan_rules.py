"""The rules of `plan`: what each chooses, from facts made by hand."""

from dataclasses import replace
from typing import Any

import pytest

from segtool.core.inspection.class_stats import ClassStats
from segtool.core.inspection.findings import Findings, PartStats, Sequences
from segtool.core.inspection.orientation import Asymmetry, Orientation
from segtool.core.planning.machine import GIB, Machine, Weights
from segtool.core.planning.rules import Plan, make_plan
from segtool.values import Size

CPU = Machine("cpu", "2 CPU cores", 24 * GIB, False, 2)
GPU = Machine("cuda", "H200", 141 * GIB, True, 16)
STREET = Size(360, 480)
WEIGHTS = Weights("tu-resnet18", "imagenet", "it is here")


def stats(name: str, share: float, images: float = 1.0, area: int = 2000) -> ClassStats:
    return ClassStats(
        name=name,
        pixel_share=share,
        images=int(images * 100),
        image_share=images,
        objects=100,
        specks=0,
        small=area // 4,
        median=area,
        large=area * 4,
    )


def findings(size: Size = STREET, classes: Any = None, images: int = 100, up: bool = True) -> Findings:
    part = PartStats(
        images=images,
        masks=images,
        sizes={str(size): images},
        forms={"RGB 8-bit": images},
        height=(size.height,) * 3,
        width=(size.width,) * 3,
        turned=(),
        constant=(),
        empty=(),
        ignored=(),
        unlabelled=0,
    )
    layout = (Asymmetry("sky", 0.9, images, up),)
    return Findings(
        faults=(),
        train=part,
        test=None,
        classes=tuple(classes or (stats("sky", 0.5), stats("car", 0.3), stats("tree", 0.2))),
        together=(),
        orientation=Orientation(layout, ()),
        groups=0,
        sequences=Sequences({}, 0.0, 0.0),
        near_groups=(),
        pairs=(),
        folds=False,
        adversarial=None,
    )


def plan(machine: Machine = CPU, seconds: float = 3600, update: float = 1.0, multi: bool = False, **facts: Any) -> Plan:
    found = findings(**facts)
    names = tuple(one.name for one in found.classes)
    return make_plan(Plan(found, names, machine, WEIGHTS, seconds, lambda *_: update, multi=multi))


def chosen(made: Plan) -> dict[str, Any]:
    assert len({choice.option for choice in made.choices}) == len(made.choices)
    assert all(choice.why for choice in made.choices)
    return {choice.option: choice.value for choice in made.choices}


def test_a_plan_for_street_scenes_on_a_cpu() -> None:
    assert chosen(plan()) == {
        "encoder": "tu-resnet18",
        "encoder-weights": "imagenet",
        "crop": Size(256, 256),
        "arch": "fpn",
        "batch": 8,
        "loss": "ce+lovasz",
        "augment": "heavy",
        "lr": 1e-3,
        "encoder-lr-scale": 0.5,
        "clip": 1.0,
        "epochs": 324,
        "valid-every": 2,
        "ema": 0.99,
        "time-limit": "60m",
    }


def test_classes_that_overlap_have_a_loss_each_and_no_background() -> None:
    thin = (stats("hand", 0.3, area=16), stats("ring", 0.3, area=10**6))
    made = plan(multi=True, classes=thin)
    assert chosen(made)["loss"] == "bce+dice" and "class-weights" not in chosen(made)
    assert made.widths == [4.0, 1000.0] and plan(classes=thin).widths == [1000.0]


@pytest.mark.parametrize(
    ("machine", "size", "resize", "crop"),
    [
        (CPU, Size(96, 128), None, None),
        (CPU, Size(290, 290), None, None),
        (CPU, Size(360, 480), None, Size(256, 256)),
        (CPU, Size(200, 900), None, Size(192, 256)),
        (CPU, Size(2048, 2048), 0.5, Size(256, 256)),
        (GPU, Size(360, 480), None, None),
        (GPU, Size(2048, 2048), None, Size(512, 512)),
        (GPU, Size(8192, 8192), 0.2, Size(512, 512)),
    ],
)
def test_sizes(machine: Machine, size: Size, resize: float | None, crop: Size | None) -> None:
    found = chosen(plan(machine, size=size, classes=[stats("a", 0.5), stats("b", 0.5, area=100_000)]))
    assert (found.get("resize"), found.get("crop")) == (resize, crop)


def test_small_objects_are_not_shrunk_and_want_a_fine_decoder() -> None:
    small = [stats("ground", 0.9), stats("cell", 0.1, area=49)]
    found = chosen(plan(size=Size(4096, 4096), classes=small))
    assert ("resize" in found, found["arch"]) == (False, "unet")


def test_memory_and_precision() -> None:
    found = chosen(plan(GPU, size=Size(512, 512)))
    assert (found["precision"], found["batch"]) == ("bf16", 8)
    old = replace(GPU, memory=GIB, bf16=False)
    found = chosen(plan(old, size=Size(2048, 2048), classes=[stats("a", 0.5), stats("b", 0.5, area=49)]))
    assert (found["precision"], found["batch"], found["accumulate"]) == ("fp16", 3, 2)


def test_two_classes_and_uneven_ones() -> None:
    assert chosen(plan(classes=[stats("no", 0.9), stats("yes", 0.1)]))["loss"] == "bce+dice"
    rare = [stats("a", 0.8), stats("b", 0.195), stats("c", 0.005, images=0.05)]
    found = chosen(plan(classes=rare))
    assert (found["class-weights"], found["crop-balance"], found["oversample"]) == ("inverse-log", 0.25, 0.1)
    assert "class-weights" not in chosen(plan())


@pytest.mark.parametrize(
    ("images", "seconds", "augment"), [(50, 3600, "heavy"), (500, 3600, "medium"), (500, 300, "light")]
)
def test_augmentation_grows_with_time_and_shrinks_with_images(images: int, seconds: float, augment: str) -> None:
    assert chosen(plan(images=images, seconds=seconds))["augment"] == augment


def test_the_time_decides_the_epochs() -> None:
    one, two = (chosen(plan(seconds=seconds, images=1000)) for seconds in (3600, 7200))
    assert one["epochs"] == 32 and two["epochs"] == 64
    # A forward pass of 200 held-out images takes longer than the updates of some epochs.
    assert chosen(plan(seconds=3600, images=1000, size=Size(2000, 2000)))["valid-every"] > 1
    assert chosen(plan(update=1e-4))["epochs"] == 40_000 // (80 // 8)


def test_notes_say_how_to_predict() -> None:
    made = plan()
    assert made.predict_with == "--checkpoint ema --tta hflip"
    assert any("no vertical flips" in note for note in made.notes)
    assert any("have no up" in note for note in plan(up=False).notes)
