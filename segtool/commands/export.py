"""`segtool export`: write runs as one file for serving, from raw pixels to probabilities and mask."""

from segtool import __version__
from segtool.core.artifacts.output import Output
from segtool.core.inference.export import describe, export_networks
from segtool.core.inference.members import load_members
from segtool.core.inference.packages import require_packages
from segtool.core.inference.photos import kind_of_run
from segtool.core.inference.runs import digests, members_of, open_runs
from segtool.core.reporting.pictures import class_colours
from segtool.core.reporting.tables import Result
from segtool.settings.export import ExportSettings
from segtool.settings.options import comparable


def run(settings: ExportSettings) -> Result:
    """Trace the networks of runs, compare the file with PyTorch's own prediction, and keep it if they agree."""
    if settings.suffix == ".onnx":
        require_packages("onnx", f"--out {settings.output.out}")
    runs = open_runs(settings.runs, settings.checkpoint)
    with Output(settings.output, "export", file=True).writing(settings, digests(list(runs.values()))) as output:
        if output.done:
            return output.up_to_date()
        kind = kind_of_run(next(iter(runs.values())))
        members = [member for of_run in load_members(list(runs.values()), kind, "cpu") for member in of_run]
        colours = class_colours(len(kind.classes), kind.palette, background=not kind.multi)[: len(kind.classes)]
        about = describe(members, members_of(runs), colours.tolist(), comparable(settings), __version__)
        difference = export_networks(output.path, members, settings.tta or (), about, settings.opset)
        output.finish([output.path])
    size = output.path.stat().st_size / 1e6
    return Result(
        f"{output.path}: {len(members)} network(s), {size:.1f} MB; its probabilities differ from PyTorch's by at most"
        f" {difference:.1g}"
    )
