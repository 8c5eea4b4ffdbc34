"""The transforms of augmentation presets, and pipelines from files; with `augmentation` and `crops` the only modules
that import albumentations."""

import copy
import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np

from segtool.core.dataloading.pipeline_file import existing_pipeline
from segtool.core.documents import read_yaml
from segtool.core.images import IGNORE, MASK_INTERPOLATION, Pixels
from segtool.errors import SegtoolError

# Otherwise the library looks up its latest version in a package index when it is imported.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A

Steps = list[A.BasicTransform]

# Transforms that resize by cv2.resize; those that warp use the nearest centre already.
RESIZING = (
    A.CropAndPad,
    A.LongestMaxSize,
    A.RandomResizedCrop,
    A.RandomScale,
    A.RandomSizedCrop,
    A.Resize,
    A.SmallestMaxSize,
)


# Transforms that take an image's three channels for red, green and blue.
FOR_COLOURS = {
    *("CLAHE", "ChromaticAberration", "ColorJitter", "FancyPCA", "HEStain", "HueSaturationValue", "ISONoise"),
    *("ImageCompression", "PlanckianJitter", "RGBShift", "RandomFog", "RandomGravel", "RandomRain", "RandomSnow"),
    *("RandomSunFlare", "Spatter", "ToGray", "ToRGB", "ToSepia"),
}


def geometry(preset: str, outside: dict[str, Any]) -> Steps:
    """Return a preset's geometric transforms, before the crop; `outside` says how to fill beyond the border."""
    if preset == "medium":
        return [A.Affine(rotate=(-10, 10), p=0.5, **outside)]
    if preset == "heavy":
        shear = {"x": (-8, 8), "y": (-8, 8)}
        bend = [A.Perspective(scale=(0.03, 0.08), p=1, **outside), A.GridDistortion(distort_limit=0.2, p=1, **outside)]
        return [A.Affine(rotate=(-20, 20), shear=shear, p=0.7, **outside), A.OneOf(bend, p=0.3)]
    return []


def colours(preset: str, channels: int, dtype: type[np.generic] = np.uint8) -> Steps:
    """Return a preset's colour transforms, after the crop, without those that such images cannot have."""
    if preset not in ("medium", "heavy"):
        return []
    heavy = preset == "heavy"
    hue, share = ((15, 40, 20), 0.7) if heavy else ((8, 20, 10), 0.5)
    # Float images are bands of sensors, whose first three are no red, green and blue.
    picture = dtype == np.uint8 and channels in (1, 3)
    colour = picture and channels == 3
    steps: Steps = [A.HueSaturationValue(*hue, p=share)] if colour else []
    tones: Steps = [A.RandomGamma(gamma_limit=(70, 140) if heavy else (80, 125), p=1)]
    if heavy and picture:
        tones.append(A.CLAHE(clip_limit=(1, 3), p=1))
    blurs = [A.GaussianBlur(sigma_limit=(0.3, 1.5 if heavy else 1.0), p=1)]
    noises: Steps = [A.GaussNoise(std_range=(0.01, 0.06 if heavy else 0.03), p=1)]
    if heavy:
        # Symmetric about the pixel: the library's defaults shift the image, but not the mask, by up to 2 pixels.
        blurs.append(A.MotionBlur(blur_limit=(3, 7), allow_shifted=False, direction_range=(0, 0), p=1))
        if picture:
            noises.append(A.ImageCompression(quality_range=(40, 90), p=1))
    # p=1 for each transform above: probabilities within a OneOf are relative.
    return [*steps, A.OneOf(tones, p=0.3), A.OneOf([*blurs, *noises], p=0.4 if heavy else 0.3)]


def skipped(preset: str, channels: int, dtype: type[np.generic]) -> str:
    """Return the names of a preset's transforms that such images do not get."""

    def names(steps: Steps) -> list[str]:
        return [type(step).__name__ for step in leaves(A.Compose(steps))]

    used = names(colours(preset, channels, dtype))
    return ", ".join(name for name in names(colours(preset, 3)) if name not in used)


