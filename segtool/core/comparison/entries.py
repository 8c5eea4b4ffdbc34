"""What is compared: a run by its validation images, or an evaluation, each with the settings behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segtool.core.artifacts.output import require_done
from segtool.core.documents import read_json
from segtool.core.files import digest_file
from segtool.core.scoring.pixel_counts import NAME, PixelCounts, read_pixel_counts
from segtool.core.tables import read_csv, to_number
from segtool.errors import SegtoolError, UsageError
from segtool.settings.options import walk
from segtool.settings.predict import PredictSettings
from segtool.settings.train import TrainSettings

COMMANDS = ("train", "swa", "debug", "evaluate")
# What `config.json` and stamps hold beside settings that can change a score.
_NO_CONDITION = frozenset({"out", "overwrite", "quiet", "seed", "run", "runs", "data", "preds", "threads", "device"})


@dataclass(frozen=True)
class Entry:
    """One run or evaluation.

    Attributes:
        settings: what can change the score, as plain values, without the seed.
        inputs: digests of the data behind it.
        seconds, parameters, multiply_adds: of its training, where they are known; of several networks, their sum.
    """

    name: str
    path: Path
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    seed: int | None
    pixels: PixelCounts
    seconds: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None

    def digests(self) -> dict[str, str]:
        """Return digests of what is read."""
        names = ("done.json", NAME, "config.json", "history.csv", "summary.json")
        return {name: digest_file(self.path / name) for name in names if (self.path / name).is_file()}


def read_entry(typed: str) -> Entry:
    """Read a run folder or a folder of `segtool evaluate`, typed as PATH or NAME=PATH.

    Raises:
        SegtoolError: the folder is missing, unfinished or something else, or of a version without pixel_counts.csv.
    """
    name, equals, rest = typed.partition("=")
    path = Path(rest) if equals and not Path(typed).exists() else Path(typed)
    name = name if path == Path(rest) and equals else typed
    if not name or not path.parts:
        raise UsageError(f"{typed!r} is neither a folder nor NAME=FOLDER")
    stamp = require_done(path, "run folder or folder of `segtool evaluate`")
    if (command := stamp.get("command")) not in COMMANDS:
        raise UsageError(
            f"{path} is an output of `segtool {command}`; compare takes run folders and those of `segtool evaluate`"
        )
    if not (path / NAME).is_file():
        raise SegtoolError(
            f"{path} has no {NAME}: "
            + (
                "it was evaluated by an older version; run `segtool evaluate` again with --overwrite"
                if command == "evaluate"
                else "its version was older, or it had no validation images; predict and evaluate it, and compare that"
            )
        )
    pixels = read_pixel_counts(path / NAME)
    facts = _evaluation(path) if command == "evaluate" else _run(path, stamp)
    if command != "evaluate":
        # What training scores is what `predict --subset valid` predicts with this one network.
        facts["settings"] |= {"subset": "valid", "networks": 1}
    return Entry(name, path, pixels=pixels, **facts)


def _run(path: Path, stamp: Mapping[str, Any]) -> dict[str, Any]:
    config = read_json(path / "config.json", dict[str, Any])
    # An average is a condition of its own: which epochs, and how they were chosen.
    averaged = {f"swa {key}": value for key, value in config.get("swa", {}).items() if key != "averaged"}
    settings = config.get("settings", {})
    seconds = [
        to_number(row["seconds"], path / "history.csv")
        for row in read_csv(path / "history.csv")[-1:]
        if row.get("seconds")
    ]
    complexity = config.get("complexity", {})
    return {
        "settings": _conditions(TrainSettings, settings) | averaged,
        "inputs": stamp.get("inputs", {}),
        "seed": settings.get("seed"),
        "seconds": seconds[0] if seconds else None,
        "parameters": complexity.get("parameters"),
        "multiply_adds": complexity.get("multiply_adds"),
    }


def _evaluation(path: Path) -> dict[str, Any]:
    """Return what is known of the predictions behind an evaluation: how they were made, and by which runs."""
    summary = read_json(path / "summary.json", dict[str, Any])
    preds = path / summary.get("predictions", "?")
    found: dict[str, Any] = {"settings": {}, "inputs": {}, "seed": None}
    if not (preds / "meta.json").is_file() or not (preds / "done.json").is_file():
        return found
    made = read_json(preds / "done.json", dict[str, Any])
    found["settings"] = _conditions(PredictSettings, made.get("settings", {}))
    members = read_json(preds / "meta.json", dict[str, Any]).get("members", [])
    folders = list(dict.fromkeys(member["run"] for member in members if "run" in member))
    runs = [_run(Path(run), {}) for run in folders if (Path(run) / "config.json").is_file()]
    if not runs or len(runs) < len(folders):
        return found
    same = {
        key: value for key, value in runs[0]["settings"].items() if all(r["settings"].get(key) == value for r in runs)
    }
    # Several folds' networks are told by their number.
    found["settings"] |= same | {"networks": len(members)}
    seeds = {run["seed"] for run in runs}
    found["seed"] = seeds.pop() if len(seeds) == 1 else None
    for key in ("seconds", "parameters", "multiply_adds"):
        values = [run[key] for run in runs]
        found[key] = None if None in values else sum(values)
    return found


def _conditions(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that can change a score, those that older versions lacked at their defaults."""
    known = {option.name: option for option in walk(kind)}
    kept = {}
    for name, value in settings.items():
        option = known.get(name)
        if name not in _NO_CONDITION and option is not None and option.spec.affects_result:
            kept[name] = value
    return kept


def check_alike(entries: Sequence[Entry]) -> None:
    """Raise SegtoolError where classes differ, which nothing can be compared across."""
    first = entries[0]
    for other in entries[1:]:
        if other.pixels.classes != first.pixels.classes or other.pixels.multi != first.pixels.multi:
            raise SegtoolError(
                f"{other.path} has the classes {', '.join(other.pixels.classes)}; {first.path} has"
                f" {', '.join(first.pixels.classes)}"
            )


def common_images(entries: Sequence[Entry], *, allowed: bool) -> list[str]:
    """Return the ids of the images that all have scored.

    Raises:
        SegtoolError: the images differ and that is not `allowed`, or there are none in common.
    """
    sets = [set(entry.pixels.image_ids) for entry in entries]
    common = set.intersection(*sets)
    for entry, images in zip(entries, sets, strict=True):
        odd = sorted(images ^ sets[0])
        if odd and not allowed:
            having = entry if odd[0] in images else entries[0]
            lacking = entries[0] if having is entry else entry
            raise SegtoolError(
                f"{having.path} has image {odd[0]!r} and {lacking.path} does not ({len(odd)} differ); other images"
                " are another task: --common compares on those that all have"
            )
    if not common:
        raise SegtoolError(f"{entries[0].path} and the others have no image in common")
    return [image_id for image_id in entries[0].pixels.image_ids if image_id in common]
