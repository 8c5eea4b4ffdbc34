"""The checkpoints of an average: all of them, or greedily those that raise the validation score."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segtool.core.averaging.evaluator import CheckpointEvaluator
from segtool.core.averaging.job import AveragingJob
from segtool.core.averaging.runs import Checkpoint
from segtool.core.models.checkpoint import load_checkpoint, save_checkpoint
from segtool.core.tables import read_csv, to_number, write_csv
from segtool.core.training.context import RunContext
from segtool.core.training.history import SCORES, monitored
from segtool.core.training.validation import Validation
from segtool.settings.swa import AverageSettings

KEYS = ("valid_loss", *SCORES)
Row = dict[str, float]


class ScoreTable:
    """`scores.csv`: the scores of each network that was evaluated, written at once so that a kill loses none."""

    def __init__(self, path: Path, evaluator: CheckpointEvaluator, monitor: str) -> None:
        self.path, self.evaluator, self.monitor = path, evaluator, monitor
        self.rows: dict[str, Row] = evaluator.context.world.run_on_main(self._read)

    def score(self, checkpoints: Sequence[Checkpoint], *, recorded: bool = False) -> float:
        """Return the monitored score of the average of checkpoints; evaluate it if the table lacks it.

        Args:
            recorded: take the scores that the one checkpoint recorded in training, if it did.

        Returns:
            The score, oriented so that higher is better; NaN if it is missing.
        """
        name = average_name(checkpoints)
        if name not in self.rows:
            world = self.evaluator.context.world
            row = world.run_on_main(lambda: recorded_scores(checkpoints[0])) if recorded else None
            self.add(name, row or score_row(self.evaluator.evaluate(checkpoints)))
        return monitored(self.rows[name], self.monitor)

    def add(self, name: str, row: Row) -> None:
        """Add the scores of a network, and write the table."""
        self.rows[name] = row
        if self.evaluator.context.world.is_main:
            lines = [[name, *(row[key] for key in KEYS)] for name, row in self.rows.items()]
            write_csv(self.path, ("network", *KEYS), lines)

    def _read(self) -> dict[str, Row]:
        if not self.path.exists():
            return {}
        lines = read_csv(self.path, ("network", *KEYS))
        return {line["network"]: {key: to_number(line[key], f"{self.path}: {key}") for key in KEYS} for line in lines}


def recorded_scores(checkpoint: Checkpoint) -> Row | None:
    """Return the validation scores that a checkpoint recorded for its own epoch, or None."""
    history = load_checkpoint(checkpoint.file).get("course", {}).get("history", [])
    if not history or history[-1].get("epoch") != checkpoint.epoch or math.isnan(history[-1]["valid_loss"]):
        return None
    return {key: history[-1][key] for key in KEYS}


def score_row(validation: Validation | None) -> Row:
    """Return the scores of a validation; NaN if there is none."""
    if validation is None:
        return dict.fromkeys(KEYS, math.nan)
    summary: dict[str, Any] = validation.board.summary()
    return {"valid_loss": validation.loss, **{k: math.nan if summary[k] is None else summary[k] for k in SCORES}}


def greedy_soup(checkpoints: Sequence[Checkpoint], score: Callable[[Sequence[Checkpoint]], float]) -> list[Checkpoint]:
    """Add checkpoints to the best one, in order of their scores, if that raises the average's score.

    This is recipe 1 of Wortsman et al. 2022. The average never scores below the best checkpoint.
    """
    ranked = sorted(checkpoints, key=lambda checkpoint: sort_key(score([checkpoint])), reverse=True)
    chosen, best = ranked[:1], sort_key(score(ranked[:1]))
    for checkpoint in ranked[1:]:
        if (reached := sort_key(score([*chosen, checkpoint]))) > best:
            chosen, best = [*chosen, checkpoint], reached
    return chosen


def average_name(checkpoints: Sequence[Checkpoint]) -> str:
    """Return the name in `scores.csv` of the average of checkpoints."""
    return " + ".join(checkpoint.name for checkpoint in checkpoints)


def sort_key(score: float) -> float:
    """Return a score with NaN below all others."""
    return -math.inf if math.isnan(score) else score


class SoupResult(NamedTuple):
    """The networks that were evaluated, and which of them are in swa.pt and best.pt.

    singles: the single checkpoints the average was compared with.
    averaged: the checkpoints of the average, in swa.pt.
    kept: the checkpoints of the network in best.pt, and `epoch` the latest epoch of theirs.
    rows: the scores of each network by its name.
    """

    singles: list[Checkpoint]
    averaged: list[Checkpoint]
    kept: list[Checkpoint]
    epoch: int
    rows: dict[str, Row]

    def scores(self, checkpoints: Sequence[Checkpoint]) -> Row:
        """Return the scores of the average of checkpoints."""
        return self.rows[average_name(checkpoints)]


def make_soup(job: AveragingJob, context: RunContext, settings: AverageSettings) -> SoupResult:
    """Score checkpoints and their average, and write swa.pt and best.pt."""
    folder, monitor = context.settings.output.out, context.settings.loop.monitor
    evaluator = CheckpointEvaluator(context, epoch=job.epochs, frozen=job.encoder_frozen)
    table = ScoreTable(folder / "scores.csv", evaluator, monitor)
    singles = list(dict.fromkeys([*job.best_checkpoints, *job.checkpoints]))
    for checkpoint in singles if context.valid else []:
        table.score([checkpoint], recorded=job.has_recorded_scores(checkpoint))
    averaged = greedy_soup(job.checkpoints, table.score) if settings.greedy else list(job.checkpoints)
    validation = evaluator.evaluate(averaged)
    table.add(average_name(averaged), score_row(validation))
    if context.world.is_main:
        save_checkpoint(folder / "swa.pt", context.spec, evaluator.network, epoch=evaluator.latest_epoch)
    kept = averaged
    if context.valid and settings.keep != "average":
        kept = max([*([checkpoint] for checkpoint in singles), averaged], key=lambda some: sort_key(table.score(some)))
    if kept != averaged:
        validation = evaluator.evaluate(kept)
    if context.world.is_main:
        save_checkpoint(folder / "best.pt", context.spec, evaluator.network, epoch=evaluator.latest_epoch)
        if validation:
            validation.write(folder)
    return SoupResult(singles, averaged, kept, evaluator.latest_epoch, table.rows)
