"""ONNX files: writing what PyTorch traces, and running them."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

Axes = Mapping[int, str]


def write_onnx(
    path: Path,
    module: nn.Module,
    example: torch.Tensor,
    inputs: Mapping[str, Axes],
    outputs: Mapping[str, Axes],
    opset: int | None = None,
) -> None:
    """Trace a module of one input, and write it.

    Args:
        example: an input with two images, so that no axis of length one becomes a constant.
        inputs, outputs: names of the input and the outputs, with the names of their axes of any length.
        opset: version of the operators; None: PyTorch's default.
    """
    names: Sequence[Mapping[str, Axes]] = (inputs, outputs)
    with warnings.catch_warnings(), redirect_stdout(StringIO()), torch.no_grad():
        # Tracing warns about every size that it reads: a comparison with other sizes finds if that is a problem.
        warnings.simplefilter("ignore")
        # The newer exporter (dynamo) does not terminate for these networks if height and width are dynamic.
        torch.onnx.export(
            module,
            (example,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=list(names[0]),
            output_names=list(names[1]),
            dynamic_axes={name: dict(axes) for one in names for name, axes in one.items()},
        )


def open_onnx(source: Path | bytes) -> Any:
    """Return a session of ONNX Runtime on the CPU, with PyTorch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Otherwise its threads spin while they wait, and take the cores from PyTorch's softmax and resizing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
