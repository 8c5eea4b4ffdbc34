"""The file of `segtool threshold`, which holds the rule that makes masks; it may be written by hand, too.

    {"classes": {"ground": {"threshold": null, "weight": 1, "min_area": 0},
                 "box": {"threshold": 0.2, "weight": 1, "min_area": 12, "seed": 0.7,
                         "min_pixels": 90, "min_peak": 0.8}}, ...}

The meaning of these says `decision`. All may be left out but the classes, which are those of the data set, in order.

Where classes may overlap the file says `"labels": "multi"`, there are no weights, and `plane_decision` explains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Required, TypedDict

from segtool.core.dataset.dataset import Labels
from segtool.core.documents import read_json
from segtool.core.files import digest_file
from segtool.core.predictions import plane_decision
from segtool.core.predictions.decision import Decision
from segtool.core.predictions.plane_decision import PlaneDecision
from segtool.core.scoring.fits import THRESHOLDS, Fit, read_fits
from segtool.errors import SegtoolError


def file_rows(classes: Sequence[str], decision: Decision) -> dict[str, dict[str, Any]]:
    """What the file says of the classes."""
    rows = zip(classes, decision.thresholds, decision.weights, decision.min_areas, strict=True)
    content: dict[str, dict[str, Any]] = {
        name: {"threshold": threshold, "weight": weight, "min_area": area} for name, threshold, weight, area in rows
    }
    for key, values in (
        ("seed", decision.seeds),
        ("min_pixels", decision.min_pixels),
        ("min_peak", decision.min_peaks),
    ):
        for row, value in zip(content.values(), values, strict=True):
            if value:
                row[key] = value
    return content


def plane_rows(classes: Sequence[str], decision: PlaneDecision) -> dict[str, dict[str, Any]]:
    """What the file says of classes that may overlap."""
    return {
        name: {"threshold": rule.threshold, "min_area": rule.min_area}
        | {key: value for key in ("seed", "min_pixels", "min_peak") if (value := getattr(rule, key))}
        for name, rule in zip(classes, decision.rules, strict=True)
    }


class ClassRule(TypedDict, total=False):
    """What the file says of a class."""

    threshold: float | None
    weight: float
    min_area: float
    seed: float
    min_pixels: float
    min_peak: float


class DecisionFile(TypedDict, total=False):
    """What stands in a file of `segtool threshold`."""

    classes: Required[dict[str, ClassRule]]
    labels: str
    fitted_on: list[str] | None


def read_decision(path: Path | None, classes: Sequence[str]) -> Decision | None:
    """The rule of a file of `segtool threshold`, None where there is no file.

    Raises:
        SegtoolError: it is missing, is no such file, or is for other classes.
    """
    if path is None:
        return None
    content = _read(path, classes, "single")
    rows = content["classes"]
    decision = Decision(
        tuple(_threshold(row, name, path) for name, row in rows.items()),
        tuple(_weight(row, name, path) for name, row in rows.items()),
        tuple(_pixels(row, "min_area", name, path) for name, row in rows.items()),
        seeds=tuple(_probability(row, "seed", name, path) for name, row in rows.items()),
        min_pixels=tuple(_pixels(row, "min_pixels", name, path) for name, row in rows.items()),
        min_peaks=tuple(_probability(row, "min_peak", name, path) for name, row in rows.items()),
    )
    fitted = decision.cleans or decision.drops or any(threshold is not None for threshold in decision.thresholds)
    return replace(decision, fit=_fit(content, path) if fitted else None)


def read_plane_decision(path: Path, classes: Sequence[str]) -> PlaneDecision:
    """The rule of a file of `segtool threshold` for classes that may overlap.

    Raises:
        SegtoolError: it is missing, is no such file, or is for other classes or for labels: single.
    """
    content = _read(path, classes, "multi")
    rules = tuple(_plane_rule(row, name, path) for name, row in content["classes"].items())
    decision = PlaneDecision(rules)
    return replace(decision, fit=_fit(content, path)) if decision != PlaneDecision.half(len(rules)) else decision


def _plane_rule(row: Mapping[str, Any], name: str, path: Path) -> plane_decision.ClassRule:
    if row.get("weight", 1) != 1:
        raise SegtoolError(f"{path}: {name} has a weight, but with labels: multi no class takes a pixel from another")
    threshold = _threshold(row, name, path)
    return plane_decision.ClassRule(
        plane_decision.HALF if threshold is None else threshold,
        _pixels(row, "min_area", name, path),
        _probability(row, "seed", name, path),
        _pixels(row, "min_pixels", name, path),
        _probability(row, "min_peak", name, path),
    )


def _read(path: Path, classes: Sequence[str], labels: Labels) -> DecisionFile:
    """Read a file for these classes and labels."""
    content = read_json(path, DecisionFile)
    if (told := content.get("labels", "single")) != labels:
        raise SegtoolError(f"{path} is for labels: {told}; here they are {labels}; fit it with `segtool threshold`")
    if tuple(rows := content["classes"]) != tuple(classes):
        raise SegtoolError(f"{path} is for the classes {', '.join(rows)}; here they are {', '.join(classes)}")
    return content


def _fit(content: Mapping[str, Any], path: Path) -> Fit | None:
    """How the file says that it was fitted, None where it says nothing (it may be written by hand)."""
    if not (ids := content.get("fitted_on")):
        return None
    fit = {"kind": THRESHOLDS, "source": str(path), "images": ids, "metric": content.get("metric", "miou")}
    scores = content.get("scores")
    nested = scores.get("nested") if isinstance(scores, dict) else None
    return read_fits([{**fit, "exclude": content.get("excluded", []), "nested": nested}], path)[0]


def decision_digest(path: Path | None) -> dict[str, str]:
    """The digest of the file among a command's inputs."""
    return {"thresholds": digest_file(path)} if path else {}


def _threshold(row: Mapping[str, Any], name: str, path: Path) -> float | None:
    value = row.get("threshold")
    if value is None:
        return None
    if not 0 <= value <= 1:
        raise SegtoolError(f"{path}: the threshold of {name} is {value!r}; write a number from 0 to 1, or null")
    return float(value)


def _weight(row: Mapping[str, Any], name: str, path: Path) -> float:
    value = row.get("weight", 1)
    # Outside this, float32 would run out.
    if not 1e-12 <= value <= 1e12:
        raise SegtoolError(f"{path}: the weight of {name} is {value!r}; write a number above 0, such as 1")
    return float(value)


def _pixels(row: Mapping[str, Any], key: str, name: str, path: Path) -> int:
    value = row.get(key, 0)
    if value < 0 or value != int(value):
        raise SegtoolError(f"{path}: the {key} of {name} is {value!r}; write a whole number of pixels from 0")
    return int(value)


def _probability(row: Mapping[str, Any], key: str, name: str, path: Path) -> float:
    value = row.get(key, 0)
    if not 0 <= value <= 1:
        raise SegtoolError(f"{path}: the {key} of {name} is {value!r}; write a number from 0 to 1")
    return float(value)
