"""Find files by a pattern such as `train/{id}/masks/*.png`, or all images below a folder."""

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from segtool.core import images
from segtool.core.dataset.dataset import check_image_id
from segtool.errors import SegtoolError, UsageError

FIELD = re.compile(r"(\{[^{}/]*\}|\*\*/|\*)")
# Folders that archives of macOS have beside their content. Hidden ones (.ipynb_checkpoints, ._x.png) are skipped, too.
JUNK_FOLDERS = ("__MACOSX",)


class Found(NamedTuple):
    """A file that fits a pattern."""

    path: Path
    image_id: str
    class_name: str
    band: str


def is_pattern(where: Path) -> bool:
    """Return whether this is a pattern, not the path of something that exists."""
    return bool(FIELD.search(where.as_posix())) and not where.exists()


def walk(folder: Path, others: Collection[Path] = (), suffixes: Collection[str] = images.SUFFIXES) -> Iterator[Path]:
    """Yield the files with these suffixes in a folder and its subfolders, sorted, without the folders in `others`.

    Skip other files, hidden files and folders, and what archives of macOS hold beside their content.

    Raises:
        SegtoolError: the folder does not exist.
    """
    if not folder.is_dir():
        raise SegtoolError(f"{folder} is not a folder" if folder.exists() else f"the folder {folder} does not exist")
    elsewhere = {other.resolve() for other in others} - {folder.resolve()}

    def is_wanted(parent: Path, name: str) -> bool:
        return name[0] != "." and name not in JUNK_FOLDERS and (parent / name).resolve() not in elsewhere

    for root, subfolders, names in os.walk(folder, followlinks=True):
        here = Path(root)
        subfolders[:] = sorted(name for name in subfolders if is_wanted(here, name))
        for name in sorted(names):
            if name[0] != "." and Path(name).suffix.lower() in suffixes:
                yield here / name


def find(
    pattern: Path, others: Collection[Path] = (), ids: Collection[str] = (), classes: Sequence[str] = ()
) -> list[Found]:
    """Find the image files that fit a pattern.

    Args:
        pattern: `{id}` is the image_id, which may include folders; `{class}` a class name; `{band}` a band, each in a
            file of its own; `*` anything within a name, `**/` any folders. The suffix may be in upper or lower case.
        others: folders to skip.
        ids: known image_ids, which decide where a file could have several.
        classes: class names; without them `{class}` is not allowed.

    Raises:
        UsageError: the pattern is malformed.
        SegtoolError: nothing fits it, or a file could have several ids.
    """
    text = unicodedata.normalize("NFC", pattern.as_posix())
    fixed = FIELD.split(text)[0]
    root = Path(fixed[: fixed.rfind("/") + 1] or ".")
    rest = text[fixed.rfind("/") + 1 :]
    alternatives = "|".join(map(re.escape, sorted(classes, key=len, reverse=True)))
    # A band is what is behind the last separator: `a_b_1` is band 1 of a_b.
    forms = [_compile(rest, alternatives, greedy) for greedy in ("", "?") if not greedy or "{band}" not in rest]
    any_class = _compile(rest, alternatives and "[^/]+")
    found = []
    for path in walk(root, others):
        name = unicodedata.normalize("NFC", path.relative_to(root).as_posix())
        if fits := {m["id"]: m for form in forms if (m := form.fullmatch(name))}:
            image_id = _choose(list(fits), ids, path)
            fields = fits[image_id].groupdict("")
            found.append(Found(path, check_image_id(image_id, path), fields.get("class", ""), fields.get("band", "")))
        elif other := any_class.fullmatch(name):
            raise SegtoolError(
                f"{path} is of the class {other['class']!r}, which is not among the classes; name it in --classes, and"
                " drop it by --map if it is not wanted"
            )
    if not found:
        raise SegtoolError(f"no image file fits {str(pattern)!r}")
    return found


def find_bands(pattern: Path, others: Collection[Path] = ()) -> tuple[list[str], dict[str, list[Path]]]:
    """Find images each of whose bands is a file of its own, by a pattern with `{band}`.

    Returns:
        The bands in the order of their numbers, or of their names; and the files of each image in that order, by id.

    Raises:
        UsageError: the pattern is malformed.
        SegtoolError: nothing fits it, or an image lacks a band, or has one twice.
    """
    files: dict[str, dict[str, Path]] = {}
    for found in find(pattern, others):
        of_image = files.setdefault(found.image_id, {})
        if found.band in of_image:
            raise SegtoolError(f"{of_image[found.band]} and {found.path} are both band {found.band!r} of one image")
        of_image[found.band] = found.path
    bands = sorted({band for of_image in files.values() for band in of_image}, key=_natural)
    for image_id, of_image in files.items():
        if lacking := [band for band in bands if band not in of_image]:
            raise SegtoolError(f"image {image_id!r} has no band {lacking[0]!r}, which others have ({pattern})")
    return bands, {image_id: [of_image[band] for band in bands] for image_id, of_image in files.items()}


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts `B2` before `B10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split("([0-9]+)", name)]


def has_folder(pattern: Path, image_id: str) -> bool:
    """Return whether the folder in which a pattern looks for the files of one image exists."""
    parent = pattern.parent.as_posix()
    return "{id}" in parent and Path(parent.replace("{id}", image_id)).is_dir()


def _compile(pattern: str, classes: str, greedy: str = "") -> re.Pattern[str]:
    """Return the regular expression of a pattern, in which ids are as long as possible, or with `?` as short."""
    forms = {
        "{id}": f"(?P<id>.+{greedy})",
        "{class}": f"(?P<class>{classes})" if classes else None,
        "{band}": None if classes else "(?P<band>[^/]+?)",
        "*": "[^/]*",
        "**/": "(?:.*/)?",
    }
    stem, dot, suffix = pattern.rpartition(".")
    if "/" in suffix or FIELD.search(suffix):
        stem, dot, suffix = pattern, "", ""
    expression = ""
    for part in FIELD.split(stem):
        form = forms.get(part, re.escape(part))
        if form is None or (part.startswith("{") and part not in forms):
            known = "{id} and {class}" if classes else "{id}, {band}"
            raise UsageError(f"{pattern!r}: {part} is unknown here; a pattern has {known}, * and **/")
        again = part.startswith("{") and form in expression
        expression += f"(?P={part[1:-1]})" if again else form
    if "(?P<id>" not in expression:
        raise UsageError(f"{pattern!r} does not say where the image_id is: write {{id}} in its place")
    return re.compile(expression + re.escape(dot) + f"(?i:{re.escape(suffix)})")


def _choose(candidates: Sequence[str], ids: Collection[str], path: Path) -> str:
    """Return the id among `candidates` that is known, or the only one."""
    known = [name for name in candidates if name in ids] or candidates
    if len(known) > 1:
        raise SegtoolError(
            f"{path} could have the image_id {known[0]!r} or {known[1]!r}; make the pattern more precise"
        )
    return known[0]
