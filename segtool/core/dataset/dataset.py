"""`dataset.yaml` and its CSVs: which images there are, their masks, groups and weights."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Required, TypedDict, get_args

import cv2
import numpy as np
import yaml

from segtool.core import images
from segtool.core.bands import DEPTHS, Depth, WindowedImage, missing_everywhere, open_bands, read_bands
from segtool.core.documents import read_yaml
from segtool.core.files import atomic, digest_bytes, digest_stats
from segtool.core.planes import Planes, read_planes
from segtool.core.tables import read_csv, to_number, write_csv
from segtool.errors import SegtoolError
from segtool.values import Size

# One class in each pixel, or any number of classes.
Labels = Literal["single", "multi"]
# Classes that may overlap; they can be painted into one mask with two values more.
MOST_PLANES = 254
# Largest number of nested folders in an image_id.
DEEPEST = 50
# OpenCV resizes images of no more channels.
MOST_CHANNELS = 512


class Labelled:
    """What has classes of which a pixel has one, or any number."""

    classes: tuple[str, ...]
    labels: Labels

    @property
    def multi(self) -> bool:
        """Whether classes may overlap: masks are then planes, one for each class."""
        return self.labels == "multi"

    @property
    def planes(self) -> tuple[str, ...] | None:
        """The names of classes that may overlap; None where each pixel has one class."""
        return self.classes if self.multi else None


@dataclass(frozen=True)
class Record:
    """One image: its id, the paths of its files, and its other columns in the CSV."""

    image_id: str
    # The image, or its first band if each band, or each group of bands, is a file of its own.
    image: Path
    mask: Path | None = None
    group: str = ""
    weight: float = 1.0
    # Class probabilities, used as targets for the pixels that the mask does not ignore.
    soft: Path | None = None
    # Set for a training image whose mask belongs to another data set.
    origin: "Origin | None" = field(default=None, repr=False, compare=False)
    # The files of the image's other bands.
    more: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the image, in the order of their bands."""
        return (self.image, *self.more)


