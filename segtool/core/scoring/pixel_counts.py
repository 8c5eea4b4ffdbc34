"""`pixel_counts.csv`: the pixels behind each image's scores, from which the scores of any of the images follow."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from segtool.core.scoring.planes import MultiScoreBoard
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import read_table
from segtool.errors import SegtoolError

if TYPE_CHECKING:
    import pandas as pd

NAME = "pixel_counts.csv"
COUNTS = ("hits", "truth", "predicted", "scored")


class PixelCounts(NamedTuple):
    """The counts of a run's validation images, or of the images of an evaluation.

    Attributes:
        image_ids: in the order of the file.
        groups: the group of each image; empty where the data set has none.
        classes: in the order of their ids.
        counts: int64 (images, 3, C): hits (TP), truth and predicted pixels of each class; (images, 4, C) where classes
            may overlap: the last are the scored pixels of the class, 0 where it is not annotated.
    """

    image_ids: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    counts: npt.NDArray[np.int64]

    @property
    def multi(self) -> bool:
        """Whether classes may overlap."""
        return self.counts.shape[1] == len(COUNTS)


def counts_table(board: ScoreBoard | MultiScoreBoard, groups: Mapping[str, str | None]) -> "pd.DataFrame":
    """Return a row for each image and class, images in the order they were added.

    Args:
        groups: image_id → its group; images may be missing.
    """
    import pandas as pd

    ids, classes = list(board.per_image), board.classes
    names = COUNTS if isinstance(board, MultiScoreBoard) else COUNTS[:3]
    counts = np.array(list(board.per_image.values()), np.int64).reshape(len(ids), len(names), len(classes))
    rows = {
        "image_id": np.repeat(np.array(ids, object), len(classes)),
        "group": np.repeat(np.array([groups.get(image_id) or "" for image_id in ids], object), len(classes)),
        "class": np.tile(np.array(classes, object), len(ids)),
    }
    return pd.DataFrame(rows | {name: counts[:, index].reshape(-1) for index, name in enumerate(names)})


def read_pixel_counts(path: Path) -> PixelCounts:
    """Read what `counts_table` made.

    Raises:
        SegtoolError: the file is missing, or it is no such table.
    """
    table = read_table(path, ("image_id", "group", "class", *COUNTS[:3]))
    ids, classes = (tuple(dict.fromkeys(table[column])) for column in ("image_id", "class"))
    names = [name for name in COUNTS if name in table]
    try:
        flat = table[names].to_numpy(object).astype(np.int64)
        counts = flat.reshape(len(ids), len(classes), len(names)).transpose(0, 2, 1)
        if list(table["class"]) != list(classes) * len(ids):
            raise ValueError("rows in another order")
    except ValueError as error:
        raise SegtoolError(f"{path} is damaged: not a row of whole numbers for each image and class") from error
    groups = tuple(table["group"].iloc[:: len(classes) or 1])
    return PixelCounts(ids, groups, classes, np.ascontiguousarray(counts))
