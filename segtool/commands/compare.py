"""`segtool compare`: the ledger of experiments."""

from segtool.core.artifacts.output import Output
from segtool.core.comparison import forms, leaderboard
from segtool.core.comparison.entries import read_entry
from segtool.core.comparison.ledger import group_seeds, make_ledger
from segtool.core.files import atomic
from segtool.core.reporting.tables import Result, Table
from segtool.core.scoring.metrics import LABELS
from segtool.core.tables import write_table
from segtool.settings.compare import CompareSettings


def run(settings: CompareSettings) -> Result:
    """Hold the entries against the first, and write the ledger."""
    entries = [read_entry(typed) for typed in settings.entries]
    path = settings.output.out
    kept = leaderboard.kept_scores(path.parent / leaderboard.NAME)
    scores = kept | leaderboard.parse_scores(settings.lb, [group.name for group in group_seeds(entries)])
    form = settings.format or forms.SUFFIXES.get(path.suffix.lower(), "table")
    inputs = {
        f"{number} {name}": digest
        for number, entry in enumerate(entries, 1)
        for name, digest in entry.digests().items()
    }
    # What is kept beside the file counts as typed.
    resolved = {"format": form, "lb": sorted(f"{name}={value:g}" for name, value in scores.items())}
    with Output(settings.output, "compare", file=True).writing(settings, inputs, resolved=resolved) as output:
        if output.done:
            return output.up_to_date()
        rows = make_ledger(entries, settings.metric, settings.exclude, steps=settings.steps, common=settings.common)
        label, against = LABELS[settings.metric], "the row before" if settings.steps else rows[0].group.name
        title = f"{label} of {len(entries)} runs in {len(rows)} rows, each held against {against}"
        remarks = [told] if (told := leaderboard.rank_correlation(rows, scores)) else []
        table, ledger = forms.shown(rows, label, scores), path.parent / leaderboard.NAME
        if form == "csv":
            write_table(path, leaderboard.ledger_table(rows, scores))
        else:
            with atomic(path) as file:
                file.write(forms.as_text(form, table, title, remarks))
        if scores and path != ledger:
            write_table(ledger, leaderboard.ledger_table(rows, scores))
        output.finish([path])
    return Result("\n".join([*remarks, f"{path} written"]), [Table(title, table)])
