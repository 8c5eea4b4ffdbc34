"""Which checkpoints an average is made of: all, or greedily those with which the validation score rises."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from segtool.core.averaging.evaluator import Bench
from segtool.core.averaging.job import Job
from segtool.core.averaging.runs import Checkpoint
from segtool.core.models.checkpoint import load_checkpoint, save_checkpoint
from segtool.core.tables import read_csv, to_number, write_csv
from segtool.core.training.context import RunContext
from segtool.core.training.history import SCORES, monitored
from segtool.core.training.validation import Validation
from segtool.settings.swa import AverageSettings

KEYS = ("valid_loss", *SCORES)
Row = dict[str, float]


class ScoreFile:
    """`scores.csv`: the validation of each network that was looked at, written as it comes: a kill loses none."""

    def __init__(self, path: Path, bench: Bench, monitor: str) -> None:
        self.path, self.bench, self.monitor = path, bench, monitor
        self.rows: dict[str, Row] = bench.context.world.run_on_main(self._read)

    def of(self, checkpoints: Sequence[Checkpoint], *, known: bool = False) -> float:
        """What the best is told by, of the average of some checkpoints: the more the better, NaN for none.

        Args:
            known: take what a state of the loop says of itself.
        """
        name = name_of(checkpoints)
        if name not in self.rows:
            row = self.bench.context.world.run_on_main(lambda: own_row(checkpoints[0])) if known else None
            self.put(name, row or scores(self.bench.take(checkpoints)))
        return monitored(self.rows[name], self.monitor)

    def put(self, name: str, row: Row) -> None:
        """Keep the row of a network."""
        self.rows[name] = row
        if self.bench.context.world.is_main:
            write_csv(
                self.path, ("network", *KEYS), [[name, *(row[key] for key in KEYS)] for name, row in self.rows.items()]
            )

    def _read(self) -> dict[str, Row]:
        if not self.path.exists():
            return {}
        found = read_csv(self.path, ("network", *KEYS))
        return {row["network"]: {key: to_number(row[key], f"{self.path}: {key}") for key in KEYS} for row in found}


def own_row(checkpoint: Checkpoint) -> Row | None:
    """The validation that a state of the loop holds of itself; None where it holds none."""
    history = load_checkpoint(checkpoint.file).get("course", {}).get("history", [])
    if not history or history[-1].get("epoch") != checkpoint.epoch or math.isnan(history[-1]["valid_loss"]):
        return None
    return {key: history[-1][key] for key in KEYS}


def greedy(checkpoints: Sequence[Checkpoint], score: Callable[[Sequence[Checkpoint]], float]) -> list[Checkpoint]:
    """From the best checkpoint down, those that raise the score of the average (Wortsman et al. 2022, recipe 1).

    The first is taken as it is, so that the result never scores below the best of them.
    """
    ranked = sorted(checkpoints, key=lambda one: in_order(score([one])), reverse=True)
    chosen, best = ranked[:1], in_order(score(ranked[:1]))
    for one in ranked[1:]:
        if (reached := in_order(score([*chosen, one]))) > best:
            chosen, best = [*chosen, one], reached
    return chosen


def scores(validation: Validation | None) -> Row:
    """The row of a validation; NaN where there is nothing to score."""
    if validation is None:
        return dict.fromkeys(KEYS, math.nan)
    summary: dict[str, Any] = validation.board.summary()
    return {"valid_loss": validation.loss, **{k: math.nan if summary[k] is None else summary[k] for k in SCORES}}


def name_of(checkpoints: Sequence[Checkpoint]) -> str:
    """What the average of some checkpoints is called in `scores.csv`."""
    return " + ".join(one.name for one in checkpoints)


def in_order(score: float) -> float:
    """A score that can be compared: none is worse than any."""
    return -math.inf if math.isnan(score) else score


class Made(NamedTuple):
    """What was averaged, what best.pt holds, and the scores of all that was looked at."""

    # What the average was compared with: the runs' best, and the members.
    singles: list[Checkpoint]
    averaged: list[Checkpoint]
    kept: list[Checkpoint]
    # Of what is kept.
    epoch: int
    rows: dict[str, Row]


def average(job: Job, context: RunContext, settings: AverageSettings) -> Made:
    """Score, choose, average, and write the networks."""
    folder, monitor = context.settings.output.out, context.settings.loop.monitor
    bench = Bench(context, epoch=job.epochs, frozen=job.frozen)
    table = ScoreFile(folder / "scores.csv", bench, monitor)
    singles = list(dict.fromkeys([*job.bests, *job.checkpoints]))
    for one in singles if context.valid else []:
        table.of([one], known=job.knows(one))
    averaged = greedy(job.checkpoints, table.of) if settings.greedy else list(job.checkpoints)
    validation = bench.take(averaged)
    table.put(name_of(averaged), scores(validation))
    if context.world.is_main:
        save_checkpoint(folder / "swa.pt", context.spec, bench.network, epoch=bench.newest)
    kept = averaged
    if context.valid and settings.keep != "average":
        kept = max([*([one] for one in singles), averaged], key=lambda some: in_order(table.of(some)))
    if kept != averaged:
        validation = bench.take(kept)
    if context.world.is_main:
        save_checkpoint(folder / "best.pt", context.spec, bench.network, epoch=bench.newest)
        if validation:
            write_csv(folder / "per_image.csv", validation.board.columns, validation.board.rows())
    return Made(singles, averaged, kept, bench.newest, table.rows)
