"""Find the images and .txt files of a YOLO data set, by its data.yaml or by the names of its folders."""

import logging
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segtool.core.dataset.dataset import check_image_id
from segtool.core.documents import read_yaml
from segtool.core.files import read_text
from segtool.core.formats import folders
from segtool.core.formats.folders import LARGEST_NAMES
from segtool.errors import SegtoolError, UsageError

log = logging.getLogger(__name__)

DATA_YAML = "data.yaml"
NAMES = ("classes.txt", "obj.names")
# Largest list of images, in bytes.
LARGEST_LIST = 256 << 20


@dataclass(frozen=True)
class YoloFiles:
    """Names of the classes, if any file says them; images of training, validation and test by image_id; and the .txt
    file of each image, whether or not it exists.
    """

    names: tuple[str, ...] | None
    train: Mapping[str, Path]
    valid: Mapping[str, Path] = field(default_factory=dict)
    test: Mapping[str, Path] = field(default_factory=dict)
    labels: Mapping[Path, Path] = field(default_factory=dict)


def find_files(data: Path, pictures: Path | None, others: Collection[Path] = ()) -> YoloFiles:
    """Find the files of a data set.

    Args:
        data: data.yaml; a folder that holds it, or images/ and labels/; or, with `pictures`, a folder of .txt files.
        pictures: folder of the images.
        others: folders to skip.

    Raises:
        UsageError: `data` is a file, and `pictures` is given.
        SegtoolError: something is missing.
    """
    described = data if data.is_file() else data / DATA_YAML
    if pictures is not None:
        if data.is_file():
            raise UsageError(f"--images needs the folder of the .txt files instead of {data}")
        train = folders.find_files(pictures, others)
        labels = {path: data / f"{image_id}.txt" for image_id, path in train.items()}
        return YoloFiles(_listed_names(data), train, labels=labels)
    if described.is_file():
        return _described(described, others)
    if not (data / "images").is_dir():
        raise SegtoolError(
            f"{data} holds neither {DATA_YAML} nor a folder images/" if data.is_dir() else f"{data} does not exist"
        )
    train = folders.list_images(data / "images", others)
    return YoloFiles(_listed_names(data), train, labels={path: label_of(path) for path in train.values()})


def label_of(image: Path) -> Path:
    """Return the .txt file of an image: in `labels`, where its path has `images`, or beside it if only that exists.

    >>> label_of(Path("set/images/train/a.jpg")).as_posix()
    'set/labels/train/a.txt'
    >>> label_of(Path("obj_train_data/a.jpg")).as_posix()
    'obj_train_data/a.txt'
    """
    parts, beside = list(image.parts), image.with_suffix(".txt")
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        parts[places[-1]] = "labels"
    apart = Path(*parts).with_suffix(".txt")
    return beside if beside.is_file() and not apart.is_file() else apart


def _described(path: Path, others: Collection[Path]) -> YoloFiles:
    content = read_yaml(path, dict[Any, Any])
    if "train" not in content:
        raise SegtoolError(f"{path} has no `train`, the folder of the training images")
    root = path.parent / str(content.get("path") or "")
    root = root if root.is_dir() else path.parent
    train, valid, test = (
        _images_of(content.get(key), f"{path}: `{key}`", root, path.parent, others) for key in ("train", "val", "test")
    )
    labels = {image: label_of(image) for image in (*train.values(), *valid.values())}
    return YoloFiles(_described_names(content.get("names"), path), train, valid, test, labels)


def _images_of(entry: Any, where: str, root: Path, home: Path, others: Collection[Path]) -> dict[str, Path]:
    """Return the images of one entry of data.yaml: a folder, a list of images, or several of them."""
    entries = entry if isinstance(entry, list) else [] if entry in (None, "") else [entry]
    if not all(isinstance(one, str) for one in entries):
        raise SegtoolError(f"{where} must name folders of images, not {entry!r}")
    found: dict[str, Path] = {}
    for one in entries:
        place = _place(one, where, root, home)
        listed = folders.list_images(place, others) if place.is_dir() else _read_list(place, root)
        prefix = f"{place.name}/" if len(entries) > 1 and place.is_dir() else ""
        for name, path in listed.items():
            if prefix + name in found:
                raise SegtoolError(f"{found[prefix + name]} and {path} would both have the image_id {prefix + name!r}")
            found[prefix + name] = path
    return found


def _place(entry: str, where: str, root: Path, home: Path) -> Path:
    """Return the folder or file that an entry means; Roboflow writes a `../` too many."""
    candidates = [root / entry, home / entry, root / entry.removeprefix("../"), home / entry.removeprefix("../")]
    for path in candidates:
        if path.exists():
            return path
    raise SegtoolError(f"{where} is {entry!r}, but {candidates[0]} does not exist")


def _read_list(path: Path, root: Path) -> dict[str, Path]:
    """Read a list of images, whose paths start at the list or at the root of the data set."""
    found: dict[str, Path] = {}
    for number, line in enumerate(read_text(path, LARGEST_LIST).splitlines(), 1):
        if not line.strip():
            continue
        image = next((p for p in (path.parent / line.strip(), root / line.strip()) if p.is_file()), None)
        if image is None:
            raise SegtoolError(f"line {number} of {path} names the image {line.strip()!r}, which does not exist")
        inside = image.relative_to(root) if image.is_relative_to(root) else Path(image.name)
        image_id = check_image_id(unicodedata.normalize("NFC", str(inside.with_suffix("").as_posix())), path)
        if image_id in found:
            raise SegtoolError(f"line {number} of {path} names {line.strip()!r} again, or an image of the same name")
        found[image_id] = image
    return found


def _described_names(names: Any, path: Path) -> tuple[str, ...] | None:
    """Return the names in data.yaml: a list, or a mapping from the ids."""
    if names is None:
        return None
    if isinstance(names, dict):
        missing = [number for number in range(len(names)) if number not in names]
        if missing:
            raise SegtoolError(f"{path}: `names` lacks the class {missing[0]}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise SegtoolError(f"{path}: `names` must be a list of class names, not {names!r}")
    if misread := [name for name in names if not isinstance(name, str | int | float) or isinstance(name, bool)]:
        raise SegtoolError(f"{path}: YAML reads a class name as {misread[0]!r}; put it in quotes, such as 'no'")
    return tuple(str(name) for name in names)


def _listed_names(folder: Path) -> tuple[str, ...] | None:
    """Return the names in a file in the folder or the one above it; None if there is none."""
    for path in (place / name for place in (folder, folder.resolve().parent) for name in NAMES):
        if path.is_file():
            return tuple(line.strip() for line in read_text(path, LARGEST_NAMES).splitlines() if line.strip())
    described = next((p for p in (folder / DATA_YAML, folder.resolve().parent / DATA_YAML) if p.is_file()), None)
    return _described_names(read_yaml(described, dict[Any, Any]).get("names"), described) if described else None


def tell_strays(labels: Iterable[Path]) -> None:
    """Warn about .txt files beside those of images that belong to no image."""
    known = set(labels)
    strays = [
        path
        for folder in sorted({path.parent for path in known if path.parent.is_dir()})
        for path in sorted(folder.glob("*.txt"))
        if path not in known and path.name not in NAMES and path.name[0] != "."
    ]
    if strays:
        log.warning("%d .txt files belong to no image, such as %s: they are left out", len(strays), strays[0])
