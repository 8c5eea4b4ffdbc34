"""Find the images that an annotation file names, however its tool wrote their paths."""

import logging
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from segtool.core.dataset.dataset import check_image_id
from segtool.errors import SegtoolError

log = logging.getLogger(__name__)

# Parts of a path that say nothing about where in a folder a file lies.
EMPTY = ("", ".", "..")


def find_images(names: Iterable[str], folder: Path, where: object) -> dict[str, Path]:
    """Return the file of each name: the path below `folder`, or else the only file whose path ends alike.

    So `C:/data/images/a.png` (or with backslashes), `https://host/bucket/a.png` and `images/a.png` are all `a.png` in
    `folder`, if it holds one file of that name. The longest ending that fits decides; upper and lower case count unless
    nothing fits.

    Args:
        where: names the annotation file in errors.

    Raises:
        SegtoolError: the folder or a file is missing, a name fits several files, or two names fit one.
    """
    if not folder.is_dir():
        raise SegtoolError(f"{folder} is not a folder" if folder.exists() else f"the folder {folder} does not exist")
    wanted = list(dict.fromkeys(names))
    found = {name: path for name in wanted if (path := _direct(name, folder))}
    rest = [name for name in wanted if name not in found]
    if rest:
        index = _Index(folder)
        matched = {name: path for name in rest if (path := index.find(name, where))}
        if missing := [name for name in rest if name not in matched]:
            raise SegtoolError(
                f"{folder / missing[0]} is missing ({len(missing)} of {len(wanted)} images are missing, and no file"
                f" below {folder} ends alike): --images must be the folder that the file names in {where} start from;"
                " remove the entries of images that are gone"
            )
        log.info(
            "%s: %d of %d images were found by the end of their paths, such as %r at %s",
            *(where, len(rest), len(wanted), rest[0], matched[rest[0]]),
        )
        found |= matched
    _check_distinct(found, where)
    return {name: found[name] for name in wanted}


def image_id_of(name: str, path: Path, folder: Path) -> str:
    """Return the image_id: the name as the annotation file has it if the file lies there, else its path in `folder`."""
    own = str(PurePosixPath(name)) if _direct(name, folder) == path else path.relative_to(folder).as_posix()
    return check_image_id(own, folder)


def _direct(name: str, folder: Path) -> Path | None:
    """Return the file that a plain relative path names."""
    if not name or "\0" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return None
    path = folder / name
    try:
        return path if path.is_file() else None
    except OSError:
        # A URL may be longer than a file name.
        return None


class _Index:
    """The files below a folder, by their names."""

    def __init__(self, folder: Path) -> None:
        self.by_name: dict[str, list[tuple[tuple[str, ...], Path]]] = {}
        for root, folders, names in os.walk(folder, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
            for name in sorted(names):
                path = Path(root, name)
                parts = tuple(unicodedata.normalize("NFC", part) for part in path.relative_to(folder).parts)
                self.by_name.setdefault(parts[-1].lower(), []).append((parts, path))

    def find(self, name: str, where: object) -> Path | None:
        """Return the only file whose path ends as the name does, the longest such ending first."""
        parts = _parts(name)
        if not parts:
            return None
        same_case = [one for one in self.by_name.get(parts[-1].lower(), []) if one[0][-1] == parts[-1]]
        candidates = same_case or self.by_name.get(parts[-1].lower(), [])
        if not candidates:
            return None
        length = max(_common_end(parts, found) for found, _ in candidates)
        best = [path for found, path in candidates if _common_end(parts, found) == length]
        if len(best) > 1:
            raise SegtoolError(
                f"{where}: {name!r} could be {best[0]} or {best[1]}; let --images be the folder that holds one of them"
            )
        return best[0]


def _parts(name: str) -> list[str]:
    """Return the parts of a path as any system or tool writes it."""
    # Label Studio serves local files as `/data/local-files/?d=folder/a.png`.
    path = re.sub(r"^.*[?&]d=", "", name)
    path = re.sub(r"^[a-z][a-z0-9+.-]*://[^/]*", "", path, flags=re.IGNORECASE).partition("?")[0]
    if path != name or "%" in path:
        path = unquote(path)
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return [part for part in parts if part not in EMPTY and not re.fullmatch("[A-Za-z]:", part)]


def _common_end(one: list[str], other: tuple[str, ...]) -> int:
    """Return how many parts at the end of two paths are equal, in any case."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a.lower() != b.lower()), min(len(one), len(other)))


def _check_distinct(found: dict[str, Path], where: object) -> None:
    named: dict[Path, str] = {}
    for name, path in found.items():
        if path in named and str(PurePosixPath(name)) != str(PurePosixPath(named[path])):
            raise SegtoolError(f"{where}: {named[path]!r} and {name!r} both lead to {path}; one of them is missing")
        named[path] = name
