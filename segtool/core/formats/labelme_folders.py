"""Find labelme's JSON files in folders, their images and their labels."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from segtool.core import images
from segtool.core.dataset.dataset import check_image_id
from segtool.core.formats.file_patterns import walk
from segtool.core.formats.image_finder import find_images
from segtool.core.formats.labelme import IGNORED_LABEL, LINE, LabelmeFile, class_name, read
from segtool.core.reporting.progress import Track, silent
from segtool.errors import SegtoolError, did_you_mean

log = logging.getLogger(__name__)


def label_names(files: Iterable[LabelmeFile], given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the given labels, or all in the files in alphabetical order, without those that name no object.

    Raises:
        SegtoolError: a label is not among the given ones.
    """
    first: dict[str, str] = {}
    for file in files:
        for shape in file.shapes:
            if shape.kind != LINE:
                first.setdefault(shape.label, f"shape {shape.number} in {file.path}")
    used = [label for label in sorted(first) if label != IGNORED_LABEL]
    if given is None:
        _tell_similar(used)
        return tuple(used)
    names = tuple(class_name(name) for name in given if name != IGNORED_LABEL)
    if unknown := [label for label in used if label not in names]:
        raise SegtoolError(
            f"{first[unknown[0]]} has the label {unknown[0]!r}, which is not in --classes"
            f"{did_you_mean(unknown[0], names) or '; add it, and drop it by --map if it is not wanted'}"
        )
    return names


def _tell_similar(labels: Sequence[str]) -> None:
    folded = Counter(label.casefold() for label in labels)
    if same := [label for label in labels if folded[label.casefold()] > 1]:
        log.warning("labels %s are different classes; make them one by --map, if they are one", same)


def tell_left_out(files: Sequence[LabelmeFile]) -> None:
    """Warn about shapes that cover no pixels. Raises SegtoolError if there is nothing else."""
    lines = [(file.path, shape) for file in files for shape in file.shapes if shape.kind == LINE]
    total = sum(len(file.shapes) for file in files)
    if not lines:
        return
    path, shape = lines[0]
    first = f"shape {shape.number} ({shape.label!r}) in {path}"
    message = f"{len(lines)} of {total} shapes are lines or points, which cover no pixels (the first: {first})"
    if len(lines) == total:
        raise SegtoolError(f"{message}: draw polygons around what they mark")
    log.warning("%s; they are left out", message)


def find_files(where: Sequence[Path], others: Collection[Path] = (), track: Track = silent) -> dict[str, LabelmeFile]:
    """Read the JSON files in folders, by image_id: the path without suffix in its folder, with the folder's name before
    it if there are several folders.

    Args:
        where: folders, or single files.
        others: folders to skip.

    Raises:
        SegtoolError: a file is malformed, two have the same id, or there are none.
    """
    paths = [p for place in where for p in ([place] if place.is_file() else walk(place, others, (".json",)))]
    if not paths:
        raise SegtoolError(f"{where[0]} holds no JSON files")
    files: dict[str, LabelmeFile] = {}
    foreign: list[Path] = []
    for path in track(paths, total=len(paths), label="annotations"):
        file = read(path)
        if file is None:
            foreign.append(path)
            continue
        image_id = _id_of(path, where)
        if image_id in files:
            raise SegtoolError(f"{files[image_id].path} and {path} would both have the image_id {image_id!r}")
        files[image_id] = file
    if not files:
        raise SegtoolError(
            f"{foreign[0]} is not a labelme file: it has no list `shapes` (import coco takes COCO files)"
        )
    if foreign:
        log.warning("%d JSON files without `shapes` are left out, such as %s", len(foreign), foreign[0])
    return files


