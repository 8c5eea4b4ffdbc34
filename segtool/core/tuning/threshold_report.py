"""What `segtool threshold` tells of a fit: its file, its tables, its verdict."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from segtool.core.predictions.decision import Decision
from segtool.core.predictions.decision_file import file_rows, plane_rows
from segtool.core.predictions.plane_decision import PlaneDecision
from segtool.core.predictions.probability_maps import lowest_level
from segtool.core.reporting.tables import Table
from segtool.core.scoring.scores import METRIC_NAMES
from segtool.core.tuning.coordinate_ascent import Step
from segtool.core.tuning.objective import Metric
from segtool.core.tuning.plane_objective import PlaneMetric
from segtool.core.tuning.thresholds import Fitted

# Of each class's rule, what takes out more than small objects.
RULES = ("seed", "min_pixels", "min_peak")
# The steps of the table of curves.
STEPS = 100


def plain_decision(fitted: Fitted) -> Decision | PlaneDecision:
    """The decision without a fit: the arg-max or, where classes may overlap, 0.5."""
    if isinstance(fitted.decision, PlaneDecision):
        return PlaneDecision.half(len(fitted.decision.rules))
    return Decision.argmax(len(fitted.decision.thresholds))


def plain_name(fitted: Fitted) -> str:
    """What tables call it."""
    return "half" if isinstance(fitted.decision, PlaneDecision) else "argmax"


def _plain_words(fitted: Fitted) -> str:
    return "0.5" if isinstance(fitted.decision, PlaneDecision) else "the arg-max"


def kept_decision(fitted: Fitted) -> Decision | PlaneDecision:
    """The decision of the fit, or the plain one where the fit gained nothing on images it was not fitted on."""
    return fitted.decision if fitted.gain.value > 0 else plain_decision(fitted)


def scores(fitted: Fitted, metric: Metric | PlaneMetric) -> dict[str, float | None]:
    """The scores and the gain as plain JSON values."""
    found = {
        plain_name(fitted): metric.score(fitted.plain),
        "fitted": metric.score(fitted.fitted),
        "nested": metric.score(fitted.nested),
        "gain": fitted.gain.value,
        "gain_low": fitted.gain.low,
        "gain_high": fitted.gain.high,
    }
    return _plain(found)


def content(
    fitted: Fitted, metric: Metric | PlaneMetric, classes: Sequence[str], ids: Sequence[str], source: dict[str, Any]
) -> dict[str, Any]:
    """What the file holds; consumers read `classes` and `fitted_on`."""
    kept = kept_decision(fitted)
    if isinstance(kept, PlaneDecision):
        rows: dict[str, Any] = {"labels": "multi", "classes": plane_rows(classes, kept)}
    else:
        rows = {"classes": file_rows(classes, kept)}
    return {
        **rows,
        "metric": metric.name,
        "excluded": [classes[index] for index in metric.exclude],
        "scores": scores(fitted, metric),
        "steps": [_plain({"step": step.name, **_numbers(step), "kept": step.kept}) for step in fitted.steps],
        "predictions": source,
        "fitted_on": list(ids),
    }


def tables(fitted: Fitted, metric: Metric | PlaneMetric, classes: Sequence[str]) -> list[Table]:
    """One row per class, what each step brings, and the scores of the decision between all classes."""
    columns = {
        "class": classes,
        **_rules(fitted.decision),
        plain_name(fitted): metric.per_class(fitted.plain.sum(0)),
        "fitted": metric.per_class(fitted.fitted.sum(0)),
        "nested": metric.per_class(fitted.nested.sum(0)),
    }
    score = "IoU" if metric.name == "miou" else "Dice"
    told = METRIC_NAMES[metric.name]
    if metric.exclude:
        told += f" without {', '.join(classes[index] for index in metric.exclude)}"
    found = scores(fitted, metric)
    values = {"score": [name.replace("_", " ") for name in found], "value": np.array(list(found.values()), float)}
    title = f"Classes: {score} of all pixels by {_plain_words(fitted)}, by what was fitted on all images, and nested"
    return [Table(title, columns), Table(f"Steps: {told}", _steps(fitted, metric)), Table(f"Scores: {told}", values)]


def _rules(decision: Decision | PlaneDecision) -> dict[str, Any]:
    """The columns of thresholds and areas, and of what else takes something out."""
    if isinstance(decision, PlaneDecision):
        rules = decision.rules
        columns: dict[str, Any] = {"threshold": [rule.threshold for rule in rules]}
        areas: Sequence[float] = [rule.min_area for rule in rules]
        more: dict[str, Sequence[float]] = {
            key.replace("_", " "): [getattr(rule, key) for rule in rules] for key in RULES
        }
    else:
        columns = {"threshold": np.array(decision.thresholds, float), "weight": decision.weights}
        areas = decision.min_areas
        more = {"seed": decision.seeds, "min pixels": decision.min_pixels, "min peak": decision.min_peaks}
    columns["min area"] = [area or "-" for area in areas]
    return columns | {name: [value or "-" for value in values] for name, values in more.items() if any(values)}


def _steps(fitted: Fitted, metric: Metric | PlaneMetric) -> list[dict[str, Any]]:
    """The rows of the table of steps, which begins with the plain decision."""
    plain = metric.score(fitted.plain)
    first = {"decided by": plain_name(fitted), "fitted": plain, "nested": plain, "gain": math.nan}
    steps = [
        {"decided by": f"{'+ ' if nth else ''}{step.name}", **_numbers(step), "kept": "yes" if step.kept else "no"}
        for nth, step in enumerate(fitted.steps)
    ]
    return [{**dict.fromkeys(steps[0], math.nan), **first, "kept": "-"}, *steps]


def _numbers(step: Step) -> dict[str, float]:
    gain = {"gain": step.gain.value, "gain low": step.gain.low, "gain high": step.gain.high}
    return {"fitted": step.fitted, "nested": step.nested, **gain}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON holds them, with None for NaN."""
    return {
        name.replace(" ", "_"): None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }


def verdict(fitted: Fitted) -> str:
    """What the gain means."""
    gain, plain = fitted.gain, _plain_words(fitted)
    shown = f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
    if fitted.decision == plain_decision(fitted):
        return f"nothing that was tried beats {plain}; it is kept"
    if gain.value <= 0:
        return f"nested gain {shown}: the fit does not hold on images it has not seen; {plain} is kept"
    if gain.low <= 0:
        return f"nested gain {shown}: within noise; it may as well be nothing"
    return f"nested gain {shown}"


def curve_table(fitted: Fitted, metric: Metric | PlaneMetric, classes: Sequence[str]) -> pd.DataFrame:
    """The score of each fitted class against the rest, by threshold."""
    thresholds = [step / STEPS for step in range(STEPS + 1)]
    table = pd.DataFrame(fitted.curves[:, list(map(lowest_level, thresholds))].T)
    table.columns = [classes[index] for index in metric.fitted]
    # A class may be called `threshold`.
    table.insert(0, "threshold", thresholds, allow_duplicates=True)
    return table
