"""`segtool evaluate`: score predictions against masks."""

import os
from pathlib import Path

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import load_dataset
from segtool.core.files import write_json
from segtool.core.predictions.ground_truth import check_excluded
from segtool.core.predictions.scored_images import find_scored, score_images
from segtool.core.reporting.plots import confusion, draw_beside
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring import tables
from segtool.core.scoring.evaluation import Evaluation
from segtool.core.scoring.pixel_counts import NAME as PIXEL_COUNTS
from segtool.core.scoring.pixel_counts import counts_table
from segtool.core.scoring.scores import ScoreBoard
from segtool.core.tables import write_table
from segtool.settings.evaluate import EvaluateSettings

FILES = (
    "per_image.csv",
    "per_class.csv",
    "by_size.csv",
    "confusion.csv",
    PIXEL_COUNTS,
    "confusion.png",
    "summary.json",
)


def run(settings: EvaluateSettings) -> Result:
    """Score PREDS against the masks of DATA and write the tables."""
    dataset = load_dataset(settings.data)
    check_excluded(settings.exclude, dataset)
    scored = find_scored(dataset, settings.preds, settings.subset, settings.decision.thresholds)
    folder = settings.output.out
    inputs = {**dataset.digests(scored.records), **scored.inputs}
    with Output(settings.output, "evaluate", owns=FILES).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        scores = Evaluation(
            dataset.classes,
            multi=dataset.multi,
            exclude=settings.exclude,
            size_bins=settings.size_bins,
            tolerance=settings.tolerance if settings.boundary else None,
        )
        score_images(dataset, scored, scores, tracker(settings.output.quiet))
        about = {"size_bins": list(settings.size_bins), "fitted": [fit.summary() for fit in scored.fits]}
        behind = Path(os.path.relpath(settings.preds, folder)).as_posix()
        summary = {"subset": scored.subset, "predictions": behind, **scores.summary(), **about}
        files = tables.files(scores.board, scores.sizes, scores.size_bins, scores.outlines)
        files[PIXEL_COUNTS] = counts_table(scores.board, {record.image_id: record.group for record in scored.records})
        for name, table in files.items():
            write_table(folder / name, table)
        if isinstance(scores.board, ScoreBoard):
            total = scores.board.total
            draw_beside(folder / "confusion.png", lambda: confusion(total, dataset.classes))
        write_json(folder / "summary.json", summary)
        output.finish([folder / name for name in (*files, "summary.json")])
    shown = tables.shown(scored.title, scores.board, scores.sizes, scores.size_bins, scored.fits, scores.outlines)
    return Result(f"tables written to {folder}", shown)
