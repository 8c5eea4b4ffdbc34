"""`segtool report`: one HTML file to look at."""

import os
from collections.abc import Sequence
from typing import Any

from segtool.core.artifacts.output import Output
from segtool.core.files import atomic
from segtool.core.report import gallery, page
from segtool.core.report.inputs import Inputs, sort_inputs
from segtool.core.report.scored import ScoredPredictions, find_images, score
from segtool.core.reporting.pictures import class_colours
from segtool.core.reporting.progress import Track, tracker
from segtool.core.reporting.tables import Result
from segtool.core.scoring.objects import size_names
from segtool.errors import UsageError
from segtool.settings.report import ReportSettings

# Sections between the curves and the gallery are in the order of the questions: which class, which size, which image.
MEANS = {"miou": "mIoU", "dice": "Dice", "image_miou": "image mIoU", "pixel_accuracy": "pixel accuracy"}


def run(settings: ReportSettings) -> Result:
    """Score what was predicted, gather what else is given, and write the page."""
    given = sort_inputs(settings.inputs, settings.data)
    thresholds = settings.decision.thresholds
    rules = [one.rule(thresholds, given.thresholds) for one in given.preds]
    if thresholds and thresholds not in rules:
        raise UsageError(f"--thresholds {thresholds}: no input holds predictions that it could decide")
    found = [find_images(one, settings.data, rule) for one, rule in zip(given.preds, rules, strict=True)]
    inputs = given.digests()
    for number, one in enumerate(found, 1):
        own = {**one.dataset.digests(one.images.records), **one.images.inputs}
        inputs |= {f"images {number} {key}": digest for key, digest in own.items()}
    track = tracker(settings.output.quiet)
    with Output(settings.output, "report", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        scored = [score(one, settings.exclude, track) for one in found]
        sections, shown = _sections(settings, given, scored, track)
        title = ", ".join(path.name for path in settings.inputs[:3])
        first = scored[0] if scored else None
        text = page.render(title, _scores(first), _facts(settings, first), sections, shown)
        with atomic(settings.output.out) as file:
            file.write(text)
        output.finish([settings.output.out])
    pictures = f"{len(shown['cards'])} of {shown['of']} images, " if shown else ""
    return Result(f"{settings.output.out}: {pictures}{len(sections)} sections, {len(text.encode()) / 1e6:.1f} MB")


def _sections(
    settings: ReportSettings, given: Inputs, scored: Sequence[ScoredPredictions], track: Track
) -> tuple[list[page.Section], dict[str, Any]]:
    """Return the sections, and what the gallery shows."""
    sections = [page.learning_curves(given.runs)] if given.runs else []
    first, second = [*scored, None, None][:2]
    behind = {one.predicted.scores for one in scored}
    alone = [folder for folder in given.scores if folder not in behind]
    counts = [(one.predicted.name, kept) for one in scored if (kept := page.counts_of(one)) is not None]
    counts += page.run_counts(alone)
    exclude = first.evaluation.board.exclude if first and first.evaluation else ()
    names = [first.dataset.classes[index] for index in exclude] if first else settings.exclude
    if unknown := [name for name in names for _, one in counts[:1] if name not in one.classes]:
        raise UsageError(f"--exclude {unknown[0]}: {counts[0][0]} has no such class")
    if counts:
        sections.append(page.classes_section("classes", "Classes", counts, names))
    if (of_runs := page.run_counts(given.runs)) and (len(of_runs) > 1 or not counts):
        title = "Classes of the runs" if counts else "Classes"
        sections.append(page.classes_section("run-classes", title, of_runs, names))
    if first and first.evaluation:
        sections += page.scores_sections(first, second)
    elif folders := [*alone, *given.runs]:
        sections += page.kept_sections(folders[0])
    shown: dict[str, Any] = {}
    if first and settings.limit:
        shown = _gallery(first, settings.limit, track)
        told = f"{first.predicted.name}: {first.images.title}; {len(shown['cards'])} of {shown['of']} are here"
        told += ", the worst first." if first.evaluation else "."
        sections.append(page.Section("gallery-section", "Gallery", told, gallery=True))
    for make, paths in (
        (page.noise_section, given.noise),
        (page.threshold_section, given.thresholds),
        (page.pseudo_section, given.pseudo),
        (page.inspect_section, given.inspected),
    ):
        sections += [make(path, number) for number, path in enumerate(paths, 1)]
    return sections, shown


def _facts(settings: ReportSettings, first: ScoredPredictions | None) -> list[tuple[str, str]]:
    facts = [("of", ", ".join(map(str, settings.inputs)))]
    if first:
        facts += [("images", first.images.title), ("data", os.path.normpath(first.dataset.path))]
        if first.evaluation and (excluded := first.evaluation.summary()["excluded"]):
            facts.append(("left out of the means", ", ".join(excluded)))
    return facts


def _scores(first: ScoredPredictions | None) -> list[tuple[str, str]]:
    if not first or not first.evaluation:
        return []
    summary = first.evaluation.summary()
    return [(label, f"{summary[name]:.4f}") for name, label in MEANS.items() if summary.get(name) is not None]


def _gallery(scored: ScoredPredictions, limit: int, track: Track) -> dict[str, Any]:
    dataset, chosen = scored.dataset, gallery.worst_first(scored.scores)[:limit]
    made = gallery.cards(dataset, chosen, scored.images.read, with_truth=scored.evaluation is not None)
    colours = class_colours(len(dataset.classes), dataset.palette, background=not dataset.multi)
    return {
        "classes": list(dataset.classes),
        "sizes": _told_sizes(scored.predicted.size_bins),
        "multi": dataset.multi,
        "colours": gallery.colours_of(dataset, colours),
        "of": len(scored.scores),
        "cards": list(track(made, total=len(chosen), label="pictures")),
    }


def _told_sizes(borders: Sequence[int]) -> list[str]:
    """`small (under 1024 px)`, and so on."""
    if len(borders) != 2:
        return [f"{name} px" for name in size_names(borders)]
    limits = [*(f"under {border} px" for border in borders), f"{borders[-1]} px and more"]
    return [f"{name} ({limit})" for name, limit in zip(size_names(borders), limits, strict=True)]
