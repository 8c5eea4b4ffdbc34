"""`segtool inspect`: look at every image and mask of a data set once, and say what to do."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segtool.core.artifacts.output import Output
from segtool.core.dataset.dataset import Dataset, Record, load_dataset
from segtool.core.dataset.folds import read_folds
from segtool.core.files import atomic, digest_bytes, digest_file, write_json
from segtool.core.inspection import report
from segtool.core.inspection.advice import advise
from segtool.core.inspection.findings import Findings, find
from segtool.core.inspection.pictures import write_pictures
from segtool.core.inspection.survey import ImageFacts, survey
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result
from segtool.core.tables import write_table
from segtool.settings.common import OutputSettings
from segtool.settings.inspect import InspectSettings

OWNS = (
    *("inspect.json", "report.txt", "faults.csv", "images.csv", "classes.csv", "cooccurrence.csv", "duplicates.csv"),
    *("class_shares.png", "sizes.png", "examples.png", "duplicates.png"),
)


def run(settings: InspectSettings) -> Result:
    """Print what is found and, with -o, write it; exit status 1 if there is anything that cannot be trained on."""
    dataset = load_dataset(settings.data)
    folds = read_folds(settings.folds, dataset) if settings.folds else None
    if settings.output.out is None:
        return _look(settings, dataset, folds)[0]
    folder = settings.output.out
    # Without a stamp the last call found faults or was killed: nothing is lost by writing anew.
    overwrite = settings.output.overwrite or not (folder / "done.json").exists()
    output = Output(OutputSettings(folder, overwrite, settings.output.quiet), "inspect", owns=OWNS)
    with output.writing(settings, _inputs(settings, dataset)):
        if output.done:
            told = (folder / "report.txt").read_text(encoding="utf-8")
            return Result(f"{told}\n{output.up_to_date().summary}")
        result, facts, findings = _look(settings, dataset, folds)
        written = _write(folder, dataset, facts, findings, result.text())
        if result.status == 0:
            output.finish(written)
    return replace(result, summary=f"{result.summary}\n\nreport written to {folder}")


def _look(
    settings: InspectSettings, dataset: Dataset, folds: Mapping[str, int] | None
) -> tuple[Result, list[ImageFacts], Findings]:
    facts = survey(dataset, settings.workers, tracker(settings.output.quiet))
    findings = find(dataset, facts, folds)
    lines = [*report.lines(findings), "", "What to do:", *(f"- {line}" for line in advise(findings, settings.data))]
    return Result("\n".join(lines), report.shown(findings), 1 if findings.faults else 0), facts, findings


def _write(folder: Path, dataset: Dataset, facts: list[ImageFacts], findings: Findings, text: str) -> list[Path]:
    for name, table in report.files(findings, facts).items():
        write_table(folder / name, table)
    write_json(folder / "inspect.json", findings.to_json())
    with atomic(folder / "report.txt") as file:
        file.write(text + "\n")
    write_pictures(folder, dataset, facts, findings)
    return [folder / name for name in OWNS if (folder / name).exists()]


def _inputs(settings: InspectSettings, dataset: Dataset) -> dict[str, str]:
    """Return digests of all that is read; files that are missing are a finding, not an error."""
    records = (*dataset.train, *dataset.test)
    missing = {path for record in records for path in _paths(record) if not path.is_file()}
    there = [record for record in records if missing.isdisjoint(_paths(record))]
    digests = {**dataset.digests(there), "missing": digest_bytes(repr(sorted(map(str, missing))).encode())}
    return digests | ({"folds": digest_file(settings.folds)} if settings.folds else {})


def _paths(record: Record) -> list[Path]:
    return [path for path in (*record.files, record.mask, record.soft) if path]
