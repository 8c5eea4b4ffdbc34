"""One pass over a data set: every image and mask is decoded once, and what is found stays small."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from segtool.core import images
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.documents import read_json
from segtool.core.inspection.thumbnails import SIDE, shrink, to_grey
from segtool.core.planes import PlanesJson, class_pixels
from segtool.core.reporting.pictures import to_rgb
from segtool.core.reporting.progress import Track, silent
from segtool.core.scoring.components import component_runs
from segtool.core.workers import map_in_processes
from segtool.errors import SegtoolError
from segtool.values import Size

Part = Literal["train", "test"]

# What `features` measures.
FEATURES = (
    *("height", "width", "bytes per pixel", "red", "green", "blue", "brightness", "contrast", "saturation"),
    *("sharpness", "brightness of the upper half", "brightness of the left half"),
)
# Bins of object areas: eight for each doubling, up to 2^32 pixels.
PER_OCTAVE, BINS = 8, 256
# Side in pixels of the part whose sharpness is measured.
MIDDLE = 256


class Fault(NamedTuple):
    """Something that keeps an image from being used: what is wrong in short, whose, and one line that says it all."""

    kind: str
    image_id: str
    text: str


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of one image and its mask.

    Attributes:
        size: height and width in pixels, None if the image cannot be read.
        form: mode and depth as stored, such as `RGB 8-bit`.
        turned: whether an EXIF tag turns or mirrors the image.
        digest: digest of the decoded pixels; empty if the image cannot be read.
        constant: whether all pixels have one value.
        thumbnail: uint8 (32, 32).
        features: float32 (FEATURES,).
        quadrants: pixels of each class in the upper left, upper right, lower left and lower right quarter, int64
            (4, C); None without an image and a mask that can be used.
        mask_digest: digest of such a mask, else empty.
        ignored: pixels of the mask that are ignored.
        holds: `nothing`: no class but class 0, or none of classes that may overlap; `ignored pixels`: these alone.
        objects: number of 8-connected components by class and by bin of their area: rows of class, bin, number; class 0
            counts, too.
    """

    record: Record
    part: Part
    faults: tuple[Fault, ...] = ()
    size: Size | None = None
    form: str = ""
    turned: bool = False
    digest: bytes = b""
    constant: bool = False
    thumbnail: images.Array | None = None
    features: npt.NDArray[np.float32] | None = None
    quadrants: npt.NDArray[np.int64] | None = None
    mask_digest: bytes = b""
    ignored: int = 0
    holds: Literal["objects", "nothing", "ignored pixels"] = "objects"
    objects: npt.NDArray[np.int32] | None = None

    @property
    def pixels(self) -> npt.NDArray[np.int64]:
        """Pixels of each class, int64 (C,), of an image with a mask."""
        assert self.quadrants is not None
        return np.asarray(self.quadrants.sum(0))


def survey(dataset: Dataset, workers: int | None = None, track: Track = silent) -> list[ImageFacts]:
    """Read every image and mask of a data set once and return the facts: training images first, in their order.

    Args:
        workers: processes that read; 0: none, None: one for each core.
    """
    parts: list[tuple[Record, Part]] = [(record, "train") for record in dataset.train]
    parts += [(record, "test") for record in dataset.test]
    found = map_in_processes(lambda one: look_at(dataset, *one), parts, workers)
    return list(track(found, total=len(parts), label="reading images and masks"))


def look_at(dataset: Dataset, record: Record, part: Part) -> ImageFacts:
    """Return the facts of one image; whatever is wrong with its files is among them."""
    faults: list[Fault] = []

    def tried(kind: Callable[[], str], read: Callable[[Record], images.Array]) -> images.Array | None:
        try:
            return read(record)
        except SegtoolError as error:
            faults.append(Fault(kind(), record.image_id, str(error)))
            return None

    image = tried(lambda: "unreadable image", dataset.read_image)
    mask = tried(lambda: _kind_of_mask_fault(record), dataset.read_mask) if record.mask else None
    if image is not None and mask is not None and image.shape[:2] != mask.shape[-2:]:
        faults.append(_mismatch(record, Size(*image.shape[:2]), Size(*mask.shape[-2:])))
        mask = None
    facts: dict[str, object] = {}
    if image is not None:
        facts |= _image_facts(image, record)
    if image is not None and mask is not None:
        facts |= _plane_facts(mask) if dataset.multi else _mask_facts(mask, len(dataset.classes))
    return ImageFacts(record, part, tuple(faults), **facts)  # type: ignore[arg-type]


def _kind_of_mask_fault(record: Record) -> str:
    """Return the kind of a fault for which the mask could not be read: its file, or its values."""
    assert record.mask is not None
    try:
        if record.mask.suffix == ".json":
            read_json(record.mask, PlanesJson)
        else:
            images.read_indices(record.mask)
    except SegtoolError:
        return "unreadable mask"
    return "values that are no class"


def _mismatch(record: Record, image: Size, mask: Size) -> Fault:
    text = f"mask {record.mask} is {mask} (HxW), its image {record.image} is {image}"
    if mask == (image.width, image.height):
        text += ": one of the two is turned; is it the EXIF orientation?"
    return Fault("size mismatch", record.image_id, text)


