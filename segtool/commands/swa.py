"""`segtool swa`: runs in, a run folder with the average of their weights out."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

from segtool.core.artifacts.output import Output
from segtool.core.averaging.job import Job, read_job
from segtool.core.averaging.soup import KEYS, Made, Row, average, in_order, name_of
from segtool.core.dataset.seen_images import merge_samples
from segtool.core.files import write_json
from segtool.core.models.checkpoint import digest_weights
from segtool.core.reporting.tables import Result, Table
from segtool.core.runtime.distributed import compute
from segtool.core.runtime.memory import memory_errors
from segtool.core.training import checkpoints
from segtool.core.training.context import RunContext
from segtool.core.training.history import monitored
from segtool.core.training.run_folder import describe
from segtool.core.training.trainer import Trainer
from segtool.settings.options import comparable
from segtool.settings.swa import SwaSettings

OWNS = (*checkpoints.OWNS, "scores.csv")
SHOWN = {"mIoU": "miou", "image mIoU": "image_miou", "dice": "dice", "valid loss": "valid_loss"}


def run(settings: SwaSettings) -> Result:
    """Average, go on with what was begun, or find that all is done."""
    with compute(settings.machine, deterministic=True) as (device, world):
        job = read_job(settings, world.size)
        output = Output(settings.output, "swa", owns=OWNS)
        # Trained epochs and scores are expensive: keep them.
        keep = "epoch_[0-9]*.pt" if job.branch else "scores.csv"
        with (
            output.writing(settings, world.run_on_main(job.inputs), keep=keep, processes=world),
            memory_errors("try fewer --workers, or another --device"),
        ):
            if output.done:
                return output.up_to_date()
            world.run_on_main(lambda: _describe(output, job))
            context = RunContext.create(job.settings, job.data, device, world)
            history: list[Row] = []
            if job.branch:
                trainer = Trainer(context, rate=job.branch.rate(job.settings))
                trainer.run()
                world.barrier()
                history = trainer.state.history
                job = replace(job, checkpoints=job.branch.members(output.path))
            made = average(job, context, settings.average)
            return _finish(output, settings, job, made, history) if world.is_main else Result()


def _describe(output: Output, job: Job) -> None:
    """Write what the new run has seen and where it starts from."""
    merge_samples(output.path / "samples.csv", [run.path / "samples.csv" for run in job.sources])
    if (weights := job.sources[0].path / "class_weights.csv").exists():
        # The loss is that of the run, wherever a file of weights is by now.
        shutil.copyfile(weights, output.path / weights.name)
    if job.branch:
        job.branch.begin(output.path)


def _finish(output: Output, settings: SwaSettings, job: Job, made: Made, history: list[Row]) -> Result:
    """Write what the networks were made of, and how they score."""
    folder, kept = output.path, made.rows[name_of(made.kept)]
    rows = history or [{"epoch": made.epoch, **kept}]
    _write_history(folder / "history.csv", rows, made.rows[name_of(made.averaged)])
    used = [{"run": str(c.run), "file": c.file.name, "digest": digest_weights(c.file)} for c in made.averaged]
    config = describe(job.settings, job.data.spec)
    write_json(folder / "config.json", {**config, "swa": {**comparable(settings), "averaged": used}})
    names = ["config.json", "samples.csv", "history.csv", "scores.csv", "swa.pt", "best.pt"]
    best = kept[_column(job)]
    output.finish(
        [folder / name for name in (*names, *(["per_image.csv"] if job.data.valid else []))],
        epochs=job.epochs,
        planned=job.settings.loop.epochs if job.branch else job.sources[0].stamp["planned"],
        stopped="",
        best_epoch=made.epoch,
        monitor=job.settings.loop.monitor,
        best=None if math.isnan(best) else best,
        kept=name_of(made.kept),
    )
    return _result(folder, job, made)


def _write_history(path: Path, rows: list[Row], average: Row) -> None:
    """The epochs' rows, and in the last of them the scores of the average."""
    rows = [{**row, **{f"swa_{key}": math.nan for key in KEYS}} for row in rows]
    rows[-1] |= {f"swa_{key}": value for key, value in average.items()}
    checkpoints.write_history(path, rows)


def _result(folder: Path, job: Job, made: Made) -> Result:
    """The networks that were looked at, and which of them best.pt is."""
    count, column = len(made.averaged), _column(job)
    what = f"{folder}: the average of {count} checkpoints"
    if not job.data.valid:
        return Result(what)
    rows = [_cells(one.name, one in made.averaged, made.rows[one.name]) for one in made.singles]
    reached = made.rows[name_of(made.averaged)]
    best = max(made.singles, key=lambda one: in_order(monitored(made.rows[one.name], job.settings.loop.monitor)))
    scored = f"{column} {reached[column]:.4f}, of the best single one {made.rows[best.name][column]:.4f} ({best.name})"
    if count > 1:
        rows.append(_cells(f"average of {count}", True, reached))
    else:
        what = f"{folder}: nothing that is added to {made.averaged[0].name} is of use"
    table = Table(f"Validation on {len(job.data.valid)} images", ["network", "averaged", *SHOWN], rows)
    kept = "the average" if len(made.kept) > 1 else made.kept[0].name
    return Result(f"{what}: {scored}; best.pt is {kept}", [table])


def _cells(name: str, averaged: bool, row: Row) -> list[object]:
    return [name, "yes" if averaged else "", *(row[key] for key in SHOWN.values())]


def _column(job: Job) -> str:
    """Where a row holds what the best is told by."""
    monitor = job.settings.loop.monitor
    return "valid_loss" if monitor == "loss" else monitor
