"""Files and entries of other tools are named after images, but not always with the whole image_id."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from segtool.core import images
from segtool.errors import SegtoolError


class ImageNames:
    """Finds the image that a name means: its image_id, or one that agrees with it up to the suffixes of images.

    So `a/b` and `a/b.jpg` mean the image `a/b` or `a/b.jpg`, whichever there is.
    """

    def __init__(self, ids: Iterable[str], kind: str = "image") -> None:
        """`kind`: what the ids are of, as errors name it."""
        self.kind = kind
        self.by_bare: dict[str, list[str]] = {}
        for image_id in ids:
            self.by_bare.setdefault(_bare(image_id), []).append(image_id)

    def find(self, *names: str, where: object) -> str:
        """The image_id that a name means, given in one or several spellings.

        Raises:
            SegtoolError: none, or several; `where` begins the line.
        """
        candidates = self.by_bare.get(_bare(names[0]), [])
        if exact := next((name for name in names if name in candidates), None):
            return exact
        if not candidates:
            raise SegtoolError(f"{where} is named after no {self.kind} of the data set")
        if len(candidates) > 1:
            raise SegtoolError(
                f"{where} could be {candidates[0]!r} or {candidates[1]!r}; name it after the whole image_id"
            )
        return candidates[0]


def _bare(name: str) -> str:
    """A relative path without its suffixes of images."""
    while PurePosixPath(name).suffix.lower() in images.SUFFIXES:
        name = name[: -len(PurePosixPath(name).suffix)]
    return name
