"""A plain folder of images, or one image, as a data set to predict."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from segtool.core.bands import probe_image
from segtool.core.dataset.dataset import Dataset, Record
from segtool.core.documents import read_json
from segtool.core.formats.folders import list_images
from segtool.core.images import SUFFIXES
from segtool.core.inference.runs import Run
from segtool.errors import SegtoolError


def are_photos(data: Path) -> bool:
    """Return whether `data` is an image file, or a folder that is no data set."""
    return data.suffix.lower() in SUFFIXES if data.is_file() else data.is_dir() and not (data / "dataset.yaml").exists()


def open_photos(data: Path, runs: Iterable[Run], others: Collection[Path] = ()) -> Dataset:
    """Return the images as test images without masks, with the classes and the kind of images of the first run.

    The id of an image is its path below the folder, without suffix. Folders in `others` are skipped.

    Raises:
        SegtoolError: there are no images, two have the same id, one has other channels than the run takes, or the
            run's config.json is broken.
    """
    files = {data.stem: data} if data.is_file() else list_images(data, others)
    config = next(iter(runs)).path / "config.json"
    network: dict[str, Any] = read_json(config, dict[str, Any]).get("network", {})
    try:
        classes, channels = tuple(map(str, network["classes"])), int(network["channels"])
    except (KeyError, TypeError, ValueError) as error:
        raise SegtoolError(f"{config} does not describe its network; the run is broken") from error
    dtype, nodata, labels = network.get("dtype", "uint8"), network.get("nodata"), network.get("labels", "single")
    test = tuple(Record(name, path) for name, path in files.items())
    dataset = Dataset(data, classes, channels=channels, test=test, dtype=dtype, nodata=nodata, labels=labels)
    if not dataset.plain:
        _check_channels(dataset, config.parent)
    return dataset


def _check_channels(dataset: Dataset, run: Path) -> None:
    """Raise SegtoolError if an image has other channels than those the run was trained on."""
    for record in dataset.test:
        if (count := probe_image(record.image).channels) != dataset.channels:
            raise SegtoolError(f"{record.image} has {count} channels, but {run} was trained on {dataset.channels}")
