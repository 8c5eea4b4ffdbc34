"""What `segtool threshold` tells of a fit: its file, its tables, its verdict."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from segtool.core.predictions.decision import Decision, file_rows
from segtool.core.predictions.probability_maps import lowest_level
from segtool.core.reporting.tables import Table
from segtool.core.scoring.scores import METRIC_NAMES
from segtool.core.tuning.objective import Metric
from segtool.core.tuning.thresholds import Fitted

# The steps of the table of curves.
STEPS = 100


def kept_decision(fitted: Fitted) -> Decision:
    """The decision of the fit, or the arg-max where the fit gained nothing on images it was not fitted on."""
    if fitted.gain.value > 0:
        return fitted.decision
    return Decision.argmax(len(fitted.decision.thresholds))


def scores(fitted: Fitted, metric: Metric) -> dict[str, float | None]:
    """The scores and the gain as plain JSON values."""
    found = {
        "argmax": metric.score(fitted.plain),
        "fitted": metric.score(fitted.fitted),
        "nested": metric.score(fitted.nested),
        "gain": fitted.gain.value,
        "gain_low": fitted.gain.low,
        "gain_high": fitted.gain.high,
    }
    return {name: None if math.isnan(value) else value for name, value in found.items()}


def content(
    fitted: Fitted, metric: Metric, classes: Sequence[str], ids: Sequence[str], source: dict[str, Any]
) -> dict[str, Any]:
    """What the file holds; consumers read `classes` and `fitted_on`."""
    return {
        "classes": file_rows(classes, kept_decision(fitted)),
        "metric": metric.name,
        "excluded": [classes[index] for index in metric.exclude],
        "scores": scores(fitted, metric),
        "predictions": source,
        "fitted_on": list(ids),
    }


def tables(fitted: Fitted, metric: Metric, classes: Sequence[str]) -> list[Table]:
    """One row per class, and the scores of the decision between all of them."""
    decision = fitted.decision
    columns = {
        "class": classes,
        "threshold": np.array(decision.thresholds, float),
        "weight": decision.weights,
        "min area": [area or "-" for area in decision.min_areas],
        "argmax": metric.per_class(fitted.plain.sum(0)),
        "fitted": metric.per_class(fitted.fitted.sum(0)),
        "nested": metric.per_class(fitted.nested.sum(0)),
    }
    score = "IoU" if metric.name == "miou" else "Dice"
    told = METRIC_NAMES[metric.name]
    if metric.exclude:
        told += f" without {', '.join(classes[index] for index in metric.exclude)}"
    found = scores(fitted, metric)
    values = {"score": [name.replace("_", " ") for name in found], "value": np.array(list(found.values()), float)}
    title = f"Classes: {score} of all pixels by the arg-max, by what was fitted on all images, and nested"
    return [Table(title, columns), Table(f"Scores: {told}", values)]


def verdict(fitted: Fitted) -> str:
    """What the gain means."""
    gain = fitted.gain
    shown = f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
    if all(threshold is None for threshold in fitted.decision.thresholds) and not fitted.decision.cleans:
        return "no threshold and no area beats the arg-max; it is kept"
    if gain.value <= 0:
        return f"nested gain {shown}: the fit does not hold on images it has not seen; the arg-max is kept"
    if gain.low <= 0:
        return f"nested gain {shown}: within noise; it may as well be nothing"
    return f"nested gain {shown}"


def curve_table(fitted: Fitted, metric: Metric, classes: Sequence[str]) -> pd.DataFrame:
    """The score of each fitted class against the rest, by threshold."""
    thresholds = [step / STEPS for step in range(STEPS + 1)]
    table = pd.DataFrame(fitted.curves[:, list(map(lowest_level, thresholds))].T)
    table.columns = [classes[index] for index in metric.fitted]
    # A class may be called `threshold`.
    table.insert(0, "threshold", thresholds, allow_duplicates=True)
    return table
