"""Find images and masks in folders or by patterns, and match them by name."""

import logging
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from segtool.core import images
from segtool.core.dataset.dataset import check_image_id, load_dataset
from segtool.core.files import read_text
from segtool.core.formats import file_patterns
from segtool.core.formats.mask_codings import MaskFile
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)

# Largest file of class names, in bytes.
LARGEST_NAMES = 1 << 20
# Characters of a list of names in an error.
LONGEST_SHOWN = 100


def class_names(text: str, least: int = 2) -> tuple[str, ...]:
    """Read class names from `a,b,c`, from a file with one per line, or from another `dataset.yaml`.

    Raises:
        UsageError: there are fewer than `least` names, or an empty or duplicate one.
        SegtoolError: the file cannot be read.
    """
    # Unlike Path.is_file, this accepts a list of names that is too long for a file name.
    is_file = os.path.isfile(text)  # noqa: PTH113
    if is_file and text.lower().endswith((".yaml", ".yml")):
        return load_dataset(Path(text)).classes
    if is_file:
        names = [line.strip() for line in read_text(Path(text), LARGEST_NAMES).splitlines() if line.strip()]
    else:
        names = [name.strip() for name in text.split(",")]
    shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
    if "" in names:
        raise UsageError(f"--classes {shown}: a class name is empty")
    if duplicates := [name for name, times in Counter(names).items() if times > 1]:
        raise UsageError(f"--classes {shown}: duplicate class {duplicates[0]!r}")
    if len(names) < least:
        raise UsageError(
            f"--classes {shown}: {len(names)} class names; segtool takes 2 to {images.MAX_CLASSES}, including the"
            " background (and a FILE must exist)"
        )
    if len(names) == 1 and not is_file and Path(text).suffix:
        raise UsageError(f"--classes {shown}: there is no such file")
    return tuple(names)


def find_files(where: Path, others: Collection[Path] = ()) -> dict[str, Path]:
    """Find the images of a folder or pattern by id; `others` are folders to skip.

    Raises:
        SegtoolError: nothing is found, two files have the same id, or a file could have two ids.
        UsageError: the pattern is malformed.
    """
    if not file_patterns.is_pattern(where):
        return list_images(where, others)
    files: dict[str, Path] = {}
    for found in file_patterns.find(where, others):
        if found.image_id in files:
            raise SegtoolError(
                f"{files[found.image_id]} and {found.path} both have the image_id {found.image_id!r}; if they are masks"
                " of one class or object each, add --masks-per-image"
            )
        files[found.image_id] = found.path
    return files


def find_images(where: Path, others: Collection[Path] = ()) -> dict[str, tuple[Path, ...]]:
    """Find the files of each image by id: several where the pattern has `{band}`; errors as those of `find_files`."""
    if "{band}" in where.as_posix() and file_patterns.is_pattern(where):
        bands, files = file_patterns.find_bands(where, others)
        log.info("%s: %d bands, in this order: %s", where, len(bands), ", ".join(bands))
        return {image_id: tuple(paths) for image_id, paths in files.items()}
    return {image_id: (path,) for image_id, path in find_files(where, others).items()}


def list_images(folder: Path, others: Collection[Path] = ()) -> dict[str, Path]:
    """List the images in a folder and its subfolders by id: the relative path without suffix, in Unicode NFC.

    Skip other files, what systems leave behind (see file_patterns.walk), and the folders in `others`.

    Raises:
        SegtoolError: the folder does not exist or has no images, or two images have the same id.
    """
    paths: dict[str, Path] = {}
    for path in file_patterns.walk(folder, others):
        # Archives from macOS have decomposed Hangul and umlauts; the other folder may not.
        image_id = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        check_image_id(image_id, folder)
        if image_id in paths:
            raise SegtoolError(
                f"{paths[image_id]} and {path} differ only in their suffix; keep one of them, or type a pattern such as"
                f" '{folder}/{{id}}{path.suffix}'"
            )
        paths[image_id] = path
    if not paths:
        raise SegtoolError(f"{folder} contains no images ({', '.join(images.SUFFIXES)})")
    return paths


def with_suffix(masks: Mapping[str, Path], suffix: str, where: Path) -> dict[str, Path]:
    """Return the files whose names end with `suffix`, by their names without it. Raises SegtoolError if none does."""
    chosen = {name.removesuffix(suffix): path for name, path in masks.items() if name.endswith(suffix)}
    if not chosen:
        raise SegtoolError(
            f"--mask-suffix {suffix}: no file in {where} is called so; one is {next(iter(masks.values()))}"
        )
    return chosen


