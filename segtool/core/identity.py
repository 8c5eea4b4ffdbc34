"""Which image a file shows: a crop counts as the image it was cut from, so that nobody is taken not to have seen it."""

from pathlib import Path

from segtool.core import images
from segtool.core.files import digest_file
from segtool.errors import SegtoolError

# The text in a crop's PNG that holds the digest of the image it was cut from.
CUT_FROM = "segtool cut from"


def image_digest(path: Path) -> str:
    """The digest of an image's content, of a crop that of the image it was cut from.

    Raises:
        SegtoolError: it cannot be read.
    """
    try:
        source = images.read_note(path, CUT_FROM) if path.suffix == ".png" else None
    except SegtoolError:
        # Whoever needs its pixels will say so.
        source = None
    return source or digest_file(path)
