"""Pictures of the findings: class shares, sizes, examples of each class, and duplicates."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.files import atomic
from segtool.core.images import Pixels
from segtool.core.inspection.findings import Duplicate, Findings
from segtool.core.inspection.survey import ImageFacts, with_pixels
from segtool.core.reporting.pictures import write_pairs, write_preview

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Examples of each class, and pairs of duplicates.
EXAMPLES, PAIRS = 2, 16
MOST_CLASSES = 40
# Letters of an image_id on a picture.
LETTERS = 24


def write_pictures(folder: Path, dataset: Dataset, facts: Sequence[ImageFacts], findings: Findings) -> list[Path]:
    """Write the pictures for which there is something to show, and return their paths."""
    makers: dict[str, Callable[[Path], bool]] = {
        "class_shares.png": lambda path: _write_shares(path, findings),
        "sizes.png": lambda path: _write_sizes(path, findings, facts),
        "examples.png": lambda path: _write_examples(path, dataset, list(with_pixels(facts, "train"))),
        "duplicates.png": lambda path: _write_duplicates(path, dataset, facts, findings),
    }
    return [folder / name for name, write in makers.items() if write(folder / name)]


def _figure(rows: int) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(11, 1.6 + 0.28 * max(rows, 6)), layout="constrained")


def _save(figure: "Figure", path: Path) -> bool:
    with atomic(path, "wb") as file:
        figure.savefig(file, format="png", dpi=100)
    return True


def _write_shares(path: Path, findings: Findings) -> bool:
    classes = findings.classes[:MOST_CLASSES]
    if not any(one.images for one in classes):
        return False
    figure = _figure(len(classes))
    left, right = figure.subplots(1, 2, sharey=True)
    names, rows = [one.name for one in classes], np.arange(len(classes))
    for axes, shares, title in (
        (left, [100 * one.pixel_share for one in classes], "% of scored pixels"),
        (right, [100 * one.image_share for one in classes], "% of images"),
    ):
        bars = axes.barh(rows, shares, color="#4878a8")
        axes.bar_label(bars, [f"{share:.3g}" for share in shares], padding=3, fontsize=8)
        axes.set_title(title)
        axes.set_xlim(0, max(shares) * 1.12)
    left.set_yticks(rows, names)
    left.invert_yaxis()
    return _save(figure, path)


def _write_sizes(path: Path, findings: Findings, facts: Sequence[ImageFacts]) -> bool:
    sizes = {part: [one.size for one in facts if one.part == part and one.size] for part in ("train", "test")}
    if not any(sizes.values()):
        return False
    classes = [one for one in findings.classes if one.objects][:MOST_CLASSES]
    figure = _figure(len(classes))
    left, right = figure.subplots(1, 2)
    for part, colour in (("train", "#4878a8"), ("test", "#d65f5f")):
        if found := sizes[part]:
            points, counts = np.unique(np.array(found), axis=0, return_counts=True)
            area = 20 + 180 * counts / counts.max()
            left.scatter(points[:, 1], points[:, 0], area, colour, alpha=0.5, label=f"{part} ({len(found)})")
    left.set(title="Images", xlabel="width in pixels", ylabel="height in pixels")
    left.legend()
    rows = np.arange(len(classes))
    right.hlines(rows, [one.small for one in classes], [one.large for one in classes], color="#4878a8", lw=3)
    right.plot([one.median for one in classes], rows, "o", color="black", ms=4)
    right.set_yticks(rows, [one.name for one in classes])
    right.invert_yaxis()
    right.set(title="Objects: median, and 90 % of them", xlabel="area in pixels", xscale="log")
    return _save(figure, path)


def _write_examples(path: Path, dataset: Dataset, facts: Sequence[ImageFacts]) -> bool:
    """For each class the image with most of it and one with a typical amount."""
    chosen: list[tuple[str, Record]] = []
    for index, name in enumerate(dataset.classes[:MOST_CLASSES]):
        holders = sorted((one for one in facts if one.pixels[index]), key=lambda one: -int(one.pixels[index]))
        for one in dict.fromkeys(range(0, len(holders), max(1, len(holders) // EXAMPLES))[:EXAMPLES]):
            record = holders[one].record
            share = holders[one].pixels[index] / max(1, holders[one].pixels.sum())
            chosen.append((f"{name}, {share:.2%}: {_short(record.image_id)}", record))
    if not chosen:
        return False
    # Read one by one, as they are drawn.
    samples = ((caption, dataset.read_image(record), [dataset.read_mask(record)]) for caption, record in chosen)
    write_preview(path, samples, dataset.classes, dataset.palette, multi=dataset.multi)
    return True


def _write_duplicates(path: Path, dataset: Dataset, facts: Sequence[ImageFacts], findings: Findings) -> bool:
    """Leaking pairs first; of the others one for each scene."""
    records: dict[tuple[str, str], Record] = {(one.part, one.record.image_id): one.record for one in facts}
    chosen = _varied(findings.pairs)[:PAIRS]

    def drawn(pair: Duplicate) -> tuple[str, Pixels, Pixels]:
        keys = _keys(pair)
        one, other = (dataset.read_image(records[key]) for key in keys)
        places = [part if fold is None else f"fold {fold}" for part, fold in zip(pair.parts, pair.folds, strict=True)]
        names = " | ".join(f"{_short(key[1])} ({place})" for key, place in zip(keys, places, strict=True))
        return f"{pair.similarity:.3f} {names}", one, other

    if chosen:
        write_pairs(path, map(drawn, chosen))
    return bool(chosen)


def _varied(pairs: Sequence[Duplicate]) -> list[Duplicate]:
    """Leave out pairs of images that resemble those of an earlier pair; of leaking pairs, only those of the same."""
    alike: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for pair in pairs:
        one, other = _keys(pair)
        alike.setdefault(one, {one}).add(other)
        alike.setdefault(other, {other}).add(one)
    shown: set[tuple[str, str]] = set()
    varied = []
    for pair in pairs:
        one, other = _keys(pair)
        if not shown & {one, other}:
            varied.append(pair)
            shown |= {one, other} if pair.leaks else alike[one] | alike[other]
    return varied


def _keys(pair: Duplicate) -> tuple[tuple[str, str], tuple[str, str]]:
    return (pair.parts[0], pair.first), (pair.parts[1], pair.second)


def _short(image_id: str) -> str:
    return image_id if len(image_id) <= LETTERS else f"...{image_id[-LETTERS:]}"
