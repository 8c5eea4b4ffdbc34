"""Identities of images: two files are the same image if their pixels are equal, whatever their format.

A crop has the identity of the image it was cut from, so that a run that has seen the image has also seen the crop.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from segtool.core import images
from segtool.core.files import digest_file
from segtool.errors import SegtoolError

# PNG text keys in a crop for the digests of the image it was cut from.
CUT_FROM, CUT_FROM_PIXELS = "segtool cut from", "segtool cut from pixels"


class Identity(NamedTuple):
    """Digests of an image: of the bytes of its file, and of its decoded pixels.

    `pixels` is empty for a crop made by a version that did not store it.
    """

    file: str
    pixels: str

    def among(self, digests: frozenset[str]) -> bool:
        """Return whether the image has one of these digests, of file or of pixels."""
        return self.file in digests or (self.pixels != "" and self.pixels in digests)

    @property
    def notes(self) -> dict[str, str]:
        """The PNG texts for a crop of the image."""
        return {CUT_FROM: self.file, CUT_FROM_PIXELS: self.pixels}


def identify(path: Path, known: Mapping[str, str] | None = None) -> Identity:
    """Return the identity of an image.

    Args:
        known: digest of a file → digest of its pixels, for files that need not be decoded.

    Raises:
        SegtoolError: the file cannot be read or decoded.
    """
    file, cut_from = _file_digest(path)
    if cut_from is not None:
        return Identity(file, cut_from)
    return Identity(file, (known or {}).get(file) or _pixel_digest(path))


def identify_all(paths: Iterable[Path], known: Mapping[str, str] | None = None) -> list[Identity]:
    """Return the identities of images, decoded in threads."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda path: identify(path, known), paths))


def file_digest(path: Path) -> str:
    """Return the `file` of an image's identity without decoding it."""
    return _file_digest(path)[0]


def same_picture(path: Path, other: Path) -> bool:
    """Return whether two files show the same pixels."""
    # Mostly the same file, or a copy of it: then nothing is decoded.
    if path.resolve() == other.resolve() or file_digest(path) == file_digest(other):
        return True
    return identify(path).among(frozenset(identify(other)))


def _file_digest(path: Path) -> tuple[str, str | None]:
    """Return the digest of a file and None or, for a crop, both digests of the image it was cut from."""
    try:
        notes = images.read_notes(path) if path.suffix == ".png" else {}
    except SegtoolError:
        # A broken file is reported where its pixels are read.
        notes = {}
    if CUT_FROM in notes:
        return notes[CUT_FROM], notes.get(CUT_FROM_PIXELS, "")
    return digest_file(path), None


def _pixel_digest(path: Path) -> str:
    # Four channels: transparency, or a fourth band, tells images apart; grey and palettes become colours.
    pixels = images.read_image(path, 4)
    return hashlib.blake2b(pixels.tobytes(), digest_size=16, key=repr(pixels.shape).encode()).hexdigest()
