"""Read the pixels of given mask files: values, grey levels or colours, and which of them are transparent."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from segtool.core import images
from segtool.errors import SegtoolError

# Alpha from which a pixel counts as there.
OPAQUE = 128
# Largest difference between the channels of a pixel that is still grey, after JPEG.
NEARLY_GREY = 16

Ints = npt.NDArray[np.integer]
Colours = npt.NDArray[np.uint32]


class ColourMaskError(SegtoolError):
    """A mask has colours where values are wanted."""


@dataclass(frozen=True)
class Pixels:
    """The pixels of a mask.

    Attributes:
        values: integers (H, W): values, grey levels or packed colours.
        transparent: bool (H, W), or None if none is or transparency does not matter.
        lossy: whether the file is a JPEG, which changes values.
        palette: the packed colours of palette indices, or None if values are no indices.
    """

    values: Ints
    transparent: npt.NDArray[np.bool_] | None
    lossy: bool = False
    palette: Colours | None = None

    @property
    def counted(self) -> Ints:
        """The values of pixels that are not transparent, in any shape."""
        return self.values if self.transparent is None else self.values[~self.transparent]


@dataclass(frozen=True)
class MaskReader:
    """How mask files are read: which frame of several, and whether alpha says that pixels are transparent."""

    frame: int | None = None
    alpha: bool = False

    def values(self, path: Path) -> Pixels:
        """Read grey values or palette indices; of a colour image whose channels are equal, one of them.

        Raises:
            SegtoolError: the file cannot be read.
            ColourMaskError: its colours are not grey.
        """
        if (numbers := self._numbers(path)) is not None:
            return numbers
        with self._opened(path) as image:
            indexed = image.mode in ("P", "PA") and image.format != "GIF"
            palette = pack(np.array(image.getpalette("RGB") or [], np.int64).reshape(-1, 3)) if indexed else None
            return replace(self._pixels(image, _values(image, path)), palette=palette)

    def levels(self, path: Path) -> Pixels:
        """Read grey levels: those of a palette's colours, and of colours that are grey but for compression.

        Raises:
            SegtoolError: the file cannot be read.
            ColourMaskError: its colours are not grey.
        """
        if (numbers := self._numbers(path)) is not None:
            return numbers
        with self._opened(path) as image:
            if image.mode in ("L", "I;16", "I;16B", "I"):
                return self._pixels(image, images.index_values(image, path))
            rgb = np.asarray(image.convert("RGB"))
            if np.ptp(rgb, axis=2).max(initial=0) > NEARLY_GREY:
                raise ColourMaskError(f"mask {path} has colours, but --threshold is for grey masks")
            return self._pixels(image, np.asarray(image.convert("RGB").convert("L")))

    def colours(self, path: Path) -> Pixels:
        """Read colours, packed by `pack`; those of the palette, if there is one.

        Raises:
            SegtoolError: the file cannot be read, or has no 8-bit colours.
        """
        with self._opened(path) as image:
            if image.mode in ("I;16", "I;16B", "I", "F"):
                raise SegtoolError(
                    f"mask {path} is grey with 16 bits or more, which --colors cannot name; use --values"
                )
            rgba = np.ascontiguousarray(np.asarray(image.convert("RGB").convert("RGBA")))
            return self._pixels(image, rgba.view("<u4")[..., 0] & np.uint32(0xFFFFFF))

    def _numbers(self, path: Path) -> Pixels | None:
        """Return the numbers of a mask as GIS programs write them; their missing pixels count as transparent."""
        found = images.read_gis_mask(path) if self.frame is None else None
        return None if found is None else Pixels(found[0], found[1] if found[1].any() else None)

    @contextmanager
    def _opened(self, path: Path) -> Iterator[Image.Image]:
        with images.open_mask(path, self.frame) as image:
            image.load()
            yield image

    def _pixels(self, image: Image.Image, values: Ints) -> Pixels:
        transparent = None
        if self.alpha and image.has_transparency_data:
            transparent = np.asarray(image.convert("RGBA").getchannel("A")) < OPAQUE
        return Pixels(values, transparent, image.format in ("JPEG", "MPO"))


def pack(colours: npt.NDArray[np.integer]) -> Colours:
    """Pack RGB colours (..., 3) to one number each: red + 256 * green + 65536 * blue."""
    return np.asarray(colours.astype(np.uint32) @ np.array([1, 1 << 8, 1 << 16], np.uint32), np.uint32)


def unpack(packed: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Undo `pack`: (...) → (..., 3)."""
    return np.stack([np.asarray(packed, np.int64) >> shift & 255 for shift in (0, 8, 16)], axis=-1)


def _values(image: Image.Image, path: Path) -> Ints:
    if image.mode in images.INDEX_MODES:
        return images.index_values(image, path)
    if image.mode in ("LA", "La", "PA"):
        return np.asarray(image.getchannel(0))
    if image.mode not in ("RGB", "RGBA", "RGBX"):
        raise SegtoolError(f"mask {path} is of the kind {image.mode}, in which no class ids are stored; save it as PNG")
    pixels = np.asarray(image)
    if (pixels[..., 0] != pixels[..., 1]).any() or (pixels[..., 0] != pixels[..., 2]).any():
        raise ColourMaskError(f"mask {path} has colours where grey values are expected")
    return pixels[..., 0]
