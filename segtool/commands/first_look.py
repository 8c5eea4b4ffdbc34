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
from segtool.core.dataset.dataset import load_dataset
from segtool.core.dataset.extra import read_extras
from segtool.core.dataset.relabel import relabel
from segtool.core.dataset.selection import select
from segtool.core.reporting.tables import Result
from segtool.core.runtime.launch import process_count
from segtool.core.training.inputs import digests, how_to_train_on, read_images
from segtool.settings.bundle import BundleSettings
from segtool.settings.debug import DebugSettings
from segtool.settings.predict import PredictSettings
from segtool.settings.swa import SwaSettings
from segtool.settings.train import TrainSettings


def train(settings: TrainSettings) -> Result | None:
    """Return the result if the run is finished; raise if data, folds or the output folder are wrong."""
    if _several_processes():
        return None
    with _without_notices():
        dataset, records, valid = read_images(settings)
    output = Output(settings.output, "train")
    inputs, advice = digests(settings, dataset, records, valid), partial(how_to_train_on, settings)
    return output.up_to_date() if output.is_done(settings, inputs, advice=advice) else None


def debug(settings: DebugSettings) -> Result | None:
    """Return the result if the checks have been passed; raise if data, folds or the output folder are wrong."""
    if _several_processes():
        return None
    with _without_notices():
        dataset = load_dataset(settings.data)
        records, valid = select(dataset, settings.folds)
        read = relabel(settings.extras, dataset, records) + read_extras(settings.extras, dataset, settings.samples)
    folder = settings.output.out
    overwrite = settings.output.overwrite or not (folder / "done.json").exists()
    output = Output(replace(settings.output, overwrite=overwrite), "debug")
    done = output.is_done(settings, digests(settings, dataset, read, valid))
    return Result(f"{folder} is up to date: all checks were passed") if done else None


def predict(settings: PredictSettings) -> None:
    """Raise if the data set is wrong or a run is missing."""
    load_dataset(settings.data)
    _require_there(settings.run)


def swa(settings: SwaSettings) -> None:
    """Raise if a run is missing or the data set is wrong."""
    _require_there(settings.runs)
    if settings.data:
        load_dataset(settings.data)


def bundle(settings: BundleSettings) -> None:
    """Raise if a run is missing."""
    _require_there(settings.runs)


def _require_there(runs: Sequence[Path]) -> None:
    for run in runs:
        if not run.exists():
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
