"""Match images and index masks in two folders, and interpret the values in the masks."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.dataset.dataset import check_image_id
from segtool.core.files import read_bytes
from segtool.core.reporting.progress import Track
from segtool.errors import SegtoolError, UsageError

# Largest file of class names, in bytes.
LARGEST_NAMES = 1 << 20


def class_names(text: str) -> tuple[str, ...]:
    """Read class names from `a,b,c`, or from a file with one per line.

    Raises:
        UsageError: there are fewer than 2 or more than 255 names, or an empty or duplicate one.
        SegtoolError: the file cannot be read.
    """
    # Unlike Path.is_file, this accepts a list of names that is too long for a file name.
    if os.path.isfile(text):  # noqa: PTH113
        try:
            lines = read_bytes(Path(text), LARGEST_NAMES).decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise SegtoolError(f"{text} is not UTF-8 text with one class name per line ({error})") from error
        names = [line.strip() for line in lines if line.strip()]
    else:
        names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise UsageError(f"--classes {text}: a class name is empty")
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--classes {text}: duplicate class {duplicates[0]!r}")
    if not 2 <= len(names) <= images.MAX_CLASSES:
        raise UsageError(
            f"--classes {text}: {len(names)} class names; segtool takes 2 to {images.MAX_CLASSES}, including the"
            " background (and a FILE must exist)"
        )
    return tuple(names)


def list_images(folder: Path, others: Collection[Path] = ()) -> dict[str, Path]:
    """List the images in a folder and its subfolders by id: the relative path without suffix, in Unicode NFC.

    Skip other files, hidden files and folders (`.ipynb_checkpoints`, `._x.png`), and the folders in `others`.

    Raises:
        SegtoolError: the folder does not exist or has no images, or two images have the same id.
    """
    if not folder.is_dir():
        raise SegtoolError(f"{folder} is not a folder" if folder.exists() else f"the folder {folder} does not exist")
    elsewhere = {other.resolve() for other in others} - {folder.resolve()}
    paths: dict[str, Path] = {}
    for root, subfolders, names in os.walk(folder, followlinks=True):
        here = Path(root)
        subfolders[:] = sorted(s for s in subfolders if s[0] != "." and (here / s).resolve() not in elsewhere)
        for name in sorted(names):
            path = here / name
            if name[0] == "." or path.suffix.lower() not in images.SUFFIXES:
                continue
            # Archives from macOS have decomposed Hangul and umlauts; the other folder may not.
            image_id = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            check_image_id(image_id, folder)
            if image_id in paths:
                raise SegtoolError(f"{paths[image_id]} and {path} differ only in their suffix; keep one of them")
            paths[image_id] = path
    if not paths:
        raise SegtoolError(f"{folder} contains no images ({', '.join(images.SUFFIXES)})")
    return paths


def match_masks(pictures: Mapping[str, Path], masks: Mapping[str, Path]) -> dict[str, Path]:
    """Return the mask of each image: the one with the same id, or else the only one with the same stem.

    Raises:
        SegtoolError: an image has no mask, a mask has no image, or a stem fits several.
    """
    matched = {image_id: masks[image_id] for image_id in pictures if image_id in masks}
    rest, spare = _by_stem(pictures, matched), _by_stem(masks, matched)
    ambiguous = [stem for stem in rest if stem in spare and len(rest[stem]) + len(spare[stem]) > 2]
    if ambiguous:
        stem = ambiguous[0]
        raise SegtoolError(
            f"{pictures[rest[stem][0]]} and {masks[spare[stem][0]]} have the same stem, but others too:"
            f" put images and masks in the same subfolders{_more(ambiguous)}"
        )
    if missing := [image_id for stem, ids in rest.items() if stem not in spare for image_id in ids]:
        raise SegtoolError(f"image {pictures[missing[0]]} has no mask of that name{_more(missing)}")
    if unmatched := [mask for stem, ids in spare.items() if stem not in rest for mask in ids]:
        raise SegtoolError(f"mask {masks[unmatched[0]]} has no image of that name{_more(unmatched)}")
    matched.update({ids[0]: masks[spare[stem][0]] for stem, ids in rest.items()})
    return matched


def find_groups(image_ids: Iterable[str], regex: str | None, *, required: bool = True) -> dict[str, str]:
    """Return the group of each image: the first capture when `regex` is searched in the id; empty without a regex.

    Raises:
        UsageError: the regex is malformed or has no capture or, if `required`, does not match an id.
    """
    if regex is None:
        return dict.fromkeys(image_ids, "")
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UsageError(f"--group-regex {regex!r} is not a regular expression: {error}") from error
    if not pattern.groups:
        raise UsageError(f"--group-regex {regex!r} captures nothing: put the group in parentheses")
    matches = {image_id: pattern.search(image_id) for image_id in image_ids}
    groups = {image_id: (match[1] or "") if match else "" for image_id, match in matches.items()}
    ungrouped = [image_id for image_id, group in groups.items() if not group]
    if ungrouped and required:
        raise UsageError(f"--group-regex {regex!r} finds no group in {ungrouped[0]!r}{_more(ungrouped)}")
    return groups


def value_ids(masks: Sequence[Path], classes: int, ignore_index: int | None, track: Track) -> dict[int, int]:
    """Map each value in the given masks to a class id, or to 255 for pixels to ignore.

    If there are two classes, and all masks contain only 0, 255 and `ignore_index`, 255 is class 1 unless it is
    `ignore_index` itself. Otherwise values are class ids, and 255 and `ignore_index` are ignored.

    Raises:
        SegtoolError: a mask cannot be read.
    """
    ignored = {} if ignore_index is None else {ignore_index: images.IGNORE}
    if classes == 2 and ignore_index != images.IGNORE:
        binary = {0: 0, 255: 1, **ignored}
        values = (images.distinct(images.read_indices(path)) for path in masks)
        if all(binary.keys() >= set(v.tolist()) for v in track(values, total=len(masks), label="mask values")):
            return binary
    return {**{i: i for i in range(classes)}, images.IGNORE: images.IGNORE, **ignored}


def translate(values: npt.NDArray[np.integer], ids: Mapping[int, int], where: object) -> images.Array:
    """Translate the values (H, W) of a mask file to class ids, uint8 (H, W).

    Raises:
        SegtoolError: a value is not in `ids`.
    """
    present = images.distinct(values).tolist()
    if unknown := [value for value in present if value not in ids]:
        classes = [value for value, class_id in ids.items() if class_id != images.IGNORE]
        raise SegtoolError(
            f"mask {where} contains the value {', '.join(map(str, unknown[:5]))}, but classes are {min(classes)} to"
            f" {max(classes)} (--classes), and pixels to ignore"
            f" {' or '.join(str(v) for v, i in ids.items() if i == images.IGNORE) or 'none'} (--ignore-index)"
        )
    table = np.zeros(max(present) + 1, np.uint8)
    table[present] = [ids[value] for value in present]
    return table[values]


def read_palette(mask: Path, ids: Mapping[int, int], classes: int) -> tuple[tuple[int, int, int], ...] | None:
    """Return the colours of the classes if `mask` has a palette with all of them that is not just shades of grey."""
    colours = images.read_palette(mask)
    values = {class_id: value for value, class_id in ids.items() if class_id != images.IGNORE}
    if colours is None or len(values) < classes or max(values.values()) >= len(colours):
        return None
    chosen = tuple(colours[values[class_id]] for class_id in range(classes))
    return None if all(len(set(colour)) == 1 for colour in chosen) else chosen


def _by_stem(files: Mapping[str, Path], without: Collection[str]) -> dict[str, list[str]]:
    stems = defaultdict(list)
    for name in files:
        if name not in without:
            stems[PurePosixPath(name).name].append(name)
    return stems


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
