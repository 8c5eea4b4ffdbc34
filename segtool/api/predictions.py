"""`segtool.read_predictions`: the masks and probabilities of a prediction folder as arrays."""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from segtool.core.predictions.folder import Predictions as Folder
from segtool.core.predictions.folder import find_predictions, open_predictions
from segtool.core.tables import read_table
from segtool.errors import UsageError, did_you_mean
from segtool.values import Size

if TYPE_CHECKING:
    import pandas as pd


class StoredPrediction:
    """The stored prediction of one image. Its arrays are read each time they are asked for, and never kept.

    It unpacks to `image_id, probs, mask`.

    Attributes:
        image_id: the name of the image.
        size: height and width of the image.
    """

    def __init__(self, image_id: str, folder: Folder) -> None:
        self.image_id = image_id
        self.size: Size = folder.sizes[image_id]
        self._folder = folder

    @property
    def probs(self) -> npt.NDArray[np.float32] | None:
        """Read the probabilities, float32 (C, H, W) in [0, 1]; None if the folder holds masks alone.

        Raises:
            SegtoolError: the file is missing or truncated.
        """
        return self._folder.open_probs(self.image_id).probs() if self._folder.has_probs else None

    @property
    def mask(self) -> npt.NDArray[Any]:
        """Read the class ids, uint8 (H, W); where classes may overlap (`labels: multi`), bool (C, H, W).

        Raises:
            SegtoolError: the file is missing or truncated, or holds a value that is no class.
        """
        mask = self._folder.read_mask(self.image_id)
        return mask.view(np.bool_) if self._folder.multi else mask

    def __iter__(self) -> Iterator[Any]:
        yield from (self.image_id, self.probs, self.mask)

    def __repr__(self) -> str:
        return f"StoredPrediction({self.image_id!r}, {self.size})"


class Predictions:
    """The predictions of a folder, in the order of its index: iterable, with a length, and indexed by image_id.

    Attributes:
        path: the folder.
        classes: the names of the classes, in the order of their ids.
        labels: `single` (each pixel has one class) or `multi` (classes may overlap).
        subset: the images that were predicted: test, train, valid or oof.
        members: run, checkpoint and digest of each network.
    """

    def __init__(self, folder: Folder) -> None:
        self.path = folder.path
        self.classes = folder.classes
        self.labels: Literal["single", "multi"] = folder.labels
        self.subset = folder.subset
        self.members = folder.members
        self._folder = folder

    def __len__(self) -> int:
        return len(self._folder.sizes)

    def __iter__(self) -> Iterator[StoredPrediction]:
        return (StoredPrediction(image_id, self._folder) for image_id in self._folder.sizes)

    def __getitem__(self, image_id: str) -> StoredPrediction:
        """Return the prediction of an image. Raises UsageError if there is none."""
        if image_id not in self._folder.sizes:
            hint = did_you_mean(str(image_id), self._folder.sizes)
            raise UsageError(f"{self.path} has no prediction of image {image_id!r}{hint}")
        return StoredPrediction(image_id, self._folder)

    @property
    def index(self) -> "pd.DataFrame":
        """One row per image: image_id, height, width, oof (whether no network was trained on it).

        After a network with an auxiliary head also `presence_CLASS`, the probability that the class is in the image.
        """
        table = read_table(self.path / "index.csv", ("image_id", "height", "width", "oof"))
        heads = [name for name in table.columns if str(name).startswith("presence_")]
        numbers = table.astype({"height": int, "width": int, "oof": int, **dict.fromkeys(heads, float)})
        return numbers.astype({"oof": bool})

    def __repr__(self) -> str:
        return f"Predictions({str(self.path)!r}, {len(self)} images, {self.subset})"


def read_predictions(folder: str | PathLike[str]) -> Predictions:
    """Read a finished prediction folder of `predict`, `ensemble`, `import preds` or `roi paste`.

    Only its tables are read; masks and probabilities are read when they are asked for.

    Raises:
        SegtoolError: the folder is missing, unfinished or something else.

    Example:
        >>> preds = segtool.read_predictions("preds")
        >>> for image_id, probs, mask in preds:
        ...     assert (probs.argmax(0) == mask).mean() > 0.999
        >>> preds.index.columns.tolist()
        ['image_id', 'height', 'width', 'oof']
    """
    path = Path(folder)
    return Predictions(open_predictions(find_predictions(path) or path))
