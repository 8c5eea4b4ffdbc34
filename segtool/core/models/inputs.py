"""The input of networks: normalisation and mixed precision, the same in training and prediction."""

from contextlib import AbstractContextManager, nullcontext

import torch

from segtool.core.models.build import NetworkSpec

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def network_input(images: torch.Tensor, spec: NetworkSpec, device: str) -> torch.Tensor:
    """Normalise (N, H, W, C), as `Intensity.unit` returns it, to float32 (N, C, H, W) in channels-last memory."""
    top = 255 if images.dtype == torch.uint8 else 1
    mean = torch.tensor(spec.mean, device=device).view(-1, 1, 1) * top
    std = torch.tensor(spec.std, device=device).view(-1, 1, 1) * top
    pixels = images.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
    return pixels.sub_(mean).div_(std)


def too_few_for_batch_norm(error: ValueError) -> bool:
    """Return whether torch refused a batch norm in training over one value per channel: one image of one pixel."""
    return "more than 1 value per channel" in str(error)


def amp(precision: str, device: str) -> AbstractContextManager[object]:
    """Return autocast for fp16 and bf16, and a context without effect for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device, dtype=_DTYPES[precision])
