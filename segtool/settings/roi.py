"""Settings of `segtool roi crop` and `segtool roi paste`."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from segtool.errors import UsageError
from segtool.settings.common import DeviceSettings, OutputSettings
from segtool.settings.model import ModelSettings
from segtool.settings.options import option
from segtool.values import parse_names


@dataclass(frozen=True)
class DetectorSettings:
    """How the detector of --detector is trained."""

    panel: ClassVar[str] = "Detector"
    needs: ClassVar[tuple[str, ...]] = ("detector",)

    encoder: str = option("efficientnet-b0", help="Encoder, as in `segtool train`, but no plain vision transformer")
    encoder_weights: str = option(
        "imagenet",
        metavar="imagenet|none|FILE",
        file_or_word=True,
        help="Pretrained encoder weights; FILE (.safetensors or .pth) needs no network access",
    )
    epochs: int = option(10, min=1, max=100_000, help="Passes over the training images")
    batch: int = option(4, min=1, max=65_536, help="Images per update")
    lr: float = option(5e-4, min=0, help="Peak learning rate (AdamW, short warm-up, cosine to zero)")
    seed: int = option(0, min=0, help="Random seed of weights, order, flips and sampled boxes")

    @property
    def model(self) -> ModelSettings:
        """Return the encoder as the settings of a segmentation network."""
        return ModelSettings(encoder=self.encoder, encoder_weights=self.encoder_weights)


@dataclass(frozen=True)
class DetectorDeviceSettings(DeviceSettings):
    """The machine that trains the detector."""

    needs: ClassVar[tuple[str, ...]] = ("detector",)


@dataclass(frozen=True)
class RoiCropSettings:
    """Crop objects into a data set: components of masks or of a coarse prediction, or boxes of a detector."""

    example: ClassVar[str] = "segtool roi crop data --masks -o crops"

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path | None = option(None, help="Prediction folder: crop each connected component")
    masks: bool = option(False, flags="--masks", help="Crop each connected component of the training masks")
    boxes: Path | None = option(None, help="COCO results of any detector: crop each box")
    detector: bool = option(
        False,
        flags="--detector",
        help="Train a Faster R-CNN on the components of the training masks and crop each box it finds",
    )
    annotations: Path | None = option(
        None,
        needs=("boxes",),
        help="COCO file that defines the ids in --boxes (default: image_ids and class ids of the data set)",
    )
    subset: Literal["test", "train"] = option(
        "test", needs=("boxes or detector",), help="Images that --boxes belong to or --detector searches"
    )
    margin: float = option(
        0.2, min=0, help="Margin on each side, as a share of the box's width and height, clipped at the image border"
    )
    classes: tuple[str, ...] | None = option(
        None, parse=parse_names, metavar="a,b", help="Classes that are objects (default: all but the background)"
    )
    min_area: int = option(64, min=1, excludes=("boxes",), help="Leave out components with fewer pixels")
    min_score: float | None = option(
        None,
        min=0,
        max=1,
        excludes=("masks",),
        help="Leave out boxes with a lower score, or components with a lower mean probability",
    )
    oof: bool = option(
        False,
        flags="--oof",
        needs=("boxes",),
        help="Assert that the detector of --boxes never saw these images (recorded as an unverified claim)",
    )
    training: DetectorSettings = DetectorSettings()
    machine: DetectorDeviceSettings = DetectorDeviceSettings()

    def __post_init__(self) -> None:
        sources = {
            "--preds": self.preds,
            "--masks": self.masks,
            "--boxes": self.boxes,
            "--detector": self.detector,
        }
        given = [name for name, value in sources.items() if value]
        if len(given) != 1:
            raise UsageError(f"give exactly one of --preds, --masks, --boxes and --detector, not {len(given)}")


@dataclass(frozen=True)
class RoiPasteSettings:
    """Paste the predictions of crops back into the full images, averaging probabilities where crops overlap."""

    example: ClassVar[str] = "segtool roi paste preds/crops --crops crops -o preds/pasted"

    output: OutputSettings
    preds: Path = option(argument=True, help="Prediction folder of the crops, with probabilities")
    crops: Path = option(help="Folder of `segtool roi crop` that was predicted")
    base: Path | None = option(
        None, help="Prediction folder of the full images, used outside of the crops (default: background)"
    )
