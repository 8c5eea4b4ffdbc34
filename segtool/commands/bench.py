"""`segtool bench`: speed and memory of training and prediction, measured setting by setting."""

from segtool.core.artifacts.output import Output
from segtool.core.benchmarking.cases import larger, make_cases, read_subject
from segtool.core.benchmarking.children import measure_in_child
from segtool.core.benchmarking.rows import OUT_OF_MEMORY, label, make_row, read_rows, shown, summary, write_rows
from segtool.core.reporting.plots import bars, write_png
from segtool.core.reporting.progress import tracker
from segtool.core.reporting.tables import Result, Table
from segtool.core.runtime.launch import process_count
from segtool.core.workers import machine_name
from segtool.errors import UsageError
from segtool.settings.bench import BenchSettings


def run(settings: BenchSettings) -> Result:
    """Measure the cases that have no row yet."""
    if process_count() > 1:
        raise UsageError("segtool bench runs as one process; start it without torchrun")
    subject = read_subject(settings)
    cases = make_cases(settings.grid, subject)
    limits, images = settings.limits, subject.images
    if limits.images:
        images = dict.fromkeys(images, limits.images)
    inputs = {"machine": machine_name(), "network": subject.digest()}
    output = Output(settings.output, "bench", owns=("bench.csv", "bench.png"))
    table = output.path / "bench.csv"
    with output.writing(settings, inputs, keep="bench.csv"):
        rows = read_rows(table, cases)
        if not output.done:
            left = cases[len(rows) :]
            for case in tracker(settings.output.quiet)(left, total=len(left), label="measuring"):
                short = any(
                    larger(case, other) and row["status"].startswith(OUT_OF_MEMORY)
                    for other, row in zip(cases, rows, strict=False)
                )
                # More of what did not fit would only push the machine to its end.
                known = {"status": f"{OUT_OF_MEMORY}, as with a smaller batch"}
                measured = known if short else measure_in_child(subject, case, settings.seconds)
                rows.append(make_row(case, measured))
                write_rows(table, rows)
            write_png(output.path / "bench.png", bars([(row["task"], label(row, rows), row) for row in rows]))
            output.finish([table, output.path / "bench.png"])
            state = "written"
        else:
            state = "up to date"
    told = [*summary(rows, images, limits), f"{output.path} is {state}" if output.done and state != "written" else ""]
    network = subject.network
    title = f"{network['arch']} with {network['encoder']} on {next((r['device'] for r in rows if r['device']), '?')}"
    return Result("\n".join(line for line in told if line), [Table(title, shown(rows, images, limits))])