def check_transforms(step: A.BasicTransform, path: Path, channels: int, dtype: type[np.generic]) -> None:
    """Try each transform of a pipeline by itself on a small image that is not of 8 bits and three channels.

    Raises:
        SegtoolError: a transform is for colours, or fails, or makes another kind of image.
    """
    image = np.random.default_rng(0).random((64, 64, channels))
    image = (255 * image).astype(np.uint8) if dtype == np.uint8 else image.astype(np.float32)
    for transform in leaves(A.Compose([step])):
        if reason := _why_not(transform, image):
            raise SegtoolError(
                f"--augment {path}: {type(transform).__name__} is not for images of {channels} channels of"
                f" {np.dtype(dtype)} ({reason}): remove it"
            )


def _why_not(transform: A.BasicTransform, image: Pixels) -> str:
    """Return why a transform cannot change such images; an empty string if it can."""
    if type(transform).__name__ in FOR_COLOURS:
        return "it changes red, green and blue"
    alone = copy.deepcopy(transform)
    alone.p = 1.0
    try:
        made = A.Compose([alone])(image=image.copy(), mask=np.zeros(image.shape[:2], np.uint8))["image"]
    # The library and OpenCV raise many kinds.
    except Exception as error:
        return " ".join(str(error).split())[:120]
    same = made.dtype == image.dtype and made.size % image.shape[2] == 0
    return "" if same else f"it makes {made.dtype} of them"


class FillMissing(A.ImageOnlyTransform):
    """Replace NaN, with which geometric transforms fill what is outside of an image, by each channel's own value."""

    def __init__(self, fill: Sequence[float]) -> None:
        super().__init__(p=1)
        self.fill = np.array(fill, np.float32)

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        """Fill an image, float32 (H, W, C)."""
        return np.where(np.isnan(img), self.fill, img)


def load_pipeline(path: Path) -> A.BaseCompose:
    """Load a pipeline that `A.to_dict` wrote as JSON or YAML.

    Mask pixels outside the image become 255 instead of the library's default 0. A 0 that is not a default stays, such
    as that of holes (which keep their labels by default). Masks are resized as everywhere in segtool.

    Raises:
        SegtoolError: the file is not a pipeline, or has an unknown transform or a wrong argument.
    """
    # JSON is YAML too.
    content: dict[str, Any] = read_yaml(existing_pipeline(path), PipelineFile)
    try:
        with warnings.catch_warnings():
            # For unknown arguments the library only warns, and uses the default.
            warnings.simplefilter("error", UserWarning)
            pipeline = A.from_dict(content)
    except KeyError as error:
        raise SegtoolError(f"{path}: albumentations {A.__version__} has no {error} to build the pipeline") from error
    except (TypeError, ValueError, AttributeError, UserWarning) as error:
        raise SegtoolError(
            f"{path} is not a pipeline that albumentations {A.__version__} can build: {error}"
        ) from error
    if not isinstance(pipeline, A.BaseCompose):
        pipeline = A.Compose([pipeline])
    for transform in leaves(pipeline):
        # `A.to_dict` writes every argument: a 0 that is the default need not be the user's choice.
        default = inspect.signature(type(transform)).parameters.get("fill_mask")
        if default and default.default == getattr(transform, "fill_mask", None) == 0:
            transform.fill_mask = IGNORE
        if isinstance(transform, RESIZING) and transform.mask_interpolation == cv2.INTER_NEAREST:
            transform.mask_interpolation = MASK_INTERPOLATION
    return pipeline


def leaves(pipeline: A.BaseCompose) -> Iterator[A.BasicTransform]:
    """Yield all transforms of a pipeline, including those of nested pipelines."""
    for transform in pipeline.transforms:
        if isinstance(transform, A.BaseCompose):
            yield from leaves(transform)
        else:
            yield transform


class PipelineFile(TypedDict):
    """The content that albumentations' A.to_dict writes."""

    transform: dict[str, Any]
