"""Settings of `segtool import preds`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ClaimSettings:
    """Which images were predicted, and what the models had seen."""

    panel: ClassVar[str] = "Images"

    subset: Literal["test", "valid", "train", "oof"] = option("test", help="Subset of the data set that was predicted")
    oof: bool = option(
        False,
        flags="--oof",
        help="Assert that no model saw an image it predicted here (recorded as an unverified claim)",
    )
    folds: Path | None = option(
        None,
        needs=("fold", "data"),
        help="Assert that the model never saw fold --fold of this folds.csv (recorded as an unverified claim)",
    )
    fold: int | None = option(None, min=0, needs=("folds",), help="Fold of --folds that the model has not seen")
    partial: bool = option(False, flags="--partial", needs=("data",), help="Allow images without a prediction file")

    def __post_init__(self) -> None:
        if self.oof and (self.folds or self.subset == "train"):
            other, remedy = ("--folds", "") if self.folds else ("--subset train", "; use --subset oof")
            raise UsageError(f"--oof contradicts {other} about which images the models have seen{remedy}")
        if self.folds and self.subset in ("test", "oof"):
            raise UsageError(f"--folds has no effect with --subset {self.subset}: use --subset valid or train")
        if self.subset == "oof" and not self.oof:
            raise UsageError("--subset oof needs --oof, which asserts that no model saw an image it predicted here")


@dataclass(frozen=True)
class FormSettings:
    """The form of the files."""

    panel: ClassVar[str] = "Files"

    layout: Literal["chw", "hwc"] | None = option(
        None, help="Order of the axes, classes first or last (default: detected by the number of classes)"
    )
    key: str | None = option(None, help="Name of the array in .npz files that hold several")
    logits: bool = option(
        False,
        flags="--logits",
        help="Treat the values as logits: apply softmax, or the sigmoid if only the foreground has values",
    )
    resize: bool = option(
        False,
        flags="--resize",
        needs=("data",),
        help="Resize predictions to the size of their image: probabilities bilinearly, masks by nearest neighbour",
    )


@dataclass(frozen=True)
class ImportPredsSettings:
    """Make a prediction folder from another code base's predictions, named after the images.

    They are probabilities in .npy or .npz files (integers are divided by the largest of their type), or, where DIR
    holds neither, index PNGs: each pixel votes for its class. Where the classes of --data may overlap, they are arrays
    whose probabilities need not add up to one, or whose integers are 0 and 1.
    """

    example: ClassVar[str] = "segtool import preds theirs --data data --subset test -o preds/theirs"

    output: OutputSettings
    dir: Path = option(
        argument=True, help="Folder of .npy or .npz files, or of index PNGs; subfolders are part of the image_id"
    )
    data: Path | None = option(None, help="Data set that was predicted; ids, sizes and classes must match")
    classes: str | None = option(
        None,
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Class names in the order of the channels or ids, or a file of lines (default: those of --data)",
    )
    claim: ClaimSettings = ClaimSettings()
    form: FormSettings = FormSettings()

    def __post_init__(self) -> None:
        if self.data is None and self.classes is None:
            raise UsageError("without --data the classes are unknown: give --classes")
