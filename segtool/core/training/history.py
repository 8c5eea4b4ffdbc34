"""An epoch's row of `history.csv`: losses, scores of the weights and of their average, speed and memory."""

import math
from typing import Any

from segtool.core.runtime.memory import peak_memory
from segtool.core.training.state import TrainingState
from segtool.core.training.update import Updater
from segtool.core.training.validation import Validation

SCORES = ("miou", "image_miou", "dice", "pixel_accuracy")


def score_cells(
    updater: Updater, validation: Validation | None, average: Validation | None, *, validated: bool
) -> dict[str, float]:
    """Return the scores of an epoch, NaN if it was not validated: the same columns for all epochs of a run.

    Args:
        average: the validation of the averaged weights.
        validated: whether the run has validation images.
    """
    cells = _scores(validation)
    if validated:
        classes = validation.board.summary()["iou"] if validation else dict.fromkeys(updater.spec.classes)
        cells.update({f"iou_{name}": _number(value) for name, value in classes.items()})
    if updater.average:
        cells.update({f"ema_{name}": value for name, value in _scores(average).items()})
    return cells


def epoch_row(
    state: TrainingState, updater: Updater, scores: dict[str, float], *, images: int, seconds: float
) -> dict[str, float]:
    """Return the row of the epoch whose updates are done.

    Args:
        scores: of `score_cells`.
        images: in each update.
        seconds: of the whole run.
    """
    return {
        "epoch": state.epoch + 1,
        "train_loss": state.mean_loss,
        **scores,
        "lr": float(updater.optimizer.param_groups[0]["lr"]),
        "skipped": state.skipped,
        "rollbacks": state.rollbacks,
        "images_per_s": state.update * images / max(state.train_seconds, 1e-9),
        "peak_memory_mb": peak_memory(updater.device) / 2**20,
        "seconds": seconds,
    }


def monitored(row: dict[str, float], monitor: str, prefix: str = "") -> float:
    """Return the monitored score, oriented so that higher is better; NaN if it is missing."""
    return -row.get(f"{prefix}valid_loss", math.nan) if monitor == "loss" else row.get(prefix + monitor, math.nan)


def in_words(row: dict[str, float]) -> str:
    """Return the summary of an epoch for a line of the log."""
    keys = ("train_loss", "valid_loss", "miou", "ema_miou")
    words = [f"{key} {row[key]:.4f}" for key in keys if not math.isnan(row.get(key, math.nan))]
    return ", ".join(words + ([f"{row['skipped']:.0f} updates skipped"] if row["skipped"] else []))


def _scores(validation: Validation | None) -> dict[str, float]:
    if not validation:
        return dict.fromkeys(("valid_loss", *SCORES), math.nan)
    summary = validation.board.summary()
    return {"valid_loss": validation.loss, **{name: _number(summary[name]) for name in SCORES}}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