@dataclass(frozen=True)
class Dataset(Labelled):
    """A data set: classes, the meaning of its mask values, and its images in the order of its CSVs."""

    path: Path
    classes: tuple[str, ...]
    ignore_index: int = images.IGNORE
    # Whether the file sets ignore_index: a 0/255 mask of two classes is read as binary only where it does not.
    ignore_stated: bool = True
    channels: int = 3
    palette: tuple[tuple[int, int, int], ...] | None = None
    train: tuple[Record, ...] = ()
    test: tuple[Record, ...] = ()
    # Names of the channels, if the file gives them.
    bands: tuple[str, ...] = ()
    dtype: Depth = "uint8"
    # Value of missing pixels; None: what the images themselves state.
    nodata: float | None = None
    # Whether pixels that are missing in all channels are ignored in loss and score.
    ignore_nodata: bool = False
    # Whether a pixel has one class, or any number of them (`multi`), and none is the background.
    labels: Labels = "single"

    @property
    def binary(self) -> bool:
        """Whether there are two classes, background and foreground."""
        return len(self.classes) == 2 and not self.multi

    @cached_property
    def by_id(self) -> dict[str, Record]:
        """The training records by image_id."""
        return {record.image_id: record for record in self.train}

    def source(self, record: Record) -> str:
        """Return the name of the data set a record comes from, as tables show it."""
        return record.origin.name if record.origin else self.path.name

    @property
    def plain(self) -> bool:
        """Whether images are pictures of 8 bits without missing pixels: grey, or of three or four channels."""
        return self.dtype == "uint8" and self.channels in images.MODES and self.nodata is None

    @property
    def bytes_per_pixel(self) -> int:
        """The memory of a pixel of an image."""
        return self.channels * np.dtype(self.dtype).itemsize

    @property
    def kind(self) -> str:
        """What the images are, in words; data sets whose images are used together share it."""
        depth = "" if self.dtype == "uint8" else f" of {self.dtype}"
        return f"{self.channels} channels{depth}" + ("" if self.nodata is None else f" with nodata {self.nodata:g}")

    def empty(self, path: Path, **changes: Any) -> "Dataset":
        """Return a data set of the same classes and kind of images, for masks that segtool writes, without records."""
        cleared: dict[str, Any] = {"ignore_index": images.IGNORE, "ignore_stated": True, "train": (), "test": ()}
        return replace(self, path=path, **{**cleared, **changes})

    def read_image(self, record: Record) -> images.Pixels:
        """Read the image as `dtype` (H, W, channels), or as float32 with NaN if pixels are missing."""
        return read_bands(record.files, self.channels, self.dtype, self.nodata)

    def open_image(self, record: Record) -> images.Pixels | WindowedImage:
        """Return the image as `read_image` does, or a large one so that windows of it are read one by one."""
        return open_bands(record.files, self.channels, self.dtype, self.nodata)

    def read_mask(self, record: Record) -> images.Array:
        """Read the mask as uint8 (H, W): class ids, 255 = ignore. Raises SegtoolError if the record has none.

        Where classes overlap, it is uint8 (C, H, W): 1 in the class, 0 outside, 255 = ignore.
        """
        return self.read_pair(record)[1] if self.ignore_nodata else self._read_mask(record)

    def read_planes(self, record: Record) -> Planes:
        """Read the masks of classes that may overlap, unexpanded; `ignore_nodata` is not applied."""
        if origin := record.origin:
            planes = origin.dataset.read_planes(replace(record, origin=None))
            return planes.mapped(origin.ids[: len(origin.dataset.classes)], len(self.classes))
        if record.mask is None:
            raise SegtoolError(f"image {record.image_id!r} has no mask in {self.path}")
        return read_planes(record.mask, self.classes)

    def scored_planes(self, record: Record) -> Planes:
        """Read the masks as `read_planes` does; missing pixels are ignored where `ignore_nodata` says so."""
        return Planes.of(self.read_mask(record)) if self.ignore_nodata else self.read_planes(record)

    def mask_size(self, record: Record) -> Size:
        """Return height and width of the mask. Raises SegtoolError if the record has none."""
        if self.multi:
            return self.read_planes(record).size
        if record.mask is None:
            raise SegtoolError(f"image {record.image_id!r} has no mask in {self.path}")
        return images.image_size(record.mask)

    def _read_mask(self, record: Record) -> images.Array:
        if self.multi:
            return self.read_planes(record).expand()
        if origin := record.origin:
            mask = origin.dataset._read_mask(replace(record, origin=None))
            return np.asarray(cv2.LUT(mask, np.array(origin.ids, np.uint8)))
        if record.mask is None:
            raise SegtoolError(f"image {record.image_id!r} has no mask in {self.path}")
        return images.to_mask(
            images.read_indices(record.mask),
            len(self.classes),
            self.ignore_index,
            record.mask,
            binary_255=self.binary and not self.ignore_stated,
        )

    def read_pair(self, record: Record) -> tuple[images.Pixels, images.Array]:
        """Read image and mask. Raises SegtoolError if their sizes differ."""
        image, mask = self.read_image(record), self._read_mask(record)
        check_same_size(record, Size(*image.shape[:2]), Size(*mask.shape[-2:]))
        if self.ignore_nodata and (missing := missing_everywhere(image)).any():
            mask = np.where(missing, np.uint8(images.IGNORE), mask)
        return image, mask

    def digests(self, records: Iterable[Record]) -> dict[str, str]:
        """Return digests of all that is read for `records`: classes and settings, rows, and files by their stats."""
        rows = list(records)
        facts: tuple[object, ...] = (self.classes, self.ignore_index, self.ignore_stated, self.channels)
        facts += (self.labels,) if self.multi else ()
        if not self.plain or self.ignore_nodata:
            facts += (self.dtype, self.nodata, self.ignore_nodata)
        listed = [(r.image_id, r.group, r.weight) for r in rows]
        files = [path for r in rows for path in (*r.files, r.mask, r.soft) if path is not None]
        return {
            "dataset": digest_bytes(repr(facts).encode()),
            "rows": digest_bytes(repr(listed).encode()),
            "files": digest_stats(files, self.path.parent),
        }


