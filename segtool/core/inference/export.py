"""Export networks as one file for serving, which is kept only if it predicts what `Predictor` does."""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segtool.core.files import atomic
from segtool.core.images import Pixels
from segtool.core.inference.backends import TOLERANCE
from segtool.core.inference.onnx_files import open_onnx, write_onnx
from segtool.core.inference.predictor import Member, Predictor
from segtool.core.inference.serving import INPUTS, ServedModel
from segtool.core.models.build import NetworkSpec
from segtool.core.predictions.probability_maps import Probs
from segtool.errors import SegtoolError
from segtool.settings.inference import ViewSettings
from segtool.settings.options import plain

log = logging.getLogger(__name__)

# Number, height and width of the images on which networks are traced, and of those on which a file is then compared.
TRACED = (2, 135, 170)
CHECKED = ((1, 128, 160), (2, 131, 193), (3, 257, 140))
# Where images are resized, OpenCV rounds some pixels of whole numbers to the grey level beside ours. Measured, that
# changes at most 0.06 of what a shift of the image by one pixel does, and another interpolation more than 0.12.
RESIZED_TOLERANCE, RESIZED_SHARE = 0.1, 0.1
# Where they are not, the share that rounding of float32 may change, so that a network whose predictions hardly vary is
# compared as strictly; and a mean difference that is rounding whatever a shift changes.
SHARE, ROUNDING = 0.01, 1e-6

# Runs the exported file on pixels (N, H, W, channels): probabilities (N, C, H, W) and mask.
Served = Callable[[Pixels], tuple[Probs, npt.NDArray[Any]]]


def export_networks(
    path: Path, members: Sequence[Member], transforms: Sequence[str], about: Mapping[str, str], opset: int
) -> float:
    """Write the average of networks over views as `path`, ONNX or torch.export by its suffix.

    Input `image` (N, H, W, channels); outputs `probs` and `mask`, see `ServedModel`. Return the largest difference in
    probability from PyTorch's own prediction.

    Args:
        members: networks of the same classes and images, on the CPU; they are computed in float32.
        about: texts that are stored with the file.

    Raises:
        SegtoolError: the networks cannot be exported, or the file predicts something else. No file is written.
    """
    members = [replace(member, spec=replace(member.spec, precision="fp32")) for member in members]
    write = _onnx if path.suffix.lower() == ".onnx" else _pt2
    spec = members[0].spec
    try:
        served = ServedModel(members, transforms).eval()
        log.info("tracing %d network(s)", len(members))
        content, run = write(served, torch.from_numpy(make_images(spec, *TRACED, seed=0)), about, opset)
        difference = _compare(run, Predictor(members, "cpu", ViewSettings(tta=tuple(transforms) or None)), members)
    except SegtoolError:
        raise
    # Tracing, and whatever runs the file, have errors of many kinds.
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        names = ", ".join(dict.fromkeys(f"--arch {m.spec.arch} --encoder {m.spec.encoder}" for m in members))
        raise SegtoolError(f"{names} cannot be exported as {path.suffix}: {reason}") from error
    with atomic(path, "wb") as file:
        file.write(content)
    return difference


def describe(
    members: Sequence[Member],
    facts: Sequence[Mapping[str, str]],
    palette: Sequence[Sequence[int]],
    settings: Mapping[str, Any],
    version: str,
) -> dict[str, str]:
    """Return what is stored with an exported file: texts, JSON where they are more than a word.

    Args:
        facts: run, checkpoint and digest of each network.
        palette: the colour of each class.
        settings: of the export.
    """
    spec = members[0].spec
    common = ("classes", "labels", "channels", "dtype")
    listed = [
        {**fact, **{key: plain(value) for key, value in vars(member.spec).items() if key not in common}}
        for fact, member in zip(facts, members, strict=True)
    ]
    return {
        "segtool_version": version,
        "classes": json.dumps(spec.classes, ensure_ascii=False),
        "labels": spec.labels,
        "palette": json.dumps([list(map(int, colour)) for colour in palette]),
        "layout": "NHWC",
        "channels": str(spec.channels),
        "dtype": spec.dtype,
        "input_dtype": str(INPUTS[spec.dtype]).removeprefix("torch."),
        "networks": json.dumps(listed, ensure_ascii=False),
        "settings": json.dumps(settings, ensure_ascii=False),
    }


