"""`segtool report`: one HTML file to look at."""

import os
from typing import Any

from segtool.core.artifacts.output import Output
from segtool.core.files import atomic
from segtool.core.predictions.decision_file import decision_digest
from segtool.core.report import gallery, page
from segtool.core.report.inputs import sort_inputs
from segtool.core.report.scored import ScoredPredictions, find_images, score
from segtool.core.reporting.pictures import class_colours
from segtool.core.reporting.progress import Track, tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring.objects import BORDERS, size_names
from segtool.settings.report import ReportSettings

# Sections between the curves and the gallery are in the order of the questions: which class, which size, which image.
MEANS = {"miou": "mIoU", "dice": "Dice", "image_miou": "image mIoU", "pixel_accuracy": "pixel accuracy"}


def run(settings: ReportSettings) -> Result:
    """Score what was predicted, gather what else is given, and write the page."""
    found = sort_inputs(settings.inputs)
    predicted = [find_images(path, settings.data, settings.decision.thresholds) for path in found.preds]
    inputs = {**found.digests(), **decision_digest(settings.decision.thresholds)}
    for number, (dataset, images, _) in enumerate(predicted, 1):
        own = {**dataset.digests(images.records), **images.inputs}
        inputs |= {f"images {number} {key}": digest for key, digest in own.items()}
    track = tracker(settings.output.quiet)
    with Output(settings.output, "report", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        scored = [
            score(path, dataset, images, settings.exclude, track, with_truth=with_truth)
            for path, (dataset, images, with_truth) in zip(found.preds, predicted, strict=True)
        ]
        sections = [page.learning_curves(found.runs)] if found.runs else []
        counts = [(str(one.path), kept) for one in scored if (kept := page.counts_of(one)) is not None]
        if counts := counts or page.run_counts([*found.scores, *found.runs]):
            sections.append(page.classes_section([one for _, one in counts], [name for name, _ in counts]))
        first = scored[0] if scored else None
        if first and first.evaluation:
            sections += page.scores_sections(first)
        shown: dict[str, Any] = {}
        if first and settings.limit:
            shown = _gallery(first, settings.limit, track)
            told = f"{first.images.title}; {len(shown['cards'])} of {shown['of']} are here, the worst first."
            sections.append(page.Section("gallery-section", "Images and masks", told, gallery=True))
        sections += [page.noise_section(path) for path in found.noise]
        sections += [page.threshold_section(path) for path in found.thresholds]
        sections += [page.pseudo_section(path) for path in found.pseudo]
        sections += [page.inspect_section(path) for path in found.inspected]
        title = f"segtool report: {', '.join(str(path) for path in settings.inputs[:3])}"
        text = page.render(title, _summary(first), sections, shown)
        with atomic(settings.output.out) as file:
            file.write(text)
        output.finish([settings.output.out])
    pictures = f"{len(shown['cards'])} of {shown['of']} images, " if shown else ""
    return Result(f"{settings.output.out}: {pictures}{len(sections)} sections, {len(text.encode()) / 1e6:.1f} MB")


def _summary(scored: ScoredPredictions | None) -> list[tuple[str, str]]:
    if scored is None:
        return []
    facts = [("images", scored.images.title), ("data", os.path.normpath(scored.dataset.path))]
    if scored.evaluation:
        summary = scored.evaluation.summary()
        facts += [(label, f"{summary[name]:.4f}") for name, label in MEANS.items() if summary.get(name) is not None]
    return facts


def _gallery(scored: ScoredPredictions, limit: int, track: Track) -> dict[str, Any]:
    dataset, chosen = scored.dataset, gallery.worst_first(scored.scores)[:limit]
    made = gallery.cards(dataset, chosen, scored.images.read, with_truth=scored.evaluation is not None)
    colours = class_colours(len(dataset.classes), dataset.palette, background=not dataset.multi)
    return {
        "classes": list(dataset.classes),
        "sizes": [f"{name} objects" for name in size_names(BORDERS)],
        "multi": dataset.multi,
        "colours": gallery.colours_of(dataset, colours),
        "of": len(scored.scores),
        "cards": list(track(made, total=len(chosen), label="pictures")),
    }
