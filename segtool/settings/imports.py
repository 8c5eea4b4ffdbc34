"""Settings of `segtool import folders`, `import coco` and `import preds`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.options import option


@dataclass(frozen=True)
class ImportFoldersSettings:
    """Make a data set from folders of images and index masks, matched by file name without suffix."""

    output: OutputSettings
    images: Path = option(help="Folder of training images")
    masks: Path = option(help="Folder of their masks: grey or palette, 8 or 16 bit, or 0/255 for two classes")
    classes: str = option(
        metavar="a,b,c|FILE", file_or_word=True, help="Class names in the order of their ids; or a file, one per line"
    )
    test_images: Path | None = option(None, help="Folder of test images")
    valid_images: Path | None = option(
        None, needs=("valid_masks",), help="Images of an official validation set: fold 0 of folds.csv"
    )
    valid_masks: Path | None = option(None, needs=("valid_images",), help="Their masks")
    ignore_index: int | None = option(
        None, min=0, max=65535, help="Value in the given masks for pixels to ignore; 255 is one without being said"
    )
    group_regex: str | None = option(
        None,
        help="Searched in an image's path below its folder, without suffix; the first capture is its group"
        " (patient, scene, video)",
    )


@dataclass(frozen=True)
class ImportCocoSettings:
    """Make a data set from a COCO annotation file: polygons and run-length masks become index masks."""

    output: OutputSettings
    annotations: Path = option(argument=True, help="COCO JSON with images, annotations and categories")
    images: Path = option(help="Folder the file names in the JSON start from")
    test: Path | None = option(None, help="COCO JSON that lists the test images")
    paint: Literal["area", "file", "category"] = option(
        "area",
        help="Who is below where annotations overlap: the larger (by painted area), the earlier in the file,"
        " or the smaller category id",
    )


@dataclass(frozen=True)
class ClaimSettings:
    """Which images were predicted, and by models that have seen which of them."""

    panel: ClassVar[str] = "Images"

    subset: Literal["test", "valid", "train", "oof"] = option("test", help="Which images of the data set they are")
    oof: bool = option(
        False,
        flags="--oof",
        help="You say that no model saw an image it predicted here; noted as your claim. Without it (or --folds) none"
        " counts as out-of-fold",
    )
    folds: Path | None = option(
        None,
        needs=("fold", "data"),
        help="You say that the model was trained without fold --fold of this folds.csv; noted as your claim",
    )
    fold: int | None = option(None, min=0, needs=("folds",), help="The fold of --folds that the model has not seen")
    partial: bool = option(
        False, flags="--partial", needs=("data",), help="Take the images that have a file, where others have none"
    )

    def __post_init__(self) -> None:
        if self.oof and (self.folds or self.subset == "train"):
            other, remedy = ("--folds", "") if self.folds else ("--subset train", "; take --subset oof")
            raise UsageError(f"--oof and {other} say different things about which images the models have seen{remedy}")
        if self.folds and self.subset in ("test", "oof"):
            raise UsageError(f"--folds has no effect with --subset {self.subset}: use --subset valid or train")
        if self.subset == "oof" and not self.oof:
            raise UsageError("--subset oof: say with --oof that no model saw an image it predicted here")


@dataclass(frozen=True)
class FormSettings:
    """What the files hold."""

    panel: ClassVar[str] = "Files"

    layout: Literal["chw", "hwc"] | None = option(
        None, help="Order of the axes: classes first or last; found by the number of classes where that is clear"
    )
    key: str | None = option(None, help="Name of the array in .npz files that hold several")
    logits: bool = option(
        False, flags="--logits", help="The files hold logits: softmax, or the sigmoid of the foreground alone"
    )
    resize: bool = option(
        False,
        flags="--resize",
        needs=("data",),
        help="Resize what has another size than its image: probabilities bilinear, masks by nearest neighbour",
    )


@dataclass(frozen=True)
class ImportPredsSettings:
    """Make a prediction folder from another code base's predictions, named after the images.

    They are probabilities in .npy or .npz files (integers are divided by the largest of their type), or, where DIR
    holds neither, index PNGs: each pixel votes for its class.
    """

    output: OutputSettings
    dir: Path = option(
        argument=True, help="Folder of .npy or .npz files, or of index PNGs; subfolders are part of the image_id"
    )
    data: Path | None = option(None, help="The data set that was predicted: ids, sizes and classes must be its own")
    classes: str | None = option(
        None,
        metavar="a,b,c|FILE",
        file_or_word=True,
        help="Class names in the order of the files' channels or ids; or a file, one per line. With --data needed only"
        " where that order is another than the data set's, and brought into it",
    )
    claim: ClaimSettings = ClaimSettings()
    form: FormSettings = FormSettings()

    def __post_init__(self) -> None:
        if self.data is None and self.classes is None:
            raise UsageError("without --data nothing says what the classes are: give --classes")
