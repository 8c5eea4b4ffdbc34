"""Identities of images: two files are the same image if their pixels are equal, whatever their format.

A crop has the identity of the image it was cut from, so that a run that has seen the image has also seen the crop.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segtool.core.bands import is_picture, read_as_stored, read_notes
from segtool.core.files import digest_bytes, digest_file
from segtool.core.images import read_image
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


def identify(files: Sequence[Path], known: Mapping[str, str] | None = None) -> Identity:
    """Return the identity of an image, whose bands may be in several files.

    Args:
        known: digest of a file → digest of its pixels, for files that need not be decoded.

    Raises:
        SegtoolError: the file cannot be read or decoded.
    """
    if len(files) > 1:
        parts = [identify([path], known) for path in files]
        return Identity(*(digest_bytes("".join(digests).encode()) for digests in zip(*parts, strict=True)))
    file, cut_from = _file_digest(files[0])
    if cut_from is not None:
        return Identity(file, cut_from)
    return Identity(file, (known or {}).get(file) or _pixel_digest(files[0]))


def identify_all(images: Iterable[Sequence[Path]], known: Mapping[str, str] | None = None) -> list[Identity]:
    """Return the identities of images, each given by its files, decoded in threads."""
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda files: identify(files, known), images))


def file_digest(files: Sequence[Path]) -> str:
    """Return the `file` of an image's identity without decoding it."""
    digests = [_file_digest(path)[0] for path in files]
    return digests[0] if len(files) == 1 else digest_bytes("".join(digests).encode())


def same_picture(files: Sequence[Path], others: Sequence[Path]) -> bool:
    """Return whether two images, each given by its files, have the same pixels."""
    # Mostly the same file, or a copy of it: then nothing is decoded.
    if [path.resolve() for path in files] == [path.resolve() for path in others]:
        return True
    return file_digest(files) == file_digest(others) or identify(files).among(frozenset(identify(others)))


def _file_digest(path: Path) -> tuple[str, str | None]:
    """Return the digest of a file and None or, for a crop, both digests of the image it was cut from."""
    try:
        notes = read_notes(path)
    except SegtoolError:
        # A broken file is reported where its pixels are read.
        notes = {}
    if CUT_FROM in notes:
        return notes[CUT_FROM], notes.get(CUT_FROM_PIXELS, "")
    return digest_file(path), None


def _pixel_digest(path: Path) -> str:
    # Four channels: transparency, or a fourth band, tells images apart; grey and palettes become colours.
    if is_picture(path):
        pixels = read_image(path, 4)
        shape, parts = pixels.shape, iter([pixels])
    else:
        shape, parts = read_as_stored(path)
    digest = hashlib.blake2b(digest_size=16, key=repr(shape).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
