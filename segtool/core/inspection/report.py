"""The findings as tables, as lines of text and as CSV files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from segtool.core.inspection.findings import Duplicate, Findings, PartStats
from segtool.core.inspection.survey import FEATURES, ImageFacts
from segtool.core.reporting.tables import Table

if TYPE_CHECKING:
    import pandas as pd

# Faults, pairs and sequences that are printed; the files have all.
PRINTED, PAIRS, NAMED = 50, 5, 6


def shown(findings: Findings) -> list[Table]:
    """Return the tables to print."""
    parts = {name: part for name, part in (("train", findings.train), ("test", findings.test)) if part}
    tables = [Table("Images", [_part_row(name, part) for name, part in parts.items()])]
    return [*tables, Table("Classes", class_rows(findings))] if findings.train and findings.train.masks else tables


def _part_row(name: str, part: PartStats) -> dict[str, object]:
    low, middle, high = (f"{part.height[end]}x{part.width[end]}" for end in (0, 1, 2))
    return {
        "part": name,
        "images": part.images,
        "with mask": part.masks,
        "HxW": middle if low == high else f"{low} to {high}",
        "stored as": ", ".join(f"{form} ({count})" for form, count in part.forms.items()) or "-",
    }


def class_rows(findings: Findings) -> list[dict[str, object]]:
    """Return a row for each class."""
    return [
        {
            "class": one.name,
            "pixel share": one.pixel_share,
            "images": one.images,
            "image share": one.image_share,
            "objects": one.objects,
            "area 5%": one.small,
            "median area": one.median,
            "area 95%": one.large,
            "specks": one.specks,
        }
        for one in findings.classes
    ]


def lines(findings: Findings) -> list[str]:
    """Return what was found in words, one finding a line, faults first."""
    told = [f"{fault.kind}: {fault.text}" for fault in findings.faults[:PRINTED]]
    if len(findings.faults) > PRINTED:
        told.append(f"and {len(findings.faults) - PRINTED} more faults")
    for name, part in (("train", findings.train), ("test", findings.test)):
        if part:
            told += _part_lines(name, part)
    return [*told, *_class_lines(findings), *_duplicate_lines(findings), *_sequence_lines(findings), *_apart(findings)]


def _part_lines(name: str, part: PartStats) -> list[str]:
    told = [
        (part.turned, "are turned by their EXIF tag; segtool reads them upright"),
        (part.constant, "have a single colour"),
        (part.empty, "have an empty mask (no object)"),
        (part.ignored, "have a mask that ignores all pixels"),
    ]
    found = [f"{len(ids)} {name} images {what} ({_some(ids)})" for ids, what in told if ids]
    if name == "train" and part.unlabelled:
        found.append(f"{part.unlabelled} train images have no mask")
    return found + ([f"{name} images are stored in {len(part.forms)} forms"] if len(part.forms) > 1 else [])


def _class_lines(findings: Findings) -> list[str]:
    never = [one.name for one in findings.classes if not one.images]
    rare = [f"{one.name} ({one.images} images)" for one in findings.classes if one.images and one.rare]
    told = [f"classes that never occur: {', '.join(never)}"] if never else []
    return told + ([f"classes that seldom occur: {', '.join(rare)}"] if rare else [])


def _duplicate_lines(findings: Findings) -> list[str]:
    if not findings.pairs:
        return ["no near-duplicates found"]
    told = []
    for kind, what in (("exact", "equal"), ("near", "nearly equal"), ("mirrored", "mirrored")):
        pairs = [pair for pair in findings.pairs if pair.kind == kind]
        if pairs:
            told.append(f"{len(pairs)} pairs of {what} images: {_where(pairs)}")
    if findings.near_groups:
        sizes = [len(ids) for ids in findings.near_groups]
        told.append(f"near-duplicates form {len(sizes)} groups in train, the largest of {sizes[0]} images")
    for pair in findings.leaks[:PAIRS]:
        told.append(f"leak ({pair.similarity:.2f}): {_name(pair, 0)} and {_name(pair, 1)}")
    return told


def _where(pairs: Sequence[Duplicate]) -> str:
    counts = Counter(
        "across folds" if pair.leaks and pair.parts == ("train", "train") else " and ".join(dict.fromkeys(pair.parts))
        for pair in pairs
    )
    names = {"train": "within train", "test": "within test", "train and test": "between train and test"}
    return ", ".join(f"{count} {names.get(place, place)}" for place, count in counts.most_common())


def _name(pair: Duplicate, side: int) -> str:
    fold = pair.folds[side]
    return f"{(pair.first, pair.second)[side]} ({pair.parts[side] if fold is None else f'fold {fold}'})"


def _sequence_lines(findings: Findings) -> list[str]:
    found = findings.sequences
    how = f"images that follow each other correlate by {found.successive:.2f}, others by {found.others:.2f}"
    told = []
    if found.names:
        names = [f"{name} ({train} train, {test} test)" for name, (train, test) in found.names.items()]
        asks = "which asks for groups" if found.alike else "which does not ask for groups"
        told.append(f"file names tell of {len(names)} sequences: {_some(names, NAMED)}; {how}, {asks}")
    elif found.alike:
        told.append(f"numbered images follow each other like frames or slices: {how}; a random split leaks")
    if found.shared:
        told.append(f"train and test share {len(found.shared)} sequences: {_some(found.shared, NAMED)}")
    return told


def _apart(findings: Findings) -> list[str]:
    found = findings.adversarial
    if found is None:
        return []
    told = f"train against test: AUC {found.auc:.2f} ± {found.error:.2f}"
    if not found.differ:
        return [f"{told}; they cannot be told apart by simple features"]
    reasons = [f"{one.feature} {one.train:.3g} in train, {one.test:.3g} in test" for one in found.telling]
    return [f"{told}; they differ: {'; '.join(reasons) or 'in several features together'}"]


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def files(findings: Findings, facts: Sequence[ImageFacts]) -> Mapping[str, "pd.DataFrame"]:
    """Return the tables to write, by file name."""
    import pandas as pd

    names = [one.name for one in findings.classes]
    pairs = [{**asdict(pair), **_sides(pair)} for pair in findings.pairs]
    columns = ["first", "second", "kind", "similarity", "part", "other_part", "fold", "other_fold", "other_mask"]
    return {
        "faults.csv": pd.DataFrame(
            [fault._asdict() for fault in findings.faults], columns=["image_id", "kind", "text"]
        ),
        "images.csv": pd.DataFrame([_image_row(one, names) for one in facts]),
        "classes.csv": pd.DataFrame(class_rows(findings)),
        "cooccurrence.csv": pd.DataFrame(findings.together, names, names).rename_axis("class").reset_index(),
        "duplicates.csv": pd.DataFrame(pairs, columns=columns, dtype=object),
    }


def _sides(pair: Duplicate) -> dict[str, object]:
    return dict(zip(("part", "other_part", "fold", "other_fold"), (*pair.parts, *pair.folds), strict=True))


def _image_row(one: ImageFacts, classes: Sequence[str]) -> dict[str, object]:
    features = {} if one.features is None else dict(zip(FEATURES[2:], one.features[2:].tolist(), strict=True))
    pixels = {} if one.quadrants is None else dict(zip(classes, one.pixels.tolist(), strict=True))
    return {
        "image_id": one.record.image_id,
        "part": one.part,
        "faults": "; ".join(fault.kind for fault in one.faults),
        "height": one.size.height if one.size else None,
        "width": one.size.width if one.size else None,
        "stored as": one.form,
        "turned": one.turned,
        "constant": one.constant,
        **features,
        **{f"pixels of {name}": count for name, count in pixels.items()},
        "pixels ignored": one.ignored if pixels else None,
    }
