"""The device is one that the installed torch can compute on."""

import logging

import pytest
import torch

from segtool.core.runtime.distributed import choose_device
from segtool.errors import SegtoolError

TODAY = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def put_in(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla V100")


@pytest.mark.parametrize(
    ("capability", "built"),
    [
        ((8, 0), TODAY),
        ((8, 9), TODAY),  # the code of sm_86
        ((13, 0), TODAY),  # the PTX of compute_120
        ((7, 0), ["sm_80", "compute_60"]),
        ((9, 0), ["sm_90a"]),
        ((10, 3), ["sm_100f"]),  # a family's code, on its younger member
        ((9, 4), ["gfx942"]),
    ],
)
def test_a_gpu_that_torch_has_code_for_is_taken(
    capability: tuple[int, int], built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch, capability, built)
    assert choose_device("auto") == choose_device("cuda") == "cuda"


@pytest.mark.parametrize(
    ("capability", "built"),
    [
        ((7, 0), TODAY),
        ((6, 0), TODAY),
        ((8, 0), ["sm_86"]),
        ((10, 0), ["sm_90"]),
        ((12, 1), ["sm_120a"]),
        ((12, 0), ["sm_100f", "compute_100f"]),  # of another family
    ],
)
def test_a_gpu_without_code_is_named_in_one_line_and_auto_takes_the_cpu(
    capability: tuple[int, int], built: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put_in(monkeypatch, capability, built)
    with caplog.at_level(logging.WARNING):
        assert choose_device("auto") == "cpu"
    assert "no code for Tesla V100" in caplog.text and caplog.text.count("\n") == 1
    with pytest.raises(SegtoolError, match=r"--device cuda: torch .* has no code for Tesla V100"):
        choose_device("cuda")
    caplog.clear()
    assert choose_device("cpu") == "cpu" and not caplog.text
