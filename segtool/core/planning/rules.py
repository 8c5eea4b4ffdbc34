"""Ten rules that make a recipe. Each looks at the facts, and at what earlier rules chose, and says why it chooses.

They are what wins competitions most of the time, not a search: where a rule rests on a measurement, the figure stands
beside it. A user reads the recipe and changes what they know better.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from segtool.core.inspection.advice import WINDOWED
from segtool.core.inspection.findings import Findings
from segtool.core.planning.machine import GIB, Machine, Weights
from segtool.values import Size

# Networks have a stride of 32.
DIVISOR = 32
# Objects narrower than this many pixels are lost by decoders that end at a quarter of the resolution.
NARROW = 12
# A class with less than this share of the pixels, or of the images, is rare.
RARE_PIXELS, RARE_IMAGES = 0.01, 0.1
# From this ratio of pixel shares on, the loss weighs classes.
UNEVEN = 50
# Images with more pixels than this many crops show too little of themselves in one.
MANY_CROPS = 16
# More updates than these do not help a data set of this kind; fewer than FEW are not enough for strong augmentation.
MOST, FEW = 40_000, 500
# Share of the time that validation may take, and of the images that are held out.
VALIDATION, HELD_OUT = 0.1, 0.2
# A forward pass takes a third of a forward and backward pass.
FORWARD = 1 / 3


class Choice(NamedTuple):
    """One line of the recipe: an option with its value, and the reason."""

    option: str
    value: Any
    why: str


# Seconds of one update: architecture, encoder, size of the input, images in the batch, precision.
Measure = Callable[[str, str, Size, int, str], float]


@dataclass
class Plan:
    """What is known, and what has been chosen so far.

    Attributes:
        findings: of `inspect`.
        classes: class names.
        seconds: the time allowed for one run.
        measure: times one update on this machine.
        choices: the lines of the recipe; notes: what to mind beside them, one line each.
        predict_with: options of `predict`, as they are typed.
    """

    findings: Findings
    classes: tuple[str, ...]
    machine: Machine
    weights: Weights
    seconds: float
    measure: Measure
    choices: list[Choice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    predict_with: str = ""
    # Whether classes may overlap, so that none is a background.
    multi: bool = False

    def choose(self, option: str, value: Any, why: str) -> None:
        """Add a line."""
        self.choices.append(Choice(option, value, why))

    def get(self, option: str, default: Any = None) -> Any:
        """Return what was chosen for an option."""
        return next((choice.value for choice in self.choices if choice.option == option), default)

    @property
    def images(self) -> int:
        """Training images of one fold."""
        assert self.findings.train
        return max(1, round(self.findings.train.masks * (1 - HELD_OUT)))

    @property
    def size(self) -> Size:
        """The median size of the images."""
        assert self.findings.train
        return Size(self.findings.train.height[1], self.findings.train.width[1])

    @property
    def seen(self) -> Size:
        """The median size of the images after --resize."""
        factor = self.get("resize", 1.0)
        return Size(*(max(1, round(side * factor)) for side in self.size))

    @property
    def input(self) -> Size:
        """What the network sees in training."""
        crop = self.get("crop")
        side = crop or self.seen
        return Size(*(-(-length // DIVISOR) * DIVISOR for length in side))

    @property
    def widths(self) -> list[float]:
        """The side in pixels of the median object of each class but a background, as a square; narrow ones first."""
        objects = self.findings.classes[0 if self.multi else 1 :]
        areas = [found.median for found in objects if found.objects and not found.rare]
        return sorted(map(math.sqrt, areas)) or [math.inf]

    @property
    def rare(self) -> list[str]:
        """Classes with few pixels, or in few images."""
        found = self.findings.classes
        return [
            one.name for one in found if one.images and (one.pixel_share < RARE_PIXELS or one.image_share < RARE_IMAGES)
        ]


def make_plan(plan: Plan) -> Plan:
    """Apply the rules, in this order."""
    for rule in (
        encoder,
        size,
        architecture,
        batch,
        loss,
        rare_classes,
        augmentation,
        learning_rate,
        epochs,
        prediction,
    ):
        rule(plan)
    return plan


def encoder(plan: Plan) -> None:
    """1. The encoder whose pretrained weights are here, and the best for the device."""
    plan.choose("encoder", plan.weights.encoder, plan.weights.why)
    plan.choose("encoder-weights", plan.weights.source, "pretrained weights help most where images are few")


def size(plan: Plan) -> None:
    """2. Whole images if they are small, else crops; a resize only if a crop would show very little of an image."""
    side = 256 if plan.machine.device == "cpu" else 512
    height, width = plan.size
    if height * width <= 1.3 * side * side:
        plan.notes.append(f"images of {plan.size} are trained on whole: they fit a batch")
        return
    factor = max(0.1, round(math.sqrt(MANY_CROPS * side * side / (height * width)), 1))
    if factor < 1 and plan.widths[0] * factor >= NARROW:
        plan.choose("resize", factor, f"a crop of {side} would show 1/{height * width // side**2} of {plan.size}")
    height, width = plan.seen
    crop = Size(min(side, height // DIVISOR * DIVISOR or height), min(side, width // DIVISOR * DIVISOR or width))
    plan.choose("crop", crop, f"images of {plan.seen} do not fit a batch on {plan.machine.name}; crops also vary them")


def architecture(plan: Plan) -> None:
    """3. FPN, which is cheap for its score; U-Net, which ends at half the resolution, where all objects are small."""
    width = plan.widths[len(plan.widths) // 2] * plan.get("resize", 1.0)
    if width < NARROW:
        plan.choose("arch", "unet", f"the objects of most classes are about {width:.0f} pixels wide")
    else:
        plan.choose("arch", "fpn", "a cheap decoder, the best so far on CamVid (.695, DeepLabV3+ .681)")


def batch(plan: Plan) -> None:
    """4. Eight images an update; fewer at once and accumulated where the memory is small; the fastest precision."""
    if plan.machine.device == "cuda":
        precision = "bf16" if plan.machine.bf16 else "fp16"
        plan.choose("precision", precision, f"less memory and time than fp32 on {plan.machine.name}")
    # About 1.5 KiB of activations for each input pixel of a mid-sized network in fp32.
    per_image = plan.input.height * plan.input.width * 1536 * (1 if plan.machine.device == "cpu" else 0.5)
    fits = max(1, int(0.7 * plan.machine.memory / per_image))
    wanted = 8 if plan.images >= 32 else 4
    images = min(wanted, fits)
    why = "batch norm wants several images" if wanted == 8 else "with few images a small batch makes more updates"
    plan.choose("batch", images, why if fits >= wanted else f"more do not fit into {plan.machine.memory / GIB:.0f} GiB")
    if images < 4:
        plan.choose("accumulate", 8 // images, "updates of about eight images all the same")


def loss(plan: Plan) -> None:
    """5. A pixel loss that learns fast and a region loss that is close to the score; mild weights if uneven."""
    if plan.multi:
        plan.choose("loss", "bce+dice", "each class on its own: cross-entropy learns fast, Dice minds the overlap")
        return
    if len(plan.classes) == 2:
        plan.choose("loss", "bce+dice", "two classes: cross-entropy learns fast, Dice minds the overlap")
        return
    shares = [found.pixel_share for found in plan.findings.classes if found.pixel_share]
    ratio = max(shares) / min(shares)
    plan.choose("loss", "ce+lovasz", "cross-entropy learns fast, Lovász is the mean IoU made differentiable")
    if ratio >= UNEVEN:
        plan.choose(
            "class-weights", "inverse-log", f"the most frequent class has {ratio:.0f} times the pixels of the rarest"
        )


def rare_classes(plan: Plan) -> None:
    """6. Crops that look for rare classes, and images with them more often."""
    names = plan.rare
    if names and plan.get("crop"):
        plan.choose("crop-balance", 0.25, f"a quarter of the crops is looked for where a rare class is: {_some(names)}")
    seldom = [one.name for one in plan.findings.classes if 0 < one.image_share < RARE_IMAGES]
    if seldom:
        plan.choose("oversample", RARE_IMAGES, f"in fewer than a tenth of the images: {_some(seldom)}")


def augmentation(plan: Plan) -> None:
    """7. More for fewer images and longer runs; no vertical flips where images have an up."""
    updates = plan.seconds / _update_seconds(plan)
    if updates < FEW:
        plan.choose("augment", "light", f"only about {updates:.0f} updates fit: stronger changes would slow learning")
    elif plan.images < 100:
        plan.choose("augment", "heavy", f"{plan.images} images are few, and there is time for what varies them")
    else:
        plan.choose("augment", "medium", "scales from 0.5 to 2, turns up to 10 degrees, colours")
    # Horizontal flips stay even where left and right differ: on CamVid, where they do, they help (+.010 as views).
    up = "have an up: no vertical flips" if plan.findings.orientation.has_up else "have no up"
    plan.notes.append(f"the images {up} (see `segtool inspect`)")


def learning_rate(plan: Plan) -> None:
    """8. AdamW at 1e-3 with a cosine; smaller steps for an encoder that is trained already."""
    plan.choose("lr", 1e-3, "AdamW with a cosine schedule")
    if plan.weights.source != "none":
        plan.choose("encoder-lr-scale", 0.5, "the decoder is new, the encoder is trained")
    if plan.images < 100:
        plan.choose("clip", 1.0, "few images make noisy gradients")


def epochs(plan: Plan) -> None:
    """9. As many epochs as fit into the time, but no more than help; validation at most a tenth of it."""
    update = _update_seconds(plan)
    per_epoch = max(1, plan.images // (plan.get("batch") * plan.get("accumulate", 1)))
    held_out = plan.images * HELD_OUT / (1 - HELD_OUT)
    pixels = plan.seen.height * plan.seen.width / (plan.input.height * plan.input.width * plan.get("batch"))
    validation = held_out * pixels * update * FORWARD
    training = plan.seconds * (1 - VALIDATION)
    updates = min(MOST, training / update)
    count = max(1, int(updates / per_epoch))
    every = max(1, math.ceil(validation * count / (VALIDATION * plan.seconds)))
    plan.choose("epochs", count, f"{1 / update:.2g} updates/s were measured here, {per_epoch} make an epoch")
    if every > 1:
        plan.choose("valid-every", min(every, count), "validation takes at most a tenth of the time")
    if count * per_epoch >= 2 * FEW:
        plan.choose("ema", 0.99 if count * per_epoch < MOST / 4 else 0.999, "an average of the weights is less noisy")
    plan.choose("time-limit", _duration(plan.seconds), "stops in time even if the machine is slower than now")


def prediction(plan: Plan) -> None:
    """10. Flips as in training; windows only where whole images do not fit."""
    plan.predict_with = "--checkpoint ema --tta hflip" if plan.get("ema") else "--tta hflip"
    if plan.seen.height * plan.seen.width > WINDOWED:
        plan.predict_with += f" --window {Size(*(2 * side for side in plan.input))}"
    plan.notes.append(
        "more views of other scales, 0.75,1,1.25,1.5, add as much again (CamVid: hflip +.010, with scales +.018)"
    )


def _update_seconds(plan: Plan) -> float:
    """Return the seconds of one update of the network chosen."""
    once = plan.measure(
        plan.get("arch"), plan.get("encoder"), plan.input, plan.get("batch"), plan.get("precision", "fp32")
    )
    return once * int(plan.get("accumulate", 1))


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f}m" if minutes >= 1 else f"{seconds:.0f}s"
