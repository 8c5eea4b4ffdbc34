"""The ledger: a row for each setting, its seeds together, held against a baseline or the row before."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segtool.core.comparison.entries import Entry, check_alike, common_images
from segtool.core.comparison.seeded_difference import seeded_difference
from segtool.core.scoring.bootstrap import Difference, few_drawn
from segtool.core.scoring.metrics import sums
from segtool.errors import UsageError, did_you_mean
from segtool.settings.options import walk
from segtool.settings.predict import PredictSettings
from segtool.settings.train import TrainSettings

NO_SEEDS = "one seed: the interval knows nothing of seeds"
BORROWED = "one seed: spread over seeds taken from the other side"


@dataclass(frozen=True)
class Group:
    """The runs of one setting, which differ by their seeds."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        """The run that stands for the settings of all."""
        return self.entries[0]

    def mean(self, field: str) -> float:
        """Return the mean of seconds, parameters or multiply-adds over the runs that know it; NaN if none does."""
        values = [value for entry in self.entries if (value := getattr(entry, field)) is not None]
        return float(np.mean(values)) if values else math.nan


@dataclass(frozen=True)
class Row:
    """One line of the ledger.

    Attributes:
        conditions: what differs from the row it is held against, as `lr 0.001 → 0.01`.
        score: the mean over seeds; spread: their standard deviation, NaN for one seed.
        difference: to the other row, with its interval; None for the baseline.
        notes: what to keep in mind.
    """

    group: Group
    against: str
    conditions: tuple[str, ...]
    score: float
    spread: float
    difference: Difference | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.difference is None:
            return "baseline"
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "within the noise"

    def cells(self) -> dict[str, Any]:
        """Return the row as CSV holds it."""
        value, low, high = self.difference or (math.nan,) * 3
        return {
            "name": self.group.name,
            "against": self.against,
            "conditions": "; ".join(self.conditions),
            "seeds": len(self.group.entries),
            "score": self.score,
            "sd": self.spread,
            "difference": value,
            "low": low,
            "high": high,
            "verdict": self.verdict,
            "seconds": self.group.mean("seconds"),
            "parameters": self.group.mean("parameters"),
            "multiply_adds": self.group.mean("multiply_adds"),
            "notes": "; ".join(self.notes),
        }


def group_seeds(entries: Iterable[Entry]) -> list[Group]:
    """Put runs together whose settings and data are the same but for the seed, in the order of their first."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        key = repr((sorted(entry.settings.items(), key=str), sorted(entry.inputs.items())))
        # Runs without a seed cannot be told from copies of one run.
        found.setdefault(key if entry.seed is not None else f"{key} {entry.name}", []).append(entry)
    groups = []
    for same in found.values():
        seeds = [entry.seed for entry in same]
        if len(set(seeds)) < len(seeds):
            twice = next(entry for entry in same if seeds.count(entry.seed) > 1)
            raise UsageError(f"{twice.path} has the settings and the seed ({twice.seed}) of another run that is given")
        groups.append(Group(same[0].name, tuple(same)))
    return groups


def make_ledger(
    entries: Sequence[Entry], metric: str, exclude: Sequence[str] = (), *, steps: bool = False, common: bool = False
) -> list[Row]:
    """Return a row for each setting; the first is the baseline.

    Args:
        metric: one of `scoring.metrics.LABELS`.
        exclude: names of classes that are left out of the means.
        steps: hold each row against the one before.
        common: allow entries to differ in their images, and score those that all have.

    Raises:
        UsageError, SegtoolError: an unknown class, other classes or images, or a run given twice.
    """
    check_alike(entries)
    classes = entries[0].pixels.classes
    if unknown := [name for name in exclude if name not in classes]:
        raise UsageError(f"--exclude {unknown[0]}: there is no such class{did_you_mean(unknown[0], classes)}")
    images = common_images(entries, allowed=common)
    excluded = [classes.index(name) for name in exclude]
    pixels = entries[0].pixels
    at = {image_id: index for index, image_id in enumerate(pixels.image_ids)}
    names = [pixels.groups[at[image_id]] or image_id for image_id in images]
    units = np.unique(names, return_inverse=True)[1].astype(np.int64)
    few = few_drawn(units)

    def values(group: Group) -> list[Any]:
        found = []
        for entry in group.entries:
            order = {image_id: index for index, image_id in enumerate(entry.pixels.image_ids)}
            found.append(sums(metric, entry.pixels.counts[[order[image_id] for image_id in images]], excluded))
        return found

    rows: list[Row] = []
    against: Group | None = None
    for group in group_seeds(entries):
        mine = values(group)
        scores = [float(one.score(one.values.sum(0)[None])[0]) for one in mine]
        spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else math.nan
        difference: Difference | None = None
        conditions: tuple[str, ...] = ()
        notes: list[str] = []
        if against:
            theirs = values(against)
            difference = seeded_difference(
                [one.values for one in theirs], [one.values for one in mine], units, mine[0].score
            )
            conditions = told_conditions(against.first, group.first)
            notes = _notes(against, group, conditions, few)
        rows.append(
            Row(
                group,
                against.name if against else "",
                conditions,
                float(np.mean(scores)),
                spread,
                difference,
                tuple(notes),
            )
        )
        if steps or against is None:
            against = group
    return rows


def told_conditions(first: Entry, second: Entry) -> tuple[str, ...]:
    """Say each setting that differs, and each input whose content does."""
    defaults = {option.name: option.default for kind in (PredictSettings, TrainSettings) for option in walk(kind)}

    def value(settings: Mapping[str, Any], name: str) -> Any:
        return settings.get(name, defaults.get(name))

    old, new = first.settings, second.settings
    told = [
        f"{name.replace('_', '-')} {_shown(value(old, name))} → {_shown(value(new, name))}"
        for name in sorted(old.keys() | new.keys())
        if _plain(value(old, name)) != _plain(value(new, name))
    ]
    if first.inputs and second.inputs and not told:
        inputs = sorted(
            key for key in first.inputs.keys() | second.inputs.keys() if first.inputs.get(key) != second.inputs.get(key)
        )
        told = [f"other {', '.join(inputs)}"] if inputs else []
    return tuple(told)


def _notes(against: Group, group: Group, conditions: Sequence[str], few: str) -> list[str]:
    counts = sorted((len(against.entries), len(group.entries)))
    seeds = [NO_SEEDS] if counts[1] == 1 else [BORROWED] if counts[0] == 1 else []
    several = [f"{len(conditions)} conditions at once"] if len(conditions) > 1 else []
    return [*several, *seeds, *([few] if few else [])]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
