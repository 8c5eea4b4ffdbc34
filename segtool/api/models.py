"""`segtool.load`: trained runs that predict images as arrays, as `segtool predict` does."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from segtool.api.datasets import Image
from segtool.core.bands import WindowedImage, declared_pixels, open_bands, read_bands
from segtool.core.dataset.dataset import Dataset
from segtool.core.images import Pixels
from segtool.core.inference.photos import check_channels, kind_of_run
from segtool.core.inference.runs import members_of, open_runs
from segtool.core.inference.stream import read_ahead
from segtool.core.planes import Planes
from segtool.errors import UsageError
from segtool.settings.common import DeviceSettings
from segtool.settings.inference import InferenceSettings
from segtool.settings.options import from_values
from segtool.values import Size

if TYPE_CHECKING:
    from segtool.core.inference.predictor import Member, Predictor

# An image: its file, its pixels, or an image of `read_dataset`.
Source = str | PathLike[str] | npt.NDArray[Any] | Image
# Height and width: `(256, 320)`, `256` for both, or as typed, `"256x320"`.
Sides = int | str | tuple[int, int]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of one image; unpacks to `image_id, probs, mask`.

    Attributes:
        image_id: the name of the image: of a file its stem, of an image of `read_dataset` its id, of pixels empty.
        probs: probabilities, float32 (C, H, W) in [0, 1] at the image's own size; of `labels: single` they add up to
            one at each pixel.
        mask: class ids, uint8 (H, W): the most probable class, the lowest of equals. Where classes may overlap, bool
            (C, H, W): the probabilities from 0.5 on.
        classes: the names of the classes, in the order of their ids.
        labels: `single` (each pixel has one class) or `multi` (classes may overlap).
        image_probs: the probability of each class being in the image, float32 (C,), of a run with an auxiliary head.
    """

    image_id: str
    probs: npt.NDArray[np.float32]
    mask: npt.NDArray[Any]
    classes: tuple[str, ...]
    labels: Literal["single", "multi"]
    image_probs: npt.NDArray[np.float32] | None = None

    def __iter__(self) -> Iterator[Any]:
        yield from (self.image_id, self.probs, self.mask)

    def __repr__(self) -> str:
        return f"Prediction({self.image_id!r}, {Size(*self.probs.shape[1:])}, {len(self.classes)} classes)"


