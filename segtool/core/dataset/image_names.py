"""Match the names that other tools give to files and entries with image_ids."""

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from segtool.core import images
from segtool.errors import SegtoolError


class ImageNames:
    """Finds the image that a name refers to: an equal image_id, or one that differs only in image suffixes.

    So `a/b` and `a/b.jpg` refer to the image `a/b` or `a/b.jpg`, whichever exists.
    """

    def __init__(self, ids: Iterable[str], kind: str = "image") -> None:
        """
        Args:
            kind: the noun for these ids in errors.
        """
        self.kind = kind
        self.by_bare: dict[str, list[str]] = {}
        for image_id in ids:
            self.by_bare.setdefault(_bare(image_id), []).append(image_id)

    def __contains__(self, name: str) -> bool:
        """Whether the name refers to an image, or to several."""
        return _bare(name) in self.by_bare

    def find(self, *names: str, where: object) -> str:
        """Return the image_id that a name, given in one or several spellings, refers to.

        Args:
            where: the start of an error message.

        Raises:
            SegtoolError: the name fits no image_id, or several.
        """
        candidates = self.by_bare.get(_bare(names[0]), [])
        if exact := next((name for name in names if name in candidates), None):
            return exact
        if not candidates:
            raise SegtoolError(f"{where} matches no {self.kind} of the data set")
        if len(candidates) > 1:
            raise SegtoolError(
                f"{where} could be {candidates[0]!r} or {candidates[1]!r}; name it after the whole image_id"
            )
        return candidates[0]


def match_names(names: Iterable[str], ids: Iterable[str], where: object) -> Mapping[str, str | None]:
    """Return the image_id that each name refers to, by `ImageNames` or else as the only one that ends alike, or None.

    Raises:
        SegtoolError: a name fits several; `where` names the file they stand in.
    """
    known = list(ids)
    whole = ImageNames(known)
    by_end: dict[str, list[str]] = {}
    for image_id in known:
        by_end.setdefault(_end(image_id), []).append(image_id)
    found: dict[str, str | None] = {}
    for name in dict.fromkeys(names):
        fits = [whole.find(name, where=f"{where}: {name!r}")] if name in whole else by_end.get(_end(name), [])
        if len(fits) > 1:
            raise SegtoolError(f"{where}: {name!r} could be {fits[0]!r} or {fits[1]!r}; write the whole path")
        found[name] = fits[0] if fits else None
    return found


def _end(name: str) -> str:
    """Return the last part of a path, which Windows may have written, without image suffixes."""
    return _bare(name.replace("\\", "/").rpartition("/")[2])


def _bare(name: str) -> str:
    """Return a relative path without its image suffixes."""
    while PurePosixPath(name).suffix.lower() in images.SUFFIXES:
        name = name[: -len(PurePosixPath(name).suffix)]
    return name
