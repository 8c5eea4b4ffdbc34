"""`segtool noise-rank`: rank images by how strongly their labels disagree with models that were not trained on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset, with_masks
from segtool.core.files import digest_file
from segtool.core.images import IGNORE, Array
from segtool.core.noise import evidence, table
from segtool.core.noise.planes import PlaneRanking
from segtool.core.noise.reports import ImageReport, examine
from segtool.core.noise.suspicion import judge
from segtool.core.planes import Planes
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.ground_truth import refuse_seen, scorable
from segtool.core.predictions.probability_maps import ProbReader, lowest_level
from segtool.core.reporting.pictures import Suspect, write_suspects
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.scoring.fits import Fit, fits_on, told_fits
from segtool.core.tables import write_csv, write_table
from segtool.errors import SegtoolError
from segtool.settings.noise_rank import SHEET_IMAGES, NoiseRankSettings
from segtool.values import Size

SHOWN = ("image_id", "score", "suspicion", "miou", "tolerant_iou", "softmin", "region_share")
ROWS_SHOWN = 10


@dataclass(frozen=True)
class RankingInputs:
    """The images to rank: their labels, their probabilities, and further predictions of them."""

    dataset: Dataset
    records: Sequence[Record]
    preds: Predictions
    members: Sequence[Predictions]
    settings: NoiseRankSettings

    def digests(self) -> dict[str, str]:
        """Return digests of all that is read."""
        others = {
            f"member {number} {key}": digest
            for number, member in enumerate(self.members, 1)
            for key, digest in member.digests().items()
        }
        return {**self.dataset.digests(self.records), **self.preds.digests(probs=True), **others}

    @property
    def fits(self) -> tuple[Fit, ...]:
        """Everything that was fitted to the labels being judged."""
        others = (fit for member in self.members for fit in member.fits)
        return fits_on([*self.preds.fitted(probs=True), *others], self.preds.ids)

    def read_label(self, record: Record) -> Array:
        """Read the label. Raises SegtoolError unless it has the size of the prediction."""
        label = self.dataset.read_mask(record)
        size = self.preds.sizes[record.image_id]
        if label.shape != size:
            raise SegtoolError(
                f"mask {record.mask} is {Size(*label.shape)} (HxW), but {self.preds.path / 'index.csv'} says {size}"
            )
        return label

    def read_pair(self, record: Record) -> tuple[Planes, ProbReader]:
        """Read the planes of the label and open their probabilities; errors as of `read_label`."""
        label, size = self.dataset.scored_planes(record), self.preds.sizes[record.image_id]
        if label.size != size:
            raise SegtoolError(
                f"mask {record.mask} is {label.size} (HxW), but {self.preds.path / 'index.csv'} says {size}"
            )
        return label, self.preds.open_probs(record.image_id)

    def bands(self, record: Record) -> Iterator[tuple[slice, evidence.Levels]]:
        """Read the bands of the probabilities."""
        size = self.preds.sizes[record.image_id]
        return self.preds.open_probs(record.image_id).bands(evidence.coarse_factor(*size))


def run(settings: NoiseRankSettings) -> Result:
    """Write the table and, from it, the list of images to keep and the sheet."""
    inputs = _open(settings)
    with Output(settings.output, "noise-rank", file=True).writing(settings, inputs.digests()) as output:
        ranked = output.up_to_date() if output.done else _write_table(inputs, output)
    lines = [ranked.summary]
    if in_sample := told_fits(inputs.fits, "their labels look better than they are"):
        lines.append(in_sample)
    lines += [_write_keep(inputs, settings.keep)] if settings.keep else []
    lines += [_write_sheet(inputs, settings.sheet)] if settings.sheet else []
    return replace(ranked, summary="\n".join(lines))


def _write_table(inputs: RankingInputs, output: Output) -> Result:
    multi = inputs.dataset.multi
    ranked = (_rank_planes if multi else _rank)(inputs)
    write_table(output.path, ranked)
    output.finish([output.path])
    shown = ranked[[SHOWN[0], *(["class"] if multi else []), *SHOWN[1:]]].head(ROWS_SHOWN).infer_objects()
    ignored = (ranked["note"] != "").sum()
    note = f"; in {ignored}, ranked last, all pixels are ignored" if ignored else ""
    what = "planes of images" if multi else "images"
    return Result(
        f"{output.path}: {len(ranked)} {what}, the most suspicious first{note}",
        [Table(f"The most suspicious of {len(ranked)} {what}, by {inputs.settings.sort}", shown)],
    )


def _open(settings: NoiseRankSettings) -> RankingInputs:
    """Open all inputs. Raises UsageError if a model was trained on an image that it would judge."""
    dataset, preds = load_dataset(settings.data), open_predictions(settings.preds)
    records = scorable(preds, dataset)
    members = [open_predictions(path) for path in settings.member]
    for member in (preds, *members):
        refuse_seen(member)
    for member in members:
        if member.labels != preds.labels:
            raise SegtoolError(f"--member {member.path} has labels: {member.labels}, {preds.path} {preds.labels}")
        if member.classes != preds.classes:
            raise SegtoolError(f"--member {member.path} has other classes than {preds.path}")
        for image_id, size in preds.sizes.items():
            if member.sizes.get(image_id) != size:
                actual = member.sizes.get(image_id, "missing")
                raise SegtoolError(
                    f"--member {member.path}: image {image_id!r} is {actual}, but {size} in {preds.path}"
                )
    return RankingInputs(dataset, records, preds, members, settings)


def _rank(inputs: RankingInputs) -> pd.DataFrame:
    """Examine every image, compare them with each other, and sort them."""
    track, records, classes = tracker(inputs.settings.output.quiet), inputs.records, inputs.dataset.classes
    statistics = evidence.DatasetStatistics(len(classes))
    for record in track(records, total=len(records), label="class thresholds"):
        statistics.add(inputs.read_label(record), inputs.bands(record))
    confident = inputs.settings.confident
    thresholds = statistics.thresholds() if confident is None else np.full(len(classes), lowest_level(confident))
    tracked = track(records, total=len(records), label="noise-rank")
    reports = [_examine(inputs, record, thresholds) for record in tracked]
    judged = zip(reports, judge(reports, statistics.steps), strict=True)
    return table.sort_rows([table.make_row(*pair, classes) for pair in judged], inputs.settings.sort)


def _rank_planes(inputs: RankingInputs) -> pd.DataFrame:
    """Rank as `_rank` does, the planes of classes that may overlap."""
    settings, records = inputs.settings, inputs.records
    track = tracker(settings.output.quiet)
    ranking = PlaneRanking(inputs.dataset.classes, settings.confident, settings.tolerance)
    ranking.add(map(inputs.read_pair, track(records, total=len(records), label="class thresholds")))
    reports = [
        ranking.examine(
            record.image_id,
            inputs.read_pair(record),
            [member.read_planes(record.image_id) for member in inputs.members],
        )
        for record in track(records, total=len(records), label="noise-rank")
    ]
    return table.sort_rows(ranking.rows(reports), settings.sort, table.PLANE_COLUMNS)


def _examine(inputs: RankingInputs, record: Record, thresholds: npt.NDArray[np.integer]) -> ImageReport:
    gathered = evidence.gather(inputs.read_label(record), inputs.bands(record), thresholds)
    members = [member.read_mask(record.image_id) for member in inputs.members]
    return examine(record.image_id, gathered, members, inputs.settings.tolerance)


def _write_keep(inputs: RankingInputs, path: Path) -> str:
    settings, worst = inputs.settings, inputs.settings.drop_worst
    assert worst is not None
    train = inputs.dataset.train
    ids = [record.image_id for record in with_masks(train)]
    digests = {"table": digest_file(settings.output.out), "rows": inputs.dataset.digests(train)["rows"]}
    where = replace(settings.output, out=path)
    with Output(where, "noise-rank", file=True).writing({"drop_worst": str(worst)}, digests) as output:
        if output.done:
            return output.up_to_date().summary
        kept, dropped = table.drop_worst(settings.output.out, ids, worst)
        write_csv(path, ("image_id",), [[image_id] for image_id in kept])
        output.finish([path])
    return f"{path}: {len(kept)} of {len(ids)} training images, without the worst {dropped}"


def _write_sheet(inputs: RankingInputs, path: Path) -> str:
    settings, count = inputs.settings, inputs.settings.sheet_images or SHEET_IMAGES
    digests = {"table": digest_file(settings.output.out), **inputs.digests()}
    where = replace(settings.output, out=path)
    with Output(where, "noise-rank", file=True).writing({"sheet_images": count}, digests) as output:
        if output.done:
            return output.up_to_date().summary
        by_id = {record.image_id: record for record in inputs.records}
        marked = table.read_marked(settings.output.out, count, settings.sort)
        suspects = (_suspect(inputs, by_id[row.image_id], row) for row in marked)
        write_suspects(path, suspects, inputs.dataset.classes, inputs.dataset.palette, multi=inputs.dataset.multi)
        output.finish([path])
    return f"{path}: the first {len(marked)} {'planes' if inputs.dataset.multi else 'images'}"


def _suspect(inputs: RankingInputs, record: Record, row: table.Marked) -> Suspect:
    """Return what the sheet shows of a row: where classes may overlap, of its class alone."""
    if not inputs.dataset.multi:
        pair, pred = inputs.dataset.read_pair(record), inputs.preds.read_mask(record.image_id)
        return Suspect(row.caption, *pair, pred, row.box)
    index = inputs.dataset.classes.index(row.label)
    planes = inputs.dataset.scored_planes(record), inputs.preds.read_planes(record.image_id)
    label, pred = (np.where(one.plane(index) == 1, np.uint8(index), np.uint8(IGNORE)) for one in planes)
    return Suspect(row.caption, inputs.dataset.read_image(record), label, pred, row.box)