class Model:
    """One network or the average of several; `segtool.load` makes it. For one thread at a time.

    Attributes:
        classes: the names of the classes, in the order of their ids.
        labels: `single` (each pixel has one class) or `multi` (classes may overlap).
        channels, dtype: of the images it takes.
        palette: the (red, green, blue) of each class, if the training data gave them.
        device: `cpu` or `cuda`.
        members: run, checkpoint and digest of each network.
    """

    def __init__(
        self, kind: Dataset, members: "Sequence[Member]", device: str, facts: Sequence[dict[str, str]]
    ) -> None:
        self.classes = kind.classes
        self.labels: Literal["single", "multi"] = kind.labels
        self.channels, self.dtype = kind.channels, kind.dtype
        self.palette = kind.palette
        self.device = device
        self.members = tuple(facts)
        self._kind, self._networks = kind, tuple(members)
        self._predictors: dict[InferenceSettings, Predictor] = {}

    def predict(
        self,
        image: Source,
        *,
        tta: str | Sequence[str] | None = None,
        merge: Literal["mean", "gmean", "sum", "max", "min", "tsharpen"] = "mean",
        tta_weights: Sequence[float] | None = None,
        resize: Sides | float | None = None,
        window: Sides | None = None,
        stride: Sides | None = None,
        batch: int | None = None,
    ) -> Prediction:
        """Predict one image, as `segtool predict` does with the options of these names.

        Args:
            image: an image file; its pixels; or an image of `read_dataset`. Pixels are as in a file: (H, W, channels),
                or (H, W) of one channel, of the model's dtype. For a model of 8-bit pictures they are bool, uint8 or
                uint16, grey, colours (red, green, blue) or with transparency, and are converted as files are: grey to
                colours, 16 bits to 8, transparency dropped.
            tta: views of the image, merged: `"flip"`, `"d4"`, `"multiscale"`, `"hflip,scale:0.75/1.25"`, ...
            merge: how the probabilities of the views are merged.
            tta_weights: the weight of each view.
            resize: the size at which the network sees the image, if not the run's own: `512`, `(256, 320)`, `0.5`,
                `"long:1024"`.
            window: predict in blended windows of this size: `512`, `(256, 320)`.
            stride: the largest step between windows; half a window if not given.
            batch: images or windows per forward pass; chosen by device and size if not given.

        Returns:
            Probabilities and mask, at the image's own size.

        Raises:
            UsageError: an option is wrong, or `image` is none of these.
            SegtoolError: the file is missing or truncated, or the image is of other channels or depth than the model
                takes.

        Example:
            >>> model = segtool.load("run")
            >>> prediction = model.predict("demo/images/scene000/frame0.png", tta="flip")
            >>> prediction.probs.shape[1:] == prediction.mask.shape, len(prediction.probs) == len(model.classes)
            (True, True)
        """
        options: dict[str, Any] = {"tta": tta, "merge": merge, "tta_weights": tta_weights}
        options |= {"resize": resize, "window": window, "stride": stride, "batch": batch}
        return next(self._predict([image], 0, options))

    def predict_many(
        self,
        images: Iterable[Source],
        *,
        workers: int = 1,
        tta: str | Sequence[str] | None = None,
        merge: Literal["mean", "gmean", "sum", "max", "min", "tsharpen"] = "mean",
        tta_weights: Sequence[float] | None = None,
        resize: Sides | float | None = None,
        window: Sides | None = None,
        stride: Sides | None = None,
        batch: int | None = None,
    ) -> Iterator[Prediction]:
        """Predict images one after the other, in their order; the next are read while the network works.

        Images of one size that follow each other share batches, so this is faster than `predict` for each.

        Args:
            images: any iterable; see `predict` for each image. It may be endless: it is read as predictions are taken.
            workers: threads that read ahead; 0: none.

        Other arguments, results and errors are those of `predict`; an error ends the iterator.

        Example:
            >>> model = segtool.load("run")
            >>> for prediction in model.predict_many(segtool.read_dataset("demo")):
            ...     assert prediction.mask.max() < len(model.classes)
        """
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise UsageError(f"workers is {workers!r}; it is a whole number from 0")
        options: dict[str, Any] = {"tta": tta, "merge": merge, "tta_weights": tta_weights}
        options |= {"resize": resize, "window": window, "stride": stride, "batch": batch}
        return self._predict(images, workers, options)

    def _predict(self, images: Iterable[Source], workers: int, options: dict[str, Any]) -> Iterator[Prediction]:
        settings: InferenceSettings = from_values(InferenceSettings, options)
        return self._stream(self._predictor(settings), images, workers, settings)

    def _stream(
        self, predictor: "Predictor", images: Iterable[Source], workers: int, settings: InferenceSettings
    ) -> Iterator[Prediction]:
        # A resize needs the whole image.
        in_windows = bool(settings.windows.window and not settings.windows.resize)
        reading = read_ahead(lambda image: self._read(image, in_windows), images, workers)
        for group in predictor.group_in_order(reading, lambda pair: Size(*pair[1].shape[:2])):
            for (image, _), whole in zip(group, predictor.predict([pixels for _, pixels in group]), strict=True):
                mask = self._mask(whole.probs)
                yield Prediction(_name(image), whole.probs, mask, self.classes, self.labels, whole.image_probs)

    def _read(self, image: Source, in_windows: bool) -> Pixels | WindowedImage:
        kind = self._kind
        if isinstance(image, np.ndarray):
            return declared_pixels(image, kind.channels, kind.dtype, kind.nodata, "the image")
        if not isinstance(image, str | PathLike | Image):
            raise UsageError(
                f"an image is a path, a NumPy array or an image of read_dataset, not {type(image).__name__}"
            )
        files = image.files if isinstance(image, Image) else (Path(image),)
        check_channels(kind, files, "the model")
        return (open_bands if in_windows else read_bands)(files, kind.channels, kind.dtype, kind.nodata)

    def _mask(self, probs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        # Here, as it loads pandas.
        from segtool.core.predictions.mask_files import mask_files

        growing = mask_files(self._kind.planes).grow(None, len(probs), Size(*probs.shape[1:]))
        growing.add_probs(0, probs)
        mask = growing.finish()
        return mask.expand().view(np.bool_) if isinstance(mask, Planes) else mask

    def _predictor(self, settings: InferenceSettings) -> "Predictor":
        if settings not in self._predictors:
            from segtool.core.inference.predictor import Predictor

            made = Predictor(self._networks, self.device, settings.views, settings.windows, settings.batch)
            for other in self._predictors.values():
                # The same networks: fold their norms, and hold the folded copies, once.
                made.folded = other.folded
            self._predictors[settings] = made
        return self._predictors[settings]

    def __repr__(self) -> str:
        return f"Model({len(self.members)} network(s), {len(self.classes)} classes, {self.device})"


def _name(image: Source) -> str:
    if isinstance(image, Image):
        return image.image_id
    return "" if isinstance(image, np.ndarray) else Path(image).stem


def load(
    runs: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    checkpoint: str = "best",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 0,
    backend: Literal["torch", "onnx", "openvino"] = "torch",
    compile: bool = False,
) -> Model:
    """Load a trained run, or several whose probabilities are averaged. Nothing is downloaded.

    Args:
        runs: a run folder, a file of `segtool bundle`, or a list of them.
        checkpoint: the weights of each run: `best`, `last`, `ema`, `swa`, `epoch:28`, or `last:5` for the average of
            the predictions of five epochs.
        device: `auto` uses a GPU if there is one.
        threads: PyTorch's CPU threads, of this whole process; 0 leaves them as they are.
        backend: the inference engine on a CPU; `onnx` and `openvino` are optional dependencies.
        compile: compile the networks with torch.compile: a minute or two for each input size, then faster.

    Raises:
        SegtoolError: a run is missing, unfinished without weights, or broken; or runs have different classes, labels
            or images.
        UsageError: an option is wrong, a run has not kept these weights, or a package of a backend is missing.

    Example:
        >>> model = segtool.load("run", device="cpu")
        >>> model.labels, model.channels, model.dtype
        ('single', 3, 'uint8')
    """
    paths = [Path(run) for run in ([runs] if isinstance(runs, str | PathLike) else runs)]
    if not paths:
        raise UsageError("runs is empty; name at least one run")
    inference = from_values(InferenceSettings, {"checkpoint": checkpoint, "backend": backend, "compile": compile})
    machine = from_values(DeviceSettings, {"device": device, "threads": threads})
    opened = open_runs(paths, inference.checkpoint, unfinished=True)
    kind = kind_of_run(next(iter(opened.values())))

    # What can be wrong without PyTorch has been said before it is loaded.
    import torch

    from segtool.core.inference.members import load_members
    from segtool.core.runtime.distributed import choose_device

    chosen = choose_device(machine.device)
    if machine.threads:
        torch.set_num_threads(machine.threads)
    loaded = load_members(list(opened.values()), kind, chosen, inference.backend, compiled=inference.compile)
    return Model(kind, [member for of_run in loaded for member in of_run], chosen, members_of(opened))
