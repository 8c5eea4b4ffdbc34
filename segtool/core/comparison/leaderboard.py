"""Leaderboard scores beside those of validation, and whether one predicts the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segtool.core.comparison.ledger import Row
from segtool.core.tables import read_csv, to_number
from segtool.errors import SegtoolError, UsageError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

NAME = "ledger.csv"
# With fewer pairs a rank correlation says nothing.
FEW = 4
# Below it, the order of validation is not that of the leaderboard.
PREDICTS = 0.5


def parse_scores(typed: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """`base=0.713` → {"base": 0.713}.

    Raises:
        UsageError: no number, or no row of this name.
    """
    scores = {}
    for text in typed:
        name, equals, number = text.rpartition("=")
        try:
            value = to_number(number, "it") if equals else float("nan")
        except SegtoolError:
            value = float("nan")
        if not name or value != value:
            raise UsageError(f"--lb {text}: write NAME=SCORE, such as base=0.713")
        if name not in names:
            raise UsageError(
                f"--lb {text}: no row is called {name!r}{did_you_mean(name, names)}; rows: {', '.join(names)}"
            )
        scores[name] = value
    return scores


def kept_scores(path: Path) -> dict[str, float]:
    """Return the leaderboard scores in a ledger.csv, none if there is no such file or column."""
    rows = read_csv(path) if path.exists() else []
    return {row["name"]: to_number(row["leaderboard"], path) for row in rows if row.get("leaderboard", "").strip()}


def ledger_table(rows: Sequence[Row], scores: Mapping[str, float]) -> "pd.DataFrame":
    """Return all that is known of each row, with the leaderboard's scores; those of rows not compared now are kept."""
    import pandas as pd

    here = [row.group.name for row in rows]
    cells = [{"leaderboard": scores.get(row.group.name), **row.cells()} for row in rows]
    gone = [{"leaderboard": score, "name": name} for name, score in scores.items() if name not in here]
    table = pd.DataFrame([*cells, *gone])
    table.insert(0, "name", table.pop("name"))
    table.insert(list(table).index("sd"), "leaderboard", table.pop("leaderboard"))
    return table


def rank_correlation(rows: Sequence[Row], scores: Mapping[str, float]) -> str:
    """Say how well the order of the rows' scores is that of the leaderboard (Spearman 1904); empty with under two."""
    pairs = [(row.score, scores[row.group.name]) for row in rows if row.group.name in scores]
    if len(pairs) < 2:
        return ""
    if len(pairs) < FEW:
        return f"leaderboard: {len(pairs)} scores are too few to tell whether validation predicts it ({FEW} or more)"
    import pandas as pd

    ranks = pd.DataFrame(pairs).rank()
    correlation = float(ranks[0].corr(ranks[1]))
    told = f"leaderboard: rank correlation with validation {correlation:.2f} over {len(pairs)} rows"
    if not correlation >= PREDICTS:
        told += (
            "; WARNING: validation does not predict it, so do not choose by validation (is the test like the folds?)"
        )
    return told
