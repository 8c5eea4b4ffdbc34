"""`segtool.read_dataset`: the images and masks of a data set as arrays, and its rows as a table."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from segtool.core.dataset.dataset import Dataset as CoreDataset
from segtool.core.dataset.dataset import Record, load_dataset
from segtool.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Image:
    """One image of a data set. Its arrays are read each time they are asked for, and never kept.

    Attributes:
        image_id: its name, unique in the data set.
        subset: `train` or `test`.
        group: the group that a split keeps together; empty without one.
        weight: of its loss in training.
        files: the file of the image, or those of its bands.
        mask_file: the file of its mask; None without one.
    """

    image_id: str
    subset: Literal["train", "test"]
    group: str
    weight: float
    files: tuple[Path, ...]
    mask_file: Path | None
    _record: Record = field(repr=False, compare=False)
    _dataset: CoreDataset = field(repr=False, compare=False)

    @property
    def image(self) -> npt.NDArray[Any]:
        """Read the pixels (H, W, channels): uint8, uint16 or float32 as the data set declares; float32 with NaN where
        pixels are missing.

        Raises:
            SegtoolError: the file is missing, truncated, or of other channels or depth.
        """
        return self._dataset.read_image(self._record)

    @property
    def mask(self) -> npt.NDArray[np.uint8] | None:
        """Read the class ids, uint8 (H, W), 255 = ignore; None if the image has no mask.

        Where classes may overlap (`labels: multi`), planes, uint8 (C, H, W): 1 in the class, 0 outside, 255 = ignore
        or unknown.

        Raises:
            SegtoolError: the file is missing or truncated, or holds a value that is no class.
        """
        return None if self.mask_file is None else self._dataset.read_mask(self._record)


class Dataset:
    """The images of a data set, in the order of its CSVs: iterable, with a length, and indexed by image_id.

    Attributes:
        path: its `dataset.yaml`.
        classes: the names of the classes, in the order of their ids.
        labels: `single` (each pixel has one class) or `multi` (classes may overlap).
        channels, dtype: of the images.
        palette: the (red, green, blue) of each class, if the data set gives them.
    """

    def __init__(self, dataset: CoreDataset, subset: Literal["train", "test"] | None) -> None:
        self.path = dataset.path
        self.classes = dataset.classes
        self.labels: Literal["single", "multi"] = dataset.labels
        self.channels, self.dtype = dataset.channels, dataset.dtype
        self.palette = dataset.palette
        parts: dict[Literal["train", "test"], tuple[Record, ...]] = {"train": dataset.train, "test": dataset.test}
        self._images = [
            Image(r.image_id, part, r.group, r.weight, r.files, r.mask, r, dataset)
            for part, records in parts.items()
            if subset in (part, None)
            for r in records
        ]

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def __getitem__(self, image_id: str) -> Image:
        """Return an image by its id. Raises UsageError if there is none."""
        for image in self._images:
            if image.image_id == image_id:
                return image
        known = [image.image_id for image in self._images]
        raise UsageError(f"{self.path} has no image {image_id!r}{did_you_mean(str(image_id), known)}")

    @property
    def table(self) -> "pd.DataFrame":
        """One row per image: image_id, subset, image and mask (paths; None without), group, weight."""
        import pandas as pd

        columns = ["image_id", "subset", "image", "mask", "group", "weight"]
        rows = [(i.image_id, i.subset, i.files[0], i.mask_file, i.group, i.weight) for i in self._images]
        return pd.DataFrame(rows, columns=columns)

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, {len(self)} images, {len(self.classes)} classes)"


def read_dataset(data: str | PathLike[str], subset: Literal["train", "test"] | None = "train") -> Dataset:
    """Read a data set: `dataset.yaml` or its folder.

    Only its tables are read; images and masks are read when they are asked for.

    Args:
        data: `dataset.yaml`, or the folder it is in.
        subset: `train`, `test`, or None for both.

    Raises:
        SegtoolError: a file is missing or wrong; the message says where.
        UsageError: an unknown subset.

    Example:
        >>> data = segtool.read_dataset("demo")
        >>> len(data), data.classes[:3]
        (8, ('background', 'rows', 'columns'))
        >>> first = next(iter(data))
        >>> first.image.shape[:2] == first.mask.shape
        True
        >>> data.table.columns.tolist()
        ['image_id', 'subset', 'image', 'mask', 'group', 'weight']
    """
    if subset not in ("train", "test", None):
        raise UsageError(f"subset is {subset!r}; it is 'train', 'test' or None")
    return Dataset(load_dataset(Path(data)), subset)
