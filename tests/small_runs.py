"""Demo data sets, tiny runs and their predictions, made in this process by the commands themselves."""

from pathlib import Path
from typing import Any

from segtool.commands import demo, predict, train
from segtool.settings.demo import DemoSettings
from segtool.settings.options import from_values
from segtool.settings.predict import PredictSettings
from segtool.settings.train import TrainSettings

NETWORK = {"arch": "linknet", "encoder": "tu-test_efficientnet", "encoder_weights": "none"}
QUICK = {"quiet": True, "threads": 1, "workers": 0}


def make_demo(folder: Path, **options: Any) -> Path:
    demo.run(from_values(DemoSettings, {"out": folder, "train": 8, "test": 2, "size": 48, "quiet": True, **options}))
    return folder


def make_run(data: Path, folder: Path, **options: Any) -> Path:
    short = {"epochs": 1, "batch": 2, "crop": 32, "fold": "all", "augment": "none"}
    train.run(from_values(TrainSettings, {"data": data, "out": folder, **NETWORK, **QUICK, **short, **options}))
    return folder


def make_predictions(data: Path, folder: Path, *runs: Path, **options: Any) -> Path:
    values = {"data": data, "out": folder, "run": runs, "subset": "train", **QUICK, **options}
    predict.run(from_values(PredictSettings, values))
    return folder