def find_pictures(files: Mapping[str, LabelmeFile], folder: Path | None) -> dict[str, Path]:
    """Return the image of each file: in `folder`, if given, or where the file says, or beside it.

    Raises:
        SegtoolError: there is none, or two files are of one image.
    """
    if folder is None:
        found = {image_id: _beside(file) for image_id, file in files.items()}
    else:
        found = _in_folder(files, folder)
    owners: dict[Path, Path] = {}
    for image_id, file in files.items():
        other = owners.setdefault(found[image_id].resolve(), file.path)
        if other != file.path:
            raise SegtoolError(f"{other} and {file.path} are both of the image {found[image_id]}; keep one of them")
    return found


def _beside(file: LabelmeFile) -> Path:
    """Return the image where the file says it is, or else of the same name beside it."""
    parent, named = file.path.parent, _posix(file.image_path)
    candidates = [parent / named, parent / named.name] if named.name else []
    same_stem = (file.path.with_suffix(suffix) for suffix in (*images.SUFFIXES, *map(str.upper, images.SUFFIXES)))
    for path in (*candidates, *same_stem):
        if path.is_file():
            return path
    remedy = "say by --images where the images are"
    if file.holds_image:
        remedy += ", or write the copies in the files by labelme's labelme_export_json"
    raise SegtoolError(f"{file.path}: its image {file.image_path!r} is neither where it says nor beside it; {remedy}")


def _in_folder(files: Mapping[str, LabelmeFile], folder: Path) -> dict[str, Path]:
    """Return the image with the same id in `folder`, or of the name that the file says in the same subfolder, or else
    the one whose path ends as the file says.
    """
    by_id: dict[str, list[Path]] = {}
    for path in walk(folder):
        name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        by_id.setdefault(name, []).append(path)
    found: dict[str, Path] = {}
    elsewhere: dict[str, str] = {}
    for image_id, file in files.items():
        alike = folder / PurePosixPath(image_id).parent / _posix(file.image_path).name
        if len(by_id.get(image_id, ())) == 1:
            found[image_id] = by_id[image_id][0]
        elif alike.is_file():
            found[image_id] = alike
        else:
            elsewhere[image_id] = file.image_path or f"{image_id}.png"
    by_name = find_images(elsewhere.values(), folder, "the JSON files") if elsewhere else {}
    return found | {image_id: by_name[name] for image_id, name in elsewhere.items()}


def _posix(path: str) -> PurePosixPath:
    """Return a path that Windows may have written."""
    return PurePosixPath(path.replace("\\", "/"))


def find_unlisted(found: Collection[Path], folder: Path | None, others: Collection[Path]) -> list[Path]:
    """Return the other images in `folder`, or in the folders of those that are found."""
    known = {path.resolve() for path in found}
    if folder is not None:
        paths = list(walk(folder, others))
    else:
        parents = sorted({path.parent for path in found})
        paths = [p for place in parents for p in sorted(place.iterdir()) if p.suffix.lower() in images.SUFFIXES]
    return [path for path in paths if path.name[0] != "." and path.resolve() not in known]


def add_ids(paths: Iterable[Path], where: Sequence[Path], found: Mapping[str, Path]) -> dict[str, Path]:
    """Return images by image_id. Raises SegtoolError if one has the id of another, which may be in `found`."""
    added: dict[str, Path] = {}
    for path in paths:
        image_id = _id_of(path, where)
        if other := found.get(image_id) or added.get(image_id):
            raise SegtoolError(f"{other} and {path} would both have the image_id {image_id!r}; keep one of them")
        added[image_id] = path
    return added


def _id_of(path: Path, where: Sequence[Path]) -> str:
    """Return the path in the folder among `where` that holds it, without suffix, or else its name."""
    roots = list(dict.fromkeys(place.parent if place.is_file() else place for place in where))
    holder = next((folder for folder in roots if path.is_relative_to(folder)), path.parent)
    inside = path.relative_to(holder).with_suffix("").as_posix()
    name = f"{holder.resolve().name}/{inside}" if len(roots) > 1 else inside
    return check_image_id(unicodedata.normalize("NFC", name), holder)
