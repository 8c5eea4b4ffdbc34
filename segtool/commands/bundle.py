"""`segtool bundle`: pack runs into one file that predicts without access to the internet."""

from segtool.core.artifacts.output import Output
from segtool.core.inference.runs import digests, open_runs
from segtool.core.models.bundles import write_bundle
from segtool.core.reporting.tables import Result
from segtool.settings.bundle import BundleSettings


def run(settings: BundleSettings) -> Result:
    """Pack finished runs."""
    runs = list(open_runs(settings.runs, settings.checkpoint).values())
    inputs = digests(runs)
    with Output(settings.output, "bundle", file=True).writing(settings, inputs) as output:
        if output.done:
            return output.up_to_date()
        write_bundle(output.path, {run.path: list(run.checkpoints) for run in runs})
        output.finish([output.path])
    size = output.path.stat().st_size / 1e6
    return Result(f"{output.path}: {len(runs)} run(s), {size:.1f} MB; predict with --run {output.path}")