def make_images(spec: NetworkSpec, count: int, height: int, width: int, seed: int) -> Pixels:
    """Return images (count, height, width, channels) of soft shapes and noise, in the form that a file takes."""
    random = np.random.default_rng(seed)
    images = np.empty((count, height, width, spec.channels), np.float32)
    for image in images:
        coarse = random.random((height // 16 + 1, width // 16 + 1, spec.channels), np.float32)
        # Channel by channel: OpenCV resizes few at once.
        for channel in range(spec.channels):
            image[:, :, channel] = cv2.resize(coarse[:, :, channel], (width, height), interpolation=cv2.INTER_CUBIC)
    images = (0.9 * images + 0.1 * random.random(images.shape, np.float32)).clip(0, 1)
    if spec.dtype == "uint8":
        return (images * 255).round().astype(np.uint8)
    low, high = (np.array(ends, np.float32) for ends in (spec.low or (0,), spec.high or (1,)))
    values = low + images * (high - low)
    if spec.dtype == "uint16":
        values = values.round().clip(0, 65535)
    if spec.dtype == "float32" or spec.nodata is not None:
        # In the first image alone: whole numbers are then read as others.
        values[0, 1:3, 2:5] = np.nan if spec.nodata is None else spec.nodata
    return values.astype(np.float32)


def _compare(run: Served, predictor: Predictor, members: Sequence[Member]) -> float:
    """Compare a file with the predictor on images of several sizes, and return the largest difference.

    Raises:
        SegtoolError: probabilities or masks differ by more than rounding.
    """
    spec = members[0].spec
    resized = any(member.spec.resize for member in members)

    def predict(images: Pixels) -> Probs:
        return np.stack(predictor([_as_read(image, spec) for image in images]))

    largest = 0.0
    for count, height, width in CHECKED:
        images = make_images(spec, count, height, width, seed=height)
        theirs = predict(images)
        ours, mask = run(images)
        where = f"images of {count}x{height}x{width}"
        if ours.shape != theirs.shape or mask.shape != (ours.shape if spec.multi else ours[:, 0].shape):
            raise SegtoolError(f"the exported file returns {ours.shape} and {mask.shape} for {where}")
        difference = np.abs(ours - theirs)
        top, mean = float(difference.max()), float(difference.mean())
        shifted = float(np.abs(theirs - predict(np.roll(images, 1, axis=2))).mean())
        limit, share = (RESIZED_TOLERANCE, RESIZED_SHARE) if resized else (TOLERANCE, SHARE)
        # Not `>`: NaN is wrong, too.
        agrees = top <= limit and mean <= max(share * shifted, ROUNDING)
        if not agrees:
            raise SegtoolError(
                f"the exported file predicts probabilities for {where} that differ from PyTorch's by up to {top:.2g},"
                f" on average {mean:.2g}, more than rounding; no file is written"
            )
        _check_mask(mask, ours, where, multi=spec.multi)
        largest = max(largest, top)
    return largest


def _as_read(image: Pixels, spec: NetworkSpec) -> Pixels:
    """Return pixels as a data set reads them: of its type, or float32 with NaN for missing ones."""
    missing = np.isnan(image) if spec.nodata is None else image == spec.nodata
    if not missing.any():
        return image.astype(spec.dtype)
    return np.where(missing, np.float32(np.nan), image.astype(np.float32))


def _check_mask(mask: npt.NDArray[Any], probs: Probs, where: str, *, multi: bool) -> None:
    chosen = probs >= 0.5 if multi else probs.argmax(1)
    # At a tie rounding decides.
    top = np.sort(probs, axis=1)[:, ::-1]
    close = np.abs(probs - 0.5) <= TOLERANCE if multi else top[:, 0] - top[:, 1] <= TOLERANCE
    if (differs := (mask != chosen) & ~close).any():
        raise SegtoolError(
            f"the exported file returns masks for {where} that differ from its probabilities"
            f" at {np.count_nonzero(differs)} pixels; no file is written"
        )


def _onnx(served: ServedModel, example: torch.Tensor, about: Mapping[str, str], opset: int) -> tuple[bytes, Served]:
    import onnx

    places = {0: "batch", 1: "height", 2: "width"}
    planes = {0: "batch", 2: "height", 3: "width"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        outputs = {"probs": planes, "mask": planes if served.multi else places}
        write_onnx(path, served, example, {"image": places}, outputs, opset)
        model = onnx.load(path)
    model.producer_name, model.doc_string = "segtool", "Pixels of images → class probabilities and mask"
    model.producer_version = about["segtool_version"]
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = open_onnx(content)

    def run(images: Pixels) -> tuple[Probs, npt.NDArray[Any]]:
        probs, mask = session.run(["probs", "mask"], {"image": images})
        return probs, mask

    return content, run


def _pt2(served: ServedModel, example: torch.Tensor, about: Mapping[str, str], opset: int) -> tuple[bytes, Served]:
    anything = torch.export.Dim.DYNAMIC
    axes = {0: anything, 1: anything, 2: anything}
    with torch.no_grad():
        program = torch.export.export(served, (example,), dynamic_shapes=(axes,), strict=False)
    buffer = BytesIO()
    torch.export.save(program, buffer, extra_files=dict(about))
    content = buffer.getvalue()
    module = torch.export.load(BytesIO(content)).module()

    def run(images: Pixels) -> tuple[Probs, npt.NDArray[Any]]:
        with torch.no_grad():
            probs, mask = module(torch.from_numpy(images))
        return probs.numpy(), mask.numpy()

    return content, run
