"""`segtool swa`: make a run folder with the average of runs' weights."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from segtool.core.artifacts.output import Output
from segtool.core.averaging.evaluator import run_data
from segtool.core.averaging.job import AveragingJob, read_averaging_job
from segtool.core.averaging.soup import Row, SoupResult, average_name, make_soup, sort_key
from segtool.core.dataset.seen_images import merge_samples
from segtool.core.documents import read_json
from segtool.core.files import write_json
from segtool.core.models.checkpoint import digest_weights
from segtool.core.reporting.plots import draw_beside, learning_curves
from segtool.core.reporting.tables import Result, Table
from segtool.core.runtime.distributed import compute
from segtool.core.runtime.memory import memory_errors
from segtool.core.scoring.pixel_counts import NAME as PIXEL_COUNTS
from segtool.core.training import checkpoints
from segtool.core.training.context import RunContext, RunData
from segtool.core.training.history import monitored
from segtool.core.training.run_folder import describe
from segtool.core.training.trainer import Trainer
from segtool.settings.options import comparable
from segtool.settings.swa import SwaSettings

OWNS = (*checkpoints.OWNS, "scores.csv")
SHOWN = {"mIoU": "miou", "image mIoU": "image_miou", "dice": "dice", "valid loss": "valid_loss"}


def run(settings: SwaSettings) -> Result:
    """Average weights, resume, or find that everything is done."""
    with compute(settings.machine, deterministic=True) as (device, world):
        job = read_averaging_job(settings, world.size)
        output = Output(settings.output, "swa", owns=OWNS)
        # Trained epochs and scores are expensive: keep them.
        keep = "epoch_[0-9]*.pt" if job.continuation else "scores.csv"
        with (
            output.writing(settings, world.run_on_main(job.inputs), keep=keep, processes=world),
            memory_errors("try fewer --workers, or another --device"),
        ):
            if output.done:
                return output.up_to_date()
            data = run_data(job)
            world.run_on_main(lambda: _begin_run(output.path, job))
            context = RunContext.create(job.settings, data, device, world)
            history: list[Row] = []
            if job.continuation:
                trainer = Trainer(context, rate=job.continuation.rate(job.settings))
                trainer.run()
                world.barrier()
                history = trainer.state.history
                job = replace(job, checkpoints=job.continuation.checkpoints(output.path))
            soup = make_soup(job, context, settings.average)
            return _finish(output, settings, job, data, soup, history) if world.is_main else Result()


def _begin_run(folder: Path, job: AveragingJob) -> None:
    """Write the images that the new run has seen, its class weights, and the state that a continuation starts from."""
    merge_samples(folder / "samples.csv", [run.path / "samples.csv" for run in job.runs])
    if (weights := job.runs[0].path / "class_weights.csv").exists():
        # The loss stays that of the run, even if its --class-weights file has moved.
        shutil.copyfile(weights, folder / weights.name)
    if job.continuation:
        job.continuation.write_start(folder)


def _finish(
    output: Output, settings: SwaSettings, job: AveragingJob, data: RunData, soup: SoupResult, history: list[Row]
) -> Result:
    """Write what was averaged and how it scores, and the stamp."""
    folder, kept = output.path, soup.scores(soup.kept)
    rows = history or [{"epoch": soup.epoch, **kept}]
    _write_history(folder / "history.csv", rows, soup.scores(soup.averaged))
    averaged = [{"run": str(c.run), "file": c.file.name, "digest": digest_weights(c.file)} for c in soup.averaged]
    config = describe(job.settings, data)
    first = read_json(job.runs[0].path / "config.json", dict[str, Any])
    size = {"complexity": first["complexity"]} if "complexity" in first else {}
    write_json(folder / "config.json", {**config, **size, "swa": {**comparable(settings), "averaged": averaged}})
    names = ["config.json", "samples.csv", "history.csv", "scores.csv", "swa.pt", "best.pt"]
    names += ["per_image.csv", PIXEL_COUNTS] if job.valid else []
    best = kept[_monitored_column(job)]
    output.finish(
        [folder / name for name in names],
        epochs=job.epochs,
        planned=job.settings.loop.epochs if job.continuation else job.runs[0].planned,
        stopped="",
        best_epoch=soup.epoch,
        monitor=job.settings.loop.monitor,
        best=None if math.isnan(best) else best,
        kept=average_name(soup.kept),
    )
    return _result(folder, job, soup)


def _write_history(path: Path, rows: list[Row], average: Row) -> None:
    """Write the rows of the epochs, with the scores of the average in the last one."""
    last = rows[-1] | {f"swa_{key}": value for key, value in average.items()}
    checkpoints.write_history(path, [*rows[:-1], last])
    draw_beside(path.with_name("curves.png"), lambda: learning_curves(rows))


def _result(folder: Path, job: AveragingJob, soup: SoupResult) -> Result:
    """Return the scores of all networks, and say which of them is in best.pt."""
    count, column = len(soup.averaged), _monitored_column(job)
    summary = f"{folder}: the average of {count} checkpoints"
    if not job.valid:
        return Result(summary)
    rows = [_cells(c.name, c in soup.averaged, soup.scores([c])) for c in soup.singles]
    average = soup.scores(soup.averaged)
    best = max(soup.singles, key=lambda c: sort_key(monitored(soup.scores([c]), job.settings.loop.monitor)))
    if count > 1:
        rows.append(_cells(f"average of {count}", True, average))
    else:
        summary = f"{folder}: no other checkpoint improves on {soup.averaged[0].name}"
    table = Table(f"Validation on {len(job.valid)} images", rows)
    kept = "the average" if len(soup.kept) > 1 else soup.kept[0].name
    scores = f"{column} {average[column]:.4f}, best single checkpoint {soup.scores([best])[column]:.4f} ({best.name})"
    return Result(f"{summary}: {scores}; best.pt is {kept}", [table])


def _cells(name: str, averaged: bool, row: Row) -> dict[str, object]:
    return {"network": name, "averaged": "yes" if averaged else "", **{told: row[key] for told, key in SHOWN.items()}}


def _monitored_column(job: AveragingJob) -> str:
    """Return the column of the monitored metric."""
    monitor = job.settings.loop.monitor
    return "valid_loss" if monitor == "loss" else monitor
