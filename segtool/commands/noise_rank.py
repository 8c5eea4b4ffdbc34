"""`segtool noise-rank`: which labels do not look right to models that never saw them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.files import digest_file
from segtool.core.images import Array
from segtool.core.noise import evidence, table
from segtool.core.noise.findings import Finding, examine
from segtool.core.noise.suspicion import judge
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import refuse_seen, scorable
from segtool.core.predictions.probability_maps import lowest_level
from segtool.core.reporting.pictures import Suspect, write_suspects
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.scoring.fits import Fit, fits_on, told_fits
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError
from segtool.settings.noise_rank import SHEET_IMAGES, NoiseRankSettings
from segtool.settings.options import Size

SHOWN = ("image_id", "score", "suspicion", "miou", "tolerant_iou", "softmin", "region_share")
ROWS_SHOWN = 10


@dataclass(frozen=True)
class Task:
    """What is ranked: images with their labels, their probabilities, and what others predict."""

    dataset: Dataset
    records: Sequence[Record]
    preds: Predictions
    members: Sequence[Predictions]
    settings: NoiseRankSettings

    def inputs(self) -> dict[str, str]:
        """Digests of all that is read."""
        named = {f"member {n}": m for n, m in enumerate(self.members, 1)}
        others = {f"{name} {key}": digest for name, m in named.items() for key, digest in m.digests().items()}
        return {**self.dataset.digests(self.records), **self.preds.digests(probs=True), **others}

    @property
    def fits(self) -> tuple[Fit, ...]:
        """What was fitted to the labels that are to be judged."""
        others = (fit for member in self.members for fit in member.fits)
        return fits_on([*self.preds.fitted(probs=True), *others], self.preds.ids)

    def label(self, record: Record) -> Array:
        """The label, of the size that was predicted."""
        label = self.dataset.read_mask(record)
        size = self.preds.sizes[record.image_id]
        if label.shape != size:
            raise SegtoolError(
                f"mask {record.mask} is {Size(*label.shape)} (HxW), but {self.preds.path / 'index.csv'} says {size}"
            )
        return label

    def bands(self, record: Record) -> Iterator[tuple[int, evidence.Levels]]:
        """The bands of the probabilities."""
        size = self.preds.sizes[record.image_id]
        return evidence.bands_of(self.preds.open_probs(record.image_id), evidence.coarse_factor(*size))


def run(settings: NoiseRankSettings) -> Result:
    """Write the table, and from it the list of images to keep and the sheet."""
    task = _read(settings)
    with Output(settings.output, "noise-rank", file=True).writing(settings, task.inputs()) as output:
        ranked = output.up_to_date() if output.done else _write_table(task, output)
    lines = [ranked.summary]
    if told := told_fits(task.fits, "their labels look righter than they are"):
        lines.append(told)
    lines += [_write_keep(task, settings.keep)] if settings.keep else []
    lines += [_write_sheet(task, settings.sheet)] if settings.sheet else []
    return replace(ranked, summary="\n".join(lines))


def _write_table(task: Task, output: Output) -> Result:
    rows = _rank(task)
    write_csv(output.path, table.COLUMNS, [list(row.values()) for row in rows])
    output.finish([output.path])
    shown = [[row[column] for column in SHOWN] for row in rows[:ROWS_SHOWN]]
    silent = sum(row["note"] != "" for row in rows)
    note = f"; in {silent}, ranked last, all pixels are ignored" if silent else ""
    return Result(
        f"{output.path}: {len(rows)} images, the most suspicious first{note}",
        [Table(f"The most suspicious of {len(rows)} images, by {task.settings.sort}", SHOWN, shown)],
    )


def _read(settings: NoiseRankSettings) -> Task:
    """Open everything; refused where a model has seen an image that it is to judge."""
    dataset, preds = load_dataset(settings.data), open_predictions(settings.preds)
    records = scorable(preds, dataset)
    members = [open_predictions(path) for path in settings.member]
    for member in (preds, *members):
        refuse_seen(member)
    for member in members:
        if member.classes != preds.classes:
            raise SegtoolError(f"--member {member.path} has other classes than {preds.path}")
        for image_id, size in preds.sizes.items():
            if member.sizes.get(image_id) != size:
                there = member.sizes.get(image_id, "not there")
                raise SegtoolError(f"--member {member.path}: image {image_id!r} is {there}; {preds.path} has it {size}")
    return Task(dataset, records, preds, members, settings)


def _rank(task: Task) -> list[table.Row]:
    """Look at every image, judge them against each other, and order them."""
    track, records, classes = tracker(task.settings.output.quiet), task.records, task.dataset.classes
    census = evidence.Census(len(classes))
    for record in track(records, total=len(records), label="class thresholds"):
        census.add(task.label(record), task.bands(record))
    confident = task.settings.confident
    thresholds = census.thresholds() if confident is None else np.full(len(classes), lowest_level(confident))
    tracked = track(records, total=len(records), label="noise-rank")
    findings = [_examine(task, record, thresholds) for record in tracked]
    judged = zip(findings, judge(findings, census.steps), strict=True)
    return table.in_order([table.make_row(*pair, classes) for pair in judged], task.settings.sort)


def _examine(task: Task, record: Record, thresholds: npt.NDArray[np.integer]) -> Finding:
    gathered = evidence.gather(task.label(record), task.bands(record), thresholds)
    members = [member.read_mask(record.image_id) for member in task.members]
    return examine(record.image_id, gathered, members, task.settings.tolerance)


def _write_keep(task: Task, path: Path) -> str:
    settings, worst = task.settings, task.settings.drop_worst
    assert worst is not None
    ids = [record.image_id for record in with_masks(task.dataset.train)]
    inputs = {"table": digest_file(settings.output.out), "rows": task.dataset.digests(task.dataset.train)["rows"]}
    where = replace(settings.output, out=path)
    with Output(where, "noise-rank", file=True).writing({"drop_worst": str(worst)}, inputs) as output:
        if output.done:
            return output.up_to_date().summary
        kept, dropped = table.kept(settings.output.out, ids, worst)
        write_csv(path, ("image_id",), [[image_id] for image_id in kept])
        output.finish([path])
    return f"{path}: {len(kept)} of {len(ids)} training images, without the worst {dropped}"


def _write_sheet(task: Task, path: Path) -> str:
    settings, count = task.settings, task.settings.sheet_images or SHEET_IMAGES
    inputs = {"table": digest_file(settings.output.out), **task.inputs()}
    where = replace(settings.output, out=path)
    with Output(where, "noise-rank", file=True).writing({"sheet_images": count}, inputs) as output:
        if output.done:
            return output.up_to_date().summary
        by_id = {record.image_id: record for record in task.records}
        marked = table.marked(settings.output.out, count, settings.sort)
        suspects = (
            Suspect(caption, *task.dataset.read_pair(by_id[image_id]), task.preds.read_mask(image_id), box)
            for image_id, caption, box in marked
        )
        write_suspects(path, suspects, task.dataset.classes, task.dataset.palette)
        output.finish([path])
    return f"{path}: the first {len(marked)} images"