def _image_facts(image: npt.NDArray[np.generic], record: Record) -> dict[str, object]:
    form, turned = images.stored_form(record.image)
    picture = to_rgb(image)
    small = shrink(picture)
    size = Size(*image.shape[:2])
    return {
        "size": size,
        "form": form or f"{image.shape[2]} bands {image.dtype}",
        "turned": turned,
        "digest": blake2b(image.tobytes(), digest_size=16, key=repr(image.shape).encode()).digest(),
        "constant": _is_constant(image),
        "thumbnail": to_grey(small),
        "features": _features(picture, small, record.image.stat().st_size),
    }


def _is_constant(image: npt.NDArray[np.generic]) -> bool:
    """Return whether all pixels are equal; the first row mostly tells."""
    first = image[:1, :1]
    return bool((image[0] == first).all() and (image == first).all())


def _features(picture: images.Array, small: images.Array, file_bytes: int) -> npt.NDArray[np.float32]:
    """Return FEATURES of a picture uint8 (H, W, 3) and its thumbnail (32, 32, 3), float32; levels from 0 to 1."""
    height, width = picture.shape[:2]
    rgb = small.astype(np.float32) / 255
    grey = rgb.mean(2)
    top, left = max(0, (height - MIDDLE) // 2), max(0, (width - MIDDLE) // 2)
    middle = cv2.cvtColor(picture[top : top + MIDDLE, left : left + MIDDLE], cv2.COLOR_RGB2GRAY)
    sharpness = np.log1p(cv2.Laplacian(middle, cv2.CV_32F).var())
    halves = (grey[: SIDE // 2].mean() - grey.mean(), grey[:, : SIDE // 2].mean() - grey.mean())
    saturation = (rgb.max(2) - rgb.min(2)).mean()
    levels = (*rgb.mean((0, 1)), grey.mean(), grey.std(), saturation, sharpness, *halves)
    return np.array([height, width, file_bytes / (height * width), *levels], np.float32)


def _mask_facts(mask: images.Array, classes: int) -> dict[str, object]:
    row, column = mask.shape[0] // 2, mask.shape[1] // 2
    quarters = [mask[:row, :column], mask[:row, column:], mask[row:, :column], mask[row:, column:]]
    counts = np.array([images.count_values(np.ascontiguousarray(quarter)) for quarter in quarters])
    return {
        "quadrants": counts[:, :classes],
        "mask_digest": blake2b(mask.tobytes(), digest_size=16).digest(),
        "ignored": int(counts[:, images.IGNORE].sum()),
        "holds": _holds(bool(counts[:, 1:classes].any()), bool(counts[:, :classes].any())),
        "objects": _objects(mask, classes),
    }


def _holds(objects: bool, known: bool) -> str:
    return "objects" if objects else "nothing" if known else "ignored pixels"


def _plane_facts(planes: images.Array) -> dict[str, object]:
    """Return what `_mask_facts` does of planes (C, H, W), each on its own; a pixel is ignored if all classes do."""
    row, column = planes.shape[1] // 2, planes.shape[2] // 2
    parts = [(top, left) for top in (slice(row), slice(row, None)) for left in (slice(column), slice(column, None))]
    objects = [np.zeros((0, 3), np.int32)]
    for index, plane in enumerate(planes):
        # Class 0 is what lies around the objects.
        found = _objects((plane == 1).astype(np.uint8), 2)
        objects.append(found[found[:, 0] == 1] + np.array([index - 1, 0, 0], np.int32))
    ignored = (planes == images.IGNORE).all(0)
    return {
        "quadrants": np.array([class_pixels(planes[:, top, left], len(planes)) for top, left in parts]),
        "mask_digest": blake2b(planes.tobytes(), digest_size=16).digest(),
        "ignored": int(ignored.sum()),
        "holds": _holds(bool((planes == 1).any()), not ignored.all()),
        "objects": np.concatenate(objects),
    }


def _objects(mask: images.Array, classes: int) -> npt.NDArray[np.int32]:
    """Return rows of class, bin of the area, and number of components, int32 (R, 3)."""
    runs = component_runs(mask)
    values = mask.reshape(-1)[runs.starts].astype(np.int64)
    places = values * BINS + area_bin(runs.areas)
    # A component's runs add up to its area, so that each component counts one.
    numbers = np.rint(np.bincount(places, runs.lengths / runs.areas, minlength=classes * BINS))[: classes * BINS]
    filled = np.flatnonzero(numbers)
    return np.stack([filled // BINS, filled % BINS, numbers[filled]], axis=1).astype(np.int32)


def area_bin(areas: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the bins of areas in pixels; bin b holds those nearest to 2 ** (b / 8)."""
    return np.minimum(np.rint(np.log2(areas) * PER_OCTAVE), BINS - 1).astype(np.int64)


def with_pixels(facts: Sequence[ImageFacts], part: Part) -> Iterator[ImageFacts]:
    """Yield the images of a part that have a mask that can be used."""
    return (one for one in facts if one.part == part and one.quadrants is not None)
