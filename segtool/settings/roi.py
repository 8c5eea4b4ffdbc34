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

    encoder: str = option(
        "efficientnet-b0", help="Encoder, as of `segtool train`; plain vision transformers have no feature pyramid"
    )
    encoder_weights: str = option(
        "imagenet", metavar="imagenet|none|FILE", file_or_word=True, help="FILE: safetensors or pth, needs no network"
    )
    epochs: int = option(10, min=1, max=100_000, help="Passes over the training images")
    batch: int = option(4, min=1, max=65_536, help="Images per update")
    lr: float = option(5e-4, min=0, help="Highest learning rate; AdamW, a short warm-up, then a cosine to zero")
    seed: int = option(0, min=0, help="Weights, order, flips and the boxes that are drawn to learn from")

    @property
    def model(self) -> ModelSettings:
        """The encoder, as a segmentation network's settings say it."""
        return ModelSettings(encoder=self.encoder, encoder_weights=self.encoder_weights)


@dataclass(frozen=True)
class DetectorDeviceSettings(DeviceSettings):
    """The machine that trains the detector."""

    needs: ClassVar[tuple[str, ...]] = ("detector",)


@dataclass(frozen=True)
class RoiCropSettings:
    """Cut out objects: a data set of crops around the components of masks or of a coarse prediction, or around boxes
    that a detector finds.
    """

    output: OutputSettings
    data: Path = option(argument=True, help="dataset.yaml or its folder")
    preds: Path | None = option(None, help="Prediction folder of its images: a crop for each connected component")
    masks: bool = option(
        False, flags="--masks", help="A crop for each connected component in the masks of the training images"
    )
    boxes: Path | None = option(
        None, help="COCO results of any detector (image_id, category_id, bbox, score): a crop for each box"
    )
    detector: bool = option(
        False,
        flags="--detector",
        help="Train a Faster R-CNN on the components in the masks of the training images: a crop for each box it finds",
    )
    annotations: Path | None = option(
        None,
        needs=("boxes",),
        help="COCO file whose images and categories the ids in --boxes are; without it image_id must be that of the"
        " data set, and category_id a class id",
    )
    subset: Literal["test", "train"] = option(
        "test", needs=("boxes or detector",), help="Which images --boxes are of, or --detector looks at"
    )
    margin: float = option(
        0.2, min=0, help="Added on each side of a box, as a share of its width and height; clipped at the border"
    )
    classes: tuple[str, ...] | None = option(
        None, parse=parse_names, metavar="a,b", help="Classes that are objects; all but the background if not given"
    )
    min_area: int = option(64, min=1, excludes=("boxes",), help="Leave out components of fewer pixels")
    min_score: float | None = option(
        None,
        min=0,
        max=1,
        excludes=("masks",),
        help="Leave out boxes below this score (--detector has none below 0.05); of a component, its mean probability",
    )
    oof: bool = option(
        False,
        flags="--oof",
        needs=("boxes",),
        help="You say that the detector of --boxes was not trained on these images; noted as your claim",
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
            raise UsageError(
                f"one of --preds, --masks, --boxes and --detector says where the objects are, not {len(given)}"
            )


@dataclass(frozen=True)
class RoiPasteSettings:
    """Lay the predictions of crops back into the full images; where crops overlap, their probabilities are averaged."""

    output: OutputSettings
    preds: Path = option(argument=True, help="Prediction folder of the crops, with probabilities")
    crops: Path = option(help="Folder of `segtool roi crop` whose images were predicted")
    base: Path | None = option(
        None, help="Prediction folder of the full images that shows outside of all crops; else background"
    )
