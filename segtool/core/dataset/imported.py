"""What every import ends with: dataset.yaml, its CSVs, and the folds of an official validation set."""

from collections.abc import Mapping

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, write_dataset
from segtool.core.dataset.folds import write_folds
from segtool.core.dataset.image_kind import with_image_kind

OWNS = ("masks", "dataset.yaml", "train.csv", "test.csv", "folds.csv")


def finish_import(output: Output, dataset: Dataset, folds: Mapping[str, int] | None = None) -> None:
    """Write the files of a data set whose masks are written already, and finish the output.

    Args:
        dataset: as imported; channels and depth are read from the headers of its images.
        folds: fold by image_id, if there is an official validation set.

    Raises:
        SegtoolError: an image is broken, or images differ in kind.
    """
    editable = write_dataset(output.path, with_image_kind(dataset))
    if folds:
        path = output.path / "folds.csv"
        write_folds(path, folds)
        editable.append(path)
    output.finish([record.mask for record in dataset.train if record.mask], editable)
