"""What is measured: a network with its settings, and the grid of cases. Loads no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from segtool.core.dataset.dataset import Dataset, load_dataset
from segtool.core.dataset.selection import limit
from segtool.core.documents import read_json
from segtool.core.files import digest_bytes
from segtool.core.images import image_size
from segtool.core.models.bundles import unpack_bundle
from segtool.core.models.names import check_names
from segtool.errors import SegtoolError, UsageError
from segtool.settings.bench import ARCH, ENCODER, BenchSettings, GridSettings
from segtool.settings.common import DeviceSettings
from segtool.settings.options import from_values, unflatten
from segtool.settings.train import TrainSettings
from segtool.values import Size

# Where neither a run nor a data set says anything.
SIDE, IMAGES = 256, 1000
# Images whose sizes are looked at.
LOOKED_AT = 50
# The range of pixel values by their number type.
RANGES = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


class ConfigFile(TypedDict):
    """What is read of a run's `config.json`."""

    settings: dict[str, Any]
    network: dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """The network that is measured, and how it is trained.

    Attributes:
        network: as `NetworkSpec.plain` returns it.
        trained, predicted: the sizes of images where none are given.
        images: how many there are for each task.
    """

    settings: TrainSettings
    network: dict[str, Any]
    machine: DeviceSettings
    trained: Size
    predicted: Size
    images: dict[str, int]

    def digest(self) -> str:
        """Return a digest of what decides the figures."""
        parts = (self.network, self.settings.optimizer, self.settings.loss, self.settings.loop.ema)
        return digest_bytes(repr((*parts, self.trained, self.predicted)).encode())


@dataclass(frozen=True)
class Case:
    """One row of the benchmark.

    Attributes:
        task: train or predict.
        batch: images of a micro-batch, or tiles of a forward pass; None leaves it to predict.
        engine: torch, compile, onnx or openvino.
        views: as typed after --tta; empty for the image as it is.
        window: None for whole images.
    """

    task: str
    size: Size
    batch: int | None
    precision: str
    engine: str = "torch"
    views: str = ""
    window: Size | None = None

    def cells(self) -> dict[str, Any]:
        """Return the case as CSV holds it."""
        cells = {**vars(self), "batch": self.batch or "auto", "window": self.window or ""}
        return {"task": cells.pop("task"), "height": self.size.height, "width": self.size.width} | {
            key: str(value) for key, value in cells.items() if key not in ("task", "size")
        }


def plain_network(
    arch: str, encoder: str, classes: Sequence[str], channels: int, dtype: str = "uint8", labels: str = "single"
) -> dict[str, Any]:
    """Return the description of a network whose images have any intensity, as `NetworkSpec.plain` does."""
    network = {
        "arch": arch.lower(),
        "encoder": encoder,
        "classes": list(classes),
        "channels": channels,
        "mean": [0.5] * channels,
        "std": [0.25] * channels,
        "resize": None,
        "precision": "fp32",
        "dtype": dtype,
        "labels": labels,
    }
    if dtype != "uint8" or channels > 4:
        network |= {"low": [0.0] * channels, "high": [RANGES[dtype]] * channels}
    return network


def read_subject(settings: BenchSettings) -> Subject:
    """Read the run or the names of a network, and the data set.

    Raises:
        UsageError, SegtoolError: an unknown name, a folder without a run, or a data set of other classes or channels.
    """
    dataset = load_dataset(settings.data) if settings.data else None
    if settings.run:
        train, network, seen = _of_run(settings.run)
        _check_alike(settings.run, network, dataset)
    else:
        given = settings.network
        arch, encoder = given.arch or ARCH, given.encoder or ENCODER
        check_names(arch, encoder)
        count = given.n_classes or (len(dataset.classes) if dataset else 2)
        classes = [f"class {number}" for number in range(count)]
        channels = given.channels or (dataset.channels if dataset else 3)
        kind = (dataset.dtype, dataset.labels) if dataset else ("uint8", "single")
        values = {"out": settings.output.out, "data": settings.output.out, "arch": arch, "encoder": encoder}
        train, network, seen = (
            from_values(TrainSettings, values),
            plain_network(arch, encoder, classes, channels, *kind),
            None,
        )
    records = dataset.train or dataset.test if dataset else ()
    sizes = sorted((image_size(record.image) for record in limit(records, LOOKED_AT)), key=math.prod)
    whole = sizes[len(sizes) // 2] if sizes else None
    counts = {"train": len(dataset.train), "predict": len(dataset.test)} if dataset else {}
    resized = train.size.crop or (train.size.resized(whole) if whole else None)
    trained = seen or resized or Size(SIDE, SIDE)
    images = {task: counts.get(task) or IMAGES for task in ("train", "predict")}
    return Subject(train, network, settings.machine, trained, whole or trained, images)


def _of_run(path: Path) -> tuple[TrainSettings, dict[str, Any], Size | None]:
    """Return the settings and the network of a run, and the size that it is trained on, if it is known."""
    folder = unpack_bundle(path)[0] if path.is_file() else path
    if not (folder / "config.json").is_file():
        raise SegtoolError(f"{path} is no run: it has no config.json")
    config = read_json(folder / "config.json", ConfigFile)
    train: TrainSettings = unflatten(TrainSettings, {"data": "", "out": "", **config["settings"]})
    counted = read_json(folder / "config.json", dict[str, Any]).get("complexity")
    window = train.size.crop or train.size.window
    return train, config["network"], Size(counted["height"], counted["width"]) if counted else window


def _check_alike(run: Path, network: dict[str, Any], dataset: Dataset | None) -> None:
    if dataset and (len(network["classes"]), network["channels"]) != (len(dataset.classes), dataset.channels):
        raise UsageError(
            f"{run} has {len(network['classes'])} classes and {network['channels']} channels; {dataset.path} has"
            f" {len(dataset.classes)} and {dataset.channels}"
        )


def make_cases(grid: GridSettings, subject: Subject) -> list[Case]:
    """Return everything with everything, smaller batches first."""
    cases: list[Case] = []
    own = subject.network["precision"]
    for precision in grid.precision or (own,):
        if grid.task != "predict":
            batches: tuple[int | None, ...] = grid.batch or (subject.settings.optimizer.batch,)
            sizes = grid.size or (subject.trained,)
            cases += [Case("train", size, batch, precision) for size in sizes for batch in batches]
        if grid.task != "train":
            engines = (*grid.backend, *(["compile"] if grid.compile else []))
            cases += [
                Case("predict", size, batch, precision, engine, "" if views == "none" else views, window)
                for size in grid.size or (subject.predicted,)
                for engine in engines
                for views in grid.tta or ("none",)
                for window in grid.window or (None,)
                for batch in grid.batch or (None,)
            ]
    return sorted(dict.fromkeys(cases), key=lambda case: case.task != "train")


def larger(case: Case, other: Case) -> bool:
    """Return whether a case is another but for a larger batch."""
    return bool(case.batch and other.batch and case.batch > other.batch) and replace(case, batch=other.batch) == other
