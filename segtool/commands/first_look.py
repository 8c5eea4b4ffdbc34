"""Checks that run before torch is imported, which takes seconds: whether the input is wrong or the output done.

The command itself repeats these checks.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from segtool.core.artifacts.output import Output, require_done
from segtool.core.artifacts.stamps import Stamp
from segtool.core.averaging.job import read_averaging_job
from segtool.core.dataset.dataset import load_dataset
from segtool.core.dataset.extra import read_extras
from segtool.core.dataset.relabel import relabel
from segtool.core.dataset.selection import select
from segtool.core.documents import read_json
from segtool.core.inference.job import read_job
from segtool.core.inference.packages import require_packages
from segtool.core.inference.photos import are_photos
from segtool.core.inference.runs import digests as run_digests
from segtool.core.inference.runs import find_checkpoints, open_runs
from segtool.core.models.hub import fetch, is_hub
from segtool.core.models.names import check_names
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.predictions.rule_file import read_rule
from segtool.core.reporting.tables import Result
from segtool.core.runtime.launch import process_count
from segtool.core.tracking.tracker import check_packages
from segtool.core.training.inputs import digests, how_to_train_on, read_images, settings_for
from segtool.settings.bundle import BundleSettings
from segtool.settings.debug import DebugSettings
from segtool.settings.export import ExportSettings
from segtool.settings.predict import PredictSettings
from segtool.settings.swa import SwaSettings
from segtool.settings.train import TrainSettings


def train(settings: TrainSettings) -> Result | None:
    """Return the result if the run is finished; raise if data, folds or the output folder are wrong."""
    if _several_processes():
        return None
    check_names(settings.model.arch, settings.model.encoder)
    check_packages(settings.tracking.track)
    with _without_notices():
        dataset, records, valid = read_images(settings)
    settings = settings_for(settings, dataset)
    output = Output(settings.output, "train", source="last.pt")
    inputs, advice = digests(settings, dataset, records, valid), partial(how_to_train_on, settings)
    return output.up_to_date() if output.is_done(settings, inputs, advice=advice) else None


def debug(settings: DebugSettings) -> Result | None:
    """Return the result if the checks have been passed; raise if data, folds or the output folder are wrong."""
    if _several_processes():
        return None
    check_names(settings.model.arch, settings.model.encoder)
    with _without_notices():
        dataset = load_dataset(settings.data)
        records, valid = select(dataset, settings.folds)
        read = relabel(settings.extras, dataset, records) + read_extras(settings.extras, dataset, settings.samples)
    folder = settings.output.out
    overwrite = settings.output.overwrite or not (folder / "done.json").exists()
    output = Output(replace(settings.output, overwrite=overwrite), "debug")
    done = output.is_done(settings, digests(settings, dataset, read, valid))
    return Result(f"{folder} is up to date: all checks were passed") if done else None


def predict(settings: PredictSettings) -> Result | None:
    """Return the result if all images are predicted; raise if the data set is wrong or a run is missing."""
    if settings.shard or _several_processes() or not (settings.output.out / "done.json").exists():
        if not settings.shard:
            Output(settings.output, "predict").check_place()
        dataset = None if are_photos(settings.data) else load_dataset(settings.data)
        _require_there(settings.run)
        for run in settings.run:
            if (run / "done.json").exists():
                find_checkpoints(run, settings.inference.checkpoint)
        if dataset:
            read_rule(settings.decision.thresholds, dataset.classes, dataset.labels)
        return None
    with _without_notices():
        own = [settings.output.out]
        job = read_job(settings.data, settings.run, settings.inference.checkpoint, settings.subset, own)
        read_rule(settings.decision.thresholds, job.dataset.classes, job.dataset.labels)
    inputs = {**job.inputs(), **decision_digest(settings.decision.thresholds)}
    device = settings.machine.device
    if device == "auto":
        # Finding a GPU takes torch; a finished folder is done whatever it was made on.
        stamp = read_json(settings.output.out / "done.json", Stamp)
        device = stamp.get("settings", {}).get("device", device)
    output = Output(settings.output, "predict")
    return output.up_to_date() if output.is_done(settings, inputs, resolved={"device": device}) else None


def swa(settings: SwaSettings) -> Result | None:
    """Return the result if the average is made; raise if runs, data or the output folder are wrong."""
    if _several_processes():
        return None
    with _without_notices():
        job = read_averaging_job(settings, 1)
    output = Output(settings.output, "swa")
    return output.up_to_date() if output.is_done(settings, job.inputs()) else None


def bundle(settings: BundleSettings) -> Result | None:
    """Return the result if the bundle is written; raise if a run is missing."""
    return _file_of_runs(settings, "bundle")


def export(settings: ExportSettings) -> Result | None:
    """Return the result if the file is written; raise if a run or a package is missing."""
    if settings.suffix == ".onnx":
        require_packages("onnx", f"--out {settings.output.out}")
    return _file_of_runs(settings, "export")


def _file_of_runs(settings: BundleSettings | ExportSettings, command: str) -> Result | None:
    _require_there(settings.runs)
    if not settings.output.out.exists():
        return None
    output = Output(settings.output, command, file=True)
    inputs = run_digests(list(open_runs(settings.runs, settings.checkpoint).values()))
    return output.up_to_date() if output.is_done(settings, inputs) else None


def _require_there(runs: Sequence[Path]) -> None:
    for run in runs:
        if is_hub(run):
            fetch(run)
        elif not run.exists():
            require_done(run, "run folder")


def _several_processes() -> bool:
    """Return whether a launcher started several processes, which need torch to agree on the result."""
    return process_count() > 1


@contextmanager
def _without_notices() -> Iterator[None]:
    """Suppress notices that the command will log again."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
