"""The app: one line per command. Modules are named as strings and imported when the command runs."""

from typing import Annotated

import typer

from segtool import __version__, bind
from segtool.settings.bench import BenchSettings
from segtool.settings.bundle import BundleSettings
from segtool.settings.compare import CompareSettings
from segtool.settings.debug import DebugSettings
from segtool.settings.demo import DemoSettings
from segtool.settings.ensemble import EnsembleSettings
from segtool.settings.evaluate import EvaluateSettings
from segtool.settings.export import ExportSettings
from segtool.settings.import_coco import ImportCocoSettings
from segtool.settings.import_folders import ImportFoldersSettings
from segtool.settings.import_labelme import ImportLabelmeSettings
from segtool.settings.import_preds import ImportPredsSettings
from segtool.settings.import_rle import ImportRleSettings
from segtool.settings.import_yolo import ImportYoloSettings
from segtool.settings.inspect import InspectSettings
from segtool.settings.noise_rank import NoiseRankSettings
from segtool.settings.plan import PlanSettings
from segtool.settings.predict import PredictSettings
from segtool.settings.pseudo import PseudoSettings
from segtool.settings.push import PushSettings
from segtool.settings.report import ReportSettings
from segtool.settings.roi import RoiCropSettings, RoiPasteSettings
from segtool.settings.split import SplitSettings
from segtool.settings.submit import SubmitSettings
from segtool.settings.swa import SwaSettings
from segtool.settings.threshold import ThresholdSettings
from segtool.settings.tracking import TrackSettings
from segtool.settings.train import TrainSettings

app = typer.Typer(pretty_exceptions_enable=False)
imports = typer.Typer(help="Import data sets and predictions of other formats.")
app.add_typer(imports, name="import")
roi = typer.Typer(help="Crop objects out of images, and paste their predictions back.")
app.add_typer(roi, name="roi")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"segtool {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """A toolbox for semantic segmentation competitions."""


bind.add_command(app, "demo", "segtool.commands.demo", DemoSettings)
bind.add_command(imports, "folders", "segtool.commands.import_folders", ImportFoldersSettings)
bind.add_command(imports, "coco", "segtool.commands.import_coco", ImportCocoSettings)
bind.add_command(imports, "rle", "segtool.commands.import_rle", ImportRleSettings)
bind.add_command(imports, "labelme", "segtool.commands.import_labelme", ImportLabelmeSettings)
bind.add_command(imports, "yolo", "segtool.commands.import_yolo", ImportYoloSettings)
bind.add_command(imports, "preds", "segtool.commands.import_preds", ImportPredsSettings)
bind.add_command(app, "inspect", "segtool.commands.inspect", InspectSettings)
bind.add_command(app, "split", "segtool.commands.split", SplitSettings)
bind.add_command(app, "plan", "segtool.commands.plan", PlanSettings)
bind.add_command(app, "debug", "segtool.commands.debug", DebugSettings, first="segtool.commands.first_look.debug")
bind.add_command(app, "train", "segtool.commands.train", TrainSettings, first="segtool.commands.first_look.train")
bind.add_command(app, "swa", "segtool.commands.swa", SwaSettings, first="segtool.commands.first_look.swa")
bind.add_command(
    app, "predict", "segtool.commands.predict", PredictSettings, first="segtool.commands.first_look.predict"
)
bind.add_command(app, "threshold", "segtool.commands.threshold", ThresholdSettings)
bind.add_command(app, "ensemble", "segtool.commands.ensemble", EnsembleSettings)
bind.add_command(app, "pseudo", "segtool.commands.pseudo", PseudoSettings)
bind.add_command(app, "evaluate", "segtool.commands.evaluate", EvaluateSettings)
bind.add_command(app, "bench", "segtool.commands.bench", BenchSettings)
bind.add_command(app, "compare", "segtool.commands.compare", CompareSettings)
bind.add_command(app, "report", "segtool.commands.report", ReportSettings)
bind.add_command(app, "noise-rank", "segtool.commands.noise_rank", NoiseRankSettings)
bind.add_command(app, "submit", "segtool.commands.submit", SubmitSettings)
bind.add_command(roi, "crop", "segtool.commands.roi_crop", RoiCropSettings)
bind.add_command(roi, "paste", "segtool.commands.roi_paste", RoiPasteSettings)
bind.add_command(app, "push", "segtool.commands.push", PushSettings)
bind.add_command(app, "track", "segtool.commands.track", TrackSettings)
bind.add_command(app, "bundle", "segtool.commands.bundle", BundleSettings, first="segtool.commands.first_look.bundle")
bind.add_command(app, "export", "segtool.commands.export", ExportSettings, first="segtool.commands.first_look.export")


def main() -> None:
    """The console script."""
    bind.main(app)