@dataclass(frozen=True)
class Origin:
    """The other data set that a training image or its mask comes from.

    Attributes:
        name: `extra 1` for the first --extra and so on, or `relabel`.
        dataset: the other data set, without its records.
        ids: for each of its mask values, 0 to 255, the class id in the data set being trained on, or 255.
    """

    name: str
    dataset: Dataset
    ids: tuple[int, ...]


class DatasetYaml(TypedDict, total=False):
    """The keys of a `dataset.yaml`."""

    # Names, which YAML may read as numbers or dates; None and booleans are refused later.
    classes: Required[list[Any]]
    ignore_index: int
    channels: int | list[Any]
    dtype: str
    nodata: float | None
    ignore_nodata: bool
    train: str | None
    test: str | None
    palette: list[list[int]] | None
    labels: str


def load_dataset(data: Path) -> Dataset:
    """Read `dataset.yaml` (its path or its folder) and the CSVs it names.

    Raises:
        SegtoolError: something in the files is missing or wrong; the message says where.
    """
    path = data / "dataset.yaml" if data.is_dir() else data
    content = _read_yaml(path)
    classes = content["classes"]
    # A whole number is as it was written; `1.50` and `2001-1-1` are not.
    if misread := [name for name in classes if isinstance(name, bool) or not isinstance(name, str | int)]:
        raise SegtoolError(f"{path}: YAML reads a class name as {misread[0]!r}; put it in quotes, such as 'no'")
    names = tuple(str(name) for name in classes)
    if len(set(names)) != len(names) or not all(names):
        raise SegtoolError(f"{path}: class names must be distinct and not empty")
    labels = read_labels(content, path)
    if labels == "multi" and "ignore_index" in content:
        raise SegtoolError(f"{path}: with labels: multi no value of a mask is ignored; remove ignore_index")
    fewest, most = (1, MOST_PLANES) if labels == "multi" else (2, images.MAX_CLASSES)
    if not fewest <= len(names) <= most:
        raise SegtoolError(f"{path}: {len(names)} classes; segtool takes {fewest} to {most}")
    channels, bands = _read_channels(content.get("channels", 3), path)
    dtype = content.get("dtype", "uint8")
    if dtype not in DEPTHS:
        raise SegtoolError(f"{path}: dtype is {dtype!r}; segtool keeps pixels as {', '.join(DEPTHS)}")
    return Dataset(
        path=path,
        classes=names,
        ignore_index=content.get("ignore_index", images.IGNORE),
        ignore_stated="ignore_index" in content,
        channels=channels,
        bands=bands,
        dtype=dtype,
        nodata=content.get("nodata"),
        ignore_nodata=content.get("ignore_nodata", False),
        palette=_read_palette(content.get("palette"), path),
        labels=labels,
        train=_read_rows(path, content.get("train")),
        test=_read_rows(path, content.get("test")),
    )


