"""A plain folder of images, or one image, as a data set to predict."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
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
    run = next(iter(runs))
    dataset = replace(kind_of_run(run), path=data, test=tuple(Record(name, path) for name, path in files.items()))
    for record in dataset.test:
        check_channels(dataset, record.files, run.path)
    return dataset


def kind_of_run(run: Run) -> Dataset:
    """Return a data set without images that has the classes and the kind of images of a run, and its path.

    Raises:
        SegtoolError: the run's config.json is broken.
    """
    path = run.path / "config.json"
    config: dict[str, Any] = read_json(path, dict[str, Any])
    network = config.get("network", {})
    try:
        classes, channels = tuple(map(str, network["classes"])), int(network["channels"])
        palette = tuple((int(r), int(g), int(b)) for r, g, b in config.get("palette") or ()) or None
    except (KeyError, TypeError, ValueError) as error:
        raise SegtoolError(f"{path} does not describe its network; the run is broken") from error
    dtype, nodata, labels = network.get("dtype", "uint8"), network.get("nodata"), network.get("labels", "single")
    return Dataset(run.path, classes, channels=channels, palette=palette, dtype=dtype, nodata=nodata, labels=labels)


def check_channels(dataset: Dataset, files: Sequence[Path], run: object) -> None:
    """Raise SegtoolError if an image has other channels than those that a run was trained on.

    Pictures of 8 bits are converted when they are read.
    """
    if not dataset.plain and (count := sum(probe_image(path).channels for path in files)) != dataset.channels:
        raise SegtoolError(f"{files[0]} has {count} channels, but {run} was trained on {dataset.channels}")
