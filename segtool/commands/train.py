"""`segtool train`: train one model on a data set and write a run folder."""

from segtool.core.reporting.tables import Result, Table
from segtool.core.training.run_folder import best_score, fit
from segtool.core.training.trainer import Trainer
from segtool.settings.train import TrainSettings

SHOWN = {
    "train loss": "train_loss",
    "valid loss": "valid_loss",
    "mIoU": "miou",
    "image mIoU": "image_miou",
    "lr": "lr",
    "images/s": "images_per_s",
}


def run(settings: TrainSettings) -> Result:
    """Train or resume a run, unless it is done."""
    trainer = fit(settings)
    if trainer is None:
        return Result(f"{settings.output.out} is up to date")
    return _result(trainer, settings) if trainer.world.is_main else Result()


def _result(trainer: Trainer, settings: TrainSettings) -> Result:
    state, best = trainer.state, best_score(trainer)
    rows = [{"epoch": int(row["epoch"]), **{told: row[key] for told, key in SHOWN.items()}} for row in state.history]
    ended = f", ended by {state.stopped}" if state.stopped else ""
    score = f"; best {settings.loop.monitor} {best:.4f} in epoch {state.best_epoch}" if best is not None else ""
    summary = f"{settings.output.out}: {state.epoch} epochs{ended}{score}"
    return Result(summary, [Table("History", rows)])
