"""What to do about what was found: the split, the size, what to fix and what to mind."""

import shlex
from collections import Counter
from pathlib import Path
from statistics import median

from segtool.core.inspection.findings import Findings, PartStats
from segtool.values import Size

# Crops are so many times as wide as large objects, within these sides and in these steps, in pixels.
AROUND, SMALLEST_CROP, LARGEST_CROP, STEP = 4, 256, 1024, 32
# Images of more pixels are predicted in windows.
WINDOWED, WINDOW = 2048 * 2048, Size(1024, 1024)
FOLDS = 5
# Ids that are named.
NAMED = 3

MENDING = {
    "unreadable image": "get the files again, or remove their rows from the CSV",
    "unreadable mask": "get the files again, or empty their cells in the column mask",
    "size mismatch": "turn or resize the masks, or remove the rows",
    "values that are no class": "add the class or ignore_index to dataset.yaml, or import again with a map",
    "no masks": "add masks to train.csv",
    "one class": "check how the masks were imported",
}


def advise(findings: Findings, data: Path) -> list[str]:
    """Return the advice, one piece a line: what to fix first, then how to split and train, then what to mind."""
    return [*_fixes(findings), *_next_steps(findings, data), *_cautions(findings)]


def split_command(findings: Findings, data: Path) -> str:
    """Return the line that splits the data so that nothing known leaks."""
    kind, count = "stratified", findings.train.masks if findings.train else 0
    sequences = [name for name, (train, _) in findings.sequences.names.items() if train]
    if findings.groups > 1:
        kind, count = "stratified-group", findings.groups
    elif len(sequences) > 1 and findings.sequences.alike:
        kind, count = "stratified-group --group-by sequences", len(sequences)
    elif (
        findings.near_groups and (apart := count - sum(map(len, findings.near_groups)) + len(findings.near_groups)) > 1
    ):
        kind, count = "stratified-group --group-by near-duplicates", apart
    return f"segtool split {shlex.quote(str(data))} -o folds.csv --kind {kind} --n-folds {max(2, min(FOLDS, count))}"


def crop_size(findings: Findings) -> Size | None:
    """Return the crop to train on; None: whole images, which are all of one size, small enough and no larger.

    A crop is four times as wide as the large objects (95 %) of the median class, 256 to 1024 pixels, a multiple of 32,
    and no larger than the smallest image.
    """
    large = [one.large**0.5 for one in findings.classes if one.objects]
    if findings.train is None or not large:
        return None
    wanted = min(max(AROUND * median(large), SMALLEST_CROP), LARGEST_CROP)
    side = -(-int(wanted) // STEP) * STEP
    (height, *_, tallest), (width, *_, widest) = findings.train.height, findings.train.width
    if (height, width) == (tallest, widest) and side >= max(height, width):
        return None
    return Size(*(max(STEP, min(side, least // STEP * STEP)) for least in (height, width)))


def _fixes(findings: Findings) -> list[str]:
    lines = []
    for kind, count in Counter(fault.kind for fault in findings.faults).items():
        ids = [fault.image_id for fault in findings.faults if fault.kind == kind and fault.image_id]
        lines.append(f"fix {kind}{f' ({count}: {_some(ids)})' if ids else ''}: {MENDING[kind]}")
    if contradicting := [pair for pair in findings.pairs if pair.other_mask]:
        pairs = [f"{pair.first} = {pair.second}" for pair in contradicting]
        lines.append(f"fix equal images with different masks ({len(pairs)}: {_some(pairs)}): keep the better mask")
    part = findings.train
    if part and part.constant:
        lines.append(f"remove images of a single colour ({len(part.constant)}: {_some(part.constant)})")
    if part and part.ignored:
        lines.append(f"remove images that are ignored altogether ({len(part.ignored)}: {_some(part.ignored)})")
    if never := [one.name for one in findings.classes if not one.images]:
        lines.append(f"add images of classes that never occur, or import again without them, by --map: {_some(never)}")
    return lines


def _next_steps(findings: Findings, data: Path) -> list[str]:
    train, lines = findings.train, []
    if train is None or not train.masks:
        return []
    if train.masks > 1:
        lines.append(f"split: {split_command(findings, data)}")
    else:
        lines.append("add images: one cannot be split, and a model trained on it, without --folds, has no honest score")
    crop, tall, wide = crop_size(findings), train.height[2], train.width[2]
    lines.append(
        f"train with --crop {crop} (images are {_range(train)})" if crop else f"train on whole images ({tall}x{wide})"
    )
    if tall * wide > WINDOWED:
        lines.append(f"predict with --window {WINDOW}, since images have up to {tall}x{wide} pixels")
    if findings.orientation.has_up:
        one = findings.orientation.vertical[0]
        side = "upper" if one.mean > 0 else "lower"
        lines.append(f"images have an up ({one.what} is in the {side} half): flip from left to right only")
    return lines


def _range(part: PartStats) -> str:
    low, high = (f"{part.height[end]}x{part.width[end]}" for end in (0, 2))
    return low if low == high else f"{low} to {high}"


def _cautions(findings: Findings) -> list[str]:
    lines = []
    if rare := [one for one in findings.classes if one.images and one.rare]:
        names = [f"{one.name} in {one.images} images" for one in rare]
        lines.append(f"mind rare classes ({_some(names)}): train with --oversample or --crop-balance")
    if findings.folds and (leaks := [pair for pair in findings.leaks if pair.parts == ("train", "train")]):
        lines.append(f"make the folds again: {len(leaks)} pairs of near-duplicates are in different folds")
    if findings.sequences.alike and not findings.sequences.names and not findings.groups:
        lines.append(
            "numbered images look like one video or stack: give blocks of neighbours a name in the column group of"
            " train.csv and split by --kind group, or validation scores will be too good"
        )
    if shared := findings.sequences.shared:
        lines.append(f"train and test share the sequences {_some(shared)}: scores on those are not scores on new ones")
    if findings.adversarial and findings.adversarial.differ:
        lines.append("the test images differ from the training images: expect lower scores there than in validation")
    return lines


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
