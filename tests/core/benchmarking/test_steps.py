"""What is timed: real updates and predictions, and memory that ran short."""

import pytest
import torch

from segtool.core.benchmarking.cases import Case, plain_network
from segtool.core.benchmarking.steps import Prediction, Training, time_calls, with_batch
from segtool.core.models.build import NetworkSpec
from segtool.core.runtime.memory import peak_memory
from segtool.settings.options import from_values
from segtool.settings.train import TrainSettings
from segtool.values import Size

SIZE = Size(32, 64)


def spec(labels: str = "single", dtype: str = "uint8", channels: int = 3) -> NetworkSpec:
    network = plain_network("linknet", "tu-test_efficientnet", ["a", "b", "c"], channels, dtype, labels)
    return NetworkSpec.from_plain(network)


def settings(**values: object) -> TrainSettings:
    return from_values(TrainSettings, {"out": ".", "data": ".", **values})


@pytest.mark.parametrize(("labels", "dtype", "channels"), [("single", "uint8", 3), ("multi", "uint16", 5)])
def test_an_update_changes_the_weights(labels: str, dtype: str, channels: int) -> None:
    step = Training(with_batch(settings(accumulate=2), 3), spec(labels, dtype, channels), SIZE, 3, "cpu")
    before = [parameter.clone() for parameter in step.network.parameters()]
    step()
    moved = [not torch.equal(*pair) for pair in zip(before, step.network.parameters(), strict=True)]
    assert all(moved) and step.images == 6 and step.shortage == ""
    assert step.batches[0].images.shape == (3, *SIZE, channels)


def test_memory_that_runs_short_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Training(settings(), spec(), SIZE, 4, "cpu")
    backward, calls = step.updater._backward, []

    def once_short(batch: object, totals: object) -> torch.Tensor:
        calls.append(batch)
        if len(calls) == 1:
            raise MemoryError
        return backward(batch, totals)

    monkeypatch.setattr(step.updater, "_backward", once_short)
    step()
    assert step.shortage == "batches are split in 2"

    case = Case("predict", SIZE, 4, "fp32")
    prediction = Prediction(spec(), case, "cpu")
    assert prediction.shortage == ""
    prediction.predictor.batch = 2
    assert prediction.shortage == "batches become 2"


def test_a_prediction_fills_its_batches() -> None:
    step = Prediction(spec(), Case("predict", Size(64, 64), 6, "fp32", views="hflip", window=Size(32, 64)), "cpu")
    shapes: list[torch.Size] = []
    step.network.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape))
    step()
    # Rows at 0, 16 and 32 in two views: three images fill a batch of six in each.
    assert step.images == 3
    assert [shape for shape in shapes if len(shape) == 4 and shape[0] == 6] == [torch.Size((6, 3, 32, 64))] * 3


def test_calls_are_timed_at_least_once_and_not_for_ever() -> None:
    calls: list[int] = []
    assert len(time_calls(lambda: calls.append(1), "cpu", seconds=0)) == len(calls) == 1
    assert len(time_calls(lambda: calls.append(1), "cpu", seconds=60, most=7)) == 7 == len(calls) - 1


def test_peak_memory_holds_what_was_taken() -> None:
    held = torch.ones(25_000_000)
    assert peak_memory("cpu") > held.nbytes