def group_masks(
    pictures: Mapping[str, Path], where: Path, classes: Sequence[str], others: Collection[Path] = ()
) -> dict[str, list[MaskFile]]:
    """Find the masks of each image that show one class or object each.

    Args:
        where: a folder with a folder for each image, or a pattern.
        classes: their names; a mask is of the class in its path or file name, or else of the second of two.

    Raises:
        SegtoolError: an image has no masks (an empty folder of its own is fine), a mask no image, or no class.
    """
    pattern = where if file_patterns.is_pattern(where) else where / "{id}" / "*"
    groups: dict[str, list[MaskFile]] = {name: [] for name in pictures}
    unmatched = []
    for found in file_patterns.find(pattern, others, pictures, classes):
        if found.image_id in groups:
            groups[found.image_id].append(MaskFile(found.path, _class_of(found, classes)))
        else:
            unmatched.append(found.path)
    if missing := [name for name, files in groups.items() if not files and not file_patterns.has_folder(pattern, name)]:
        by_class = any((where / name).is_dir() for name in classes)
        advice = f"; are its folders classes? Then type --masks '{where}/{{class}}/{{id}}.png'" if by_class else ""
        raise SegtoolError(f"image {pictures[missing[0]]} has no masks in {pattern}{_more(missing)}{advice}")
    if unmatched:
        raise SegtoolError(f"mask {unmatched[0]} has no image{_more(unmatched)}")
    return groups


def _class_of(found: file_patterns.Found, classes: Sequence[str]) -> str:
    if found.class_name:
        return found.class_name
    if found.path.stem in classes:
        return found.path.stem
    if len(classes) == 2:
        return classes[1]
    raise SegtoolError(
        f"mask {found.path} shows no class: name it after one of {', '.join(classes[:5])}, or show where its class"
        " stands, such as --masks 'masks/{class}/{id}.png'"
    )


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
            f" put images and masks in the same subfolders{_more(ambiguous)}, or type --masks-per-image if each mask"
            " shows one class or object"
        )
    if missing := [image_id for stem, ids in rest.items() if stem not in spare for image_id in ids]:
        stem = PurePosixPath(missing[0]).name
        suffix = next((other.removeprefix(stem) for other in spare if other.startswith(stem)), None)
        advice = (
            f"if {masks[spare[stem + suffix][0]]} is it, type --mask-suffix '{suffix}'"
            if suffix
            else "add it, or move images without masks to a folder of their own, for --test-images"
        )
        raise SegtoolError(f"image {pictures[missing[0]]} has no mask of that name{_more(missing)}; {advice}")
    if unmatched := [mask for stem, ids in spare.items() if stem not in rest for mask in ids]:
        raise SegtoolError(f"mask {masks[unmatched[0]]} has no image of that name{_more(unmatched)}")
    matched.update({ids[0]: masks[spare[stem][0]] for stem, ids in rest.items()})
    if own := [path for image_id, path in matched.items() if path == pictures[image_id]]:
        raise SegtoolError(
            f"{own[0]} would be both image and mask{_more(own)}; say what differs in their names by --mask-suffix, or"
            " type patterns such as --images 'DIR/{id}.jpg' --masks 'DIR/{id}.png'"
        )
    return matched


def valid_prefix(train: Mapping[str, Path], valid: Mapping[str, Path]) -> str:
    """Return a prefix for the ids of validation images that makes them differ from those of training images.

    Raises:
        SegtoolError: an image is in both parts, or even with the prefix two ids are equal.
    """
    own = {path.resolve() for path in train.values()}
    if twice := [path for path in valid.values() if path.resolve() in own]:
        raise SegtoolError(f"{twice[0]} is in training and in validation ({len(twice)} such images)")
    same = [name for name in valid if name in train]
    if not same:
        return ""
    if conflicts := [name for name in valid if f"valid/{name}" in train]:
        name = conflicts[0]
        raise SegtoolError(
            f"{train[f'valid/{name}']} and {valid[name]} would both have the image_id 'valid/{name}'; rename a folder"
        )
    log.info("%d validation ids are also training ids, such as %r: all get the prefix valid/", len(same), same[0])
    return "valid/"


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


def _by_stem(files: Mapping[str, Path], without: Collection[str]) -> dict[str, list[str]]:
    stems = defaultdict(list)
    for name in files:
        if name not in without:
            stems[PurePosixPath(name).name].append(name)
    return stems


def _more(names: Sequence[object]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