def write_dataset(
    folder: Path, dataset: Dataset, *, name: str = "dataset.yaml", train: str = "train.csv"
) -> list[Path]:
    """Write `dataset.yaml`, and `train.csv` and `test.csv` as far as there are such images; return their paths.

    Paths in the CSVs are relative to the CSV's folder. `name` and `train` rename the files, relative to `folder`.
    """
    content: dict[str, Any] = {"classes": list(dataset.classes)}
    content |= {"labels": dataset.labels} if dataset.multi else {}
    # Adding it where the file did not set it would change the meaning of 255 in a 0/255 mask.
    if dataset.ignore_stated and not dataset.multi:
        content["ignore_index"] = dataset.ignore_index
    content["channels"] = list(dataset.bands) or dataset.channels
    content |= {"dtype": dataset.dtype} if dataset.dtype != "uint8" else {}
    content |= {"nodata": dataset.nodata} if dataset.nodata is not None else {}
    content |= {"ignore_nodata": True} if dataset.ignore_nodata else {}
    written = []
    if dataset.train or not dataset.test:
        content["train"] = train
        written.append(folder / train)
        _write_rows(folder / train, dataset.train)
    if dataset.test:
        content["test"] = "test.csv"
        written.append(folder / "test.csv")
        _write_rows(folder / "test.csv", dataset.test)
    if dataset.palette:
        content["palette"] = [list(colour) for colour in dataset.palette]
    with atomic(folder / name) as file:
        yaml.safe_dump(content, file, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return [folder / name, *written]


def check_image_id(image_id: str, where: object) -> str:
    """Return the id. Raises SegtoolError unless it is a path inside a folder in its shortest spelling.

    Otherwise two ids, such as `a/b` and `a//b`, would share one file.
    """
    path = PurePosixPath(image_id)
    if not image_id or path.is_absolute() or ".." in path.parts or "\0" in image_id or image_id.endswith("/"):
        raise SegtoolError(f"{where}: image_id {image_id!r} cannot be a file name inside a folder")
    if not image_id.isascii():
        try:
            image_id.encode()
        except UnicodeEncodeError:
            raise SegtoolError(f"{where}: image_id {image_id!r} is not text in UTF-8; rename the file") from None
    if len(path.parts) > DEEPEST:
        raise SegtoolError(f"{where}: image_id {image_id[:40]!r}... is {len(path.parts)} folders deep")
    if image_id != str(path):
        raise SegtoolError(f"{where}: image_id {image_id!r} names the same file as {str(path)!r}; write that")
    return image_id


def relative_to(path: Path, folder: Path) -> str:
    """Return `path` as it is written in a CSV in `folder`."""
    # Links resolved: the system takes `..` from where a linked folder really is.
    return Path(os.path.relpath(path.parent.resolve() / path.name, folder.resolve())).as_posix()


def with_masks(records: Sequence[Record]) -> list[Record]:
    """Return the records that have a mask."""
    return [record for record in records if record.mask is not None]


def _read_yaml(path: Path) -> dict[str, Any]:
    """Read a `dataset.yaml`. Raises SegtoolError if the file is missing or malformed, or has unknown keys."""
    if not path.exists():
        raise SegtoolError(f"{path} is missing; `segtool import` or `segtool demo` makes one")
    content: dict[str, Any] = read_yaml(path, DatasetYaml)
    known = DatasetYaml.__annotations__
    if unknown := content.keys() - known.keys():
        raise SegtoolError(
            f"{path}: unknown key {sorted(map(str, unknown))[0]!r}; known are {', '.join(sorted(known))}"
        )
    return content


def check_same_size(record: Record, image: Size, mask: Size) -> None:
    """Raise SegtoolError unless the image and the mask of a record have one size."""
    if image != mask:
        raise SegtoolError(f"mask {record.mask} is {mask} (HxW), its image {record.image} is {image}")


def read_labels(content: Mapping[str, Any], path: Path) -> Labels:
    """Return whether a pixel has one class, as where nothing is said, or several."""
    labels: Labels = content.get("labels", "single")
    if labels not in get_args(Labels):
        raise SegtoolError(f"{path}: labels is {labels!r}; write {' or '.join(get_args(Labels))}")
    return labels


def _read_channels(value: Any, path: Path) -> tuple[int, tuple[str, ...]]:
    """Return the number of channels and their names, none if only the number is given."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_CHANNELS:
        return value, ()
    if not isinstance(value, list) or not value:
        raise SegtoolError(
            f"{path}: channels is {value!r}; write their number, 1 to {MOST_CHANNELS}, or a list of names"
        )
    if odd := [name for name in value if not isinstance(name, str | int) or isinstance(name, bool)]:
        raise SegtoolError(f"{path}: YAML reads the name of a channel as {odd[0]!r}; put it in quotes")
    names = tuple(map(str, value))
    if len(set(names)) < len(names) or len(names) > MOST_CHANNELS:
        raise SegtoolError(f"{path}: names of channels must be distinct, and at most {MOST_CHANNELS}")
    return len(names), names


def _read_palette(value: list[list[int]] | None, path: Path) -> tuple[tuple[int, int, int], ...] | None:
    """Return the colours of the classes, or None if none are given. Raises SegtoolError if they are malformed."""
    if value is None:
        return None
    if any(len(colour) != 3 for colour in value):
        raise SegtoolError(f"{path}: palette must be a list of [red, green, blue]")
    colours = tuple((r, g, b) for r, g, b in value)
    if any(not 0 <= channel <= 255 for colour in colours for channel in colour):
        raise SegtoolError(f"{path}: palette values go from 0 to 255")
    if len(colours) > 256:
        raise SegtoolError(f"{path}: palette has {len(colours)} colours; a mask has 256 values")
    return colours


def _read_rows(dataset: Path, name: str | None) -> tuple[Record, ...]:
    if name is None:
        return ()
    path = dataset.parent / name
    records: dict[str, Record] = {}
    rows = read_csv(path, ("image_id", "image"))
    columns = _band_columns(rows[0] if rows else ())
    for row in rows:
        image_id = check_image_id(row["image_id"], path)
        if image_id in records:
            raise SegtoolError(f"{path}: duplicate image_id {image_id!r}")
        mask, soft = (_listed(path, name) if (name := row.get(column)) else None for column in ("mask", "soft"))
        weight = to_number(row.get("weight") or "1", f"{path}: the weight of {image_id!r}")
        if weight < 0:
            raise SegtoolError(f"{path}: the weight of {image_id!r} is {weight:g}; it must be 0 or more")
        more = tuple(_listed(path, row[column]) for column in columns if row[column])
        records[image_id] = Record(
            image_id, _listed(path, row["image"]), mask, row.get("group", ""), weight, soft, more=more
        )
    return tuple(records.values())


def _listed(table: Path, name: str) -> Path:
    """Return the path of a file listed in a table, where Windows may have written backslashes."""
    path = table.parent / name
    return table.parent / name.replace("\\", "/") if "\\" in name and not path.exists() else path


def _band_columns(columns: Iterable[str]) -> list[str]:
    """Return the columns `image_2`, `image_3`, ... in the order of their numbers."""
    numbers = {int(match[1]): name for name in columns if (match := re.fullmatch(r"image_([0-9]{1,4})", name))}
    return [numbers[number] for number in sorted(numbers)]


def _write_rows(path: Path, records: Sequence[Record]) -> None:
    """Write the columns that at least one record needs."""
    others = max((len(r.more) for r in records), default=0)
    columns = ["image_id", "image", *(f"image_{number + 2}" for number in range(others))]
    columns += ["mask"] if any(r.mask for r in records) else []
    columns += ["group"] if any(r.group for r in records) else []
    columns += ["weight"] if any(r.weight != 1 for r in records) else []
    columns += ["soft"] if any(r.soft for r in records) else []
    rows = []
    for record in records:
        cells = {
            "image_id": record.image_id,
            "image": relative_to(record.image, path.parent),
            "mask": relative_to(record.mask, path.parent) if record.mask else "",
            "group": record.group,
            "weight": f"{record.weight:g}",
            "soft": relative_to(record.soft, path.parent) if record.soft else "",
            **{column: "" for column in columns if column.startswith("image_") and column != "image_id"},
            **{f"image_{number}": relative_to(file, path.parent) for number, file in enumerate(record.more, 2)},
        }
        rows.append([cells[column] for column in columns])
    write_csv(path, columns, rows)
