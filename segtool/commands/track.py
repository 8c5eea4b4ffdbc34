"""`segtool track`: send finished runs to a tracker."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segtool.core.artifacts.output import require_done
from segtool.core.documents import read_json
from segtool.core.reporting.progress import tracker as progress
from segtool.core.reporting.tables import Result
from segtool.core.tables import read_csv, to_number
from segtool.core.tracking.tracker import Overlay, Target, check_packages
from segtool.core.tracking.trackers import Trackers
from segtool.errors import SegtoolError
from segtool.settings.tracking import TrackSettings


def run(settings: TrackSettings) -> Result:
    """Send each run to each tracker that does not have it."""
    check_packages(settings.to)
    targets = [_target(path, settings.track_project) for path in settings.runs]
    sent, there = 0, 0
    for target in progress(settings.quiet)(targets, total=len(targets), label="runs"):
        names = [name for name in settings.to if not target.was_sent(name)]
        there += len(settings.to) - len(names)
        with Trackers(names, target) as trackers:
            _send(trackers, target.folder)
        for name in names:
            if name not in trackers.failed:
                target.keep_sent(name)
        if trackers.failed:
            raise SegtoolError(f"{target.folder} was not sent to {trackers.failed[0]}; the line above says why")
        sent += len(names)
    already = f"; {there} were there already" if there else ""
    return Result(f"{sent} run(s) sent to {', '.join(settings.to)}{already}")


def _target(path: Path, project: str) -> Target:
    require_done(path, "run folder")
    if not (path / "history.csv").is_file():
        raise SegtoolError(f"{path} has no history.csv: not a run folder")
    config = read_json(path / "config.json", dict[str, Any])
    return Target(path, project, config, config.get("network", {}).get("classes", ()))


def _send(trackers: Trackers, folder: Path) -> None:
    for row in read_csv(folder / "history.csv"):
        values = {name: to_number(text, folder / "history.csv") for name, text in row.items() if name != "epoch"}
        trackers.scalars("epoch", values, int(float(row["epoch"])))
    for path in sorted((folder / "images").glob("epoch_*.png")):
        sheet = np.asarray(Image.open(path).convert("RGB"))
        # The masks themselves are not kept, so the sheet is all there is: planes of no class.
        none = np.zeros((0, *sheet.shape[:2]), np.uint8)
        trackers.images([Overlay(path.stem, sheet, none, none, sheet)], int(path.stem.rpartition("_")[2]))
