"""segtool: a toolbox for semantic segmentation competitions, as a command line and from Python.

    import segtool

    model = segtool.load("runs/0")
    prediction = model.predict("image.jpg", tta="flip")
    prediction.mask, prediction.probs

Importing it loads nothing else; PyTorch is loaded by `load`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segtool.api.datasets import Dataset, Image, read_dataset
    from segtool.api.models import Model, Prediction, load
    from segtool.api.predictions import Predictions, StoredPrediction, read_predictions
    from segtool.api.scores import Score, score
    from segtool.errors import SegtoolError, UsageError

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Image",
    "Model",
    "Prediction",
    "Predictions",
    "Score",
    "SegtoolError",
    "StoredPrediction",
    "UsageError",
    "load",
    "read_dataset",
    "read_predictions",
    "score",
]

_MODULES = {
    "segtool.api.datasets": ("Dataset", "Image", "read_dataset"),
    "segtool.api.models": ("Model", "Prediction", "load"),
    "segtool.api.predictions": ("Predictions", "StoredPrediction", "read_predictions"),
    "segtool.api.scores": ("Score", "score"),
    "segtool.errors": ("SegtoolError", "UsageError"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(importlib.import_module(module), name)
            # Found directly from now on.
            globals()[name] = value
            return value
    raise AttributeError(f"module 'segtool' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
