"""`segtool export`: files that predict what `segtool predict` does, in programs that know nothing of segtool."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Type
from PIL import Image
from small_runs import make_demo, make_run

import segtool
from segtool.core.inference import export
from segtool.core.inference.predictor import Member
from segtool.core.models.build import NetworkSpec, build_network
from segtool.core.models.checkpoint import load_checkpoint, restore_network
from segtool.values import Size

pytest.importorskip("onnx", reason="the optional package onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the optional package onnxruntime is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx" / "predict.py"
# Importing segtool or torch fails, as where they are not installed.
WITHOUT = "import sys; sys.modules.update(segtool=None, torch=None); import runpy; runpy.run_path(sys.argv.pop(1))"


def test_an_onnx_file_predicts_images_of_any_size_and_number(made: Path, typed: Type, tmp_path: Path) -> None:
    ended = typed(f"export {made / 'run'} -o model.onnx")
    assert ended.status == 0, ended.stderr
    assert "1 network(s)" in ended.stdout
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["batch", "height", "width", 3])
    assert [output.name for output in session.get_outputs()] == ["probs", "mask"]
    stored = segtool.read_predictions(made / "preds")
    for record in segtool.read_dataset(made / "demo"):
        probs, mask = session.run(None, {"image": np.stack([record.image, record.image[::-1]])})
        assert probs.shape == (2, len(stored.classes), *record.image.shape[:2])
        np.testing.assert_allclose(probs[0], stored[record.image_id].probs, atol=1e-4)
        np.testing.assert_array_equal(mask[0], stored[record.image_id].mask)
    assert typed(f"export {made / 'run'} -o model.onnx").stdout == "model.onnx is up to date\n"
    assert typed(f"export {made / 'run'} -o model.onnx --tta flip").status == 2


def test_what_the_file_says_of_itself(made: Path, typed: Type, tmp_path: Path) -> None:
    assert typed(f"export {made / 'run'} -o model.onnx --tta hflip --opset 18").status == 0
    about = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta().custom_metadata_map
    model = segtool.load(made / "run", device="cpu")
    assert tuple(json.loads(about["classes"])) == model.classes
    assert [tuple(colour) for colour in json.loads(about["palette"])] == list(model.palette)
    assert (about["labels"], about["channels"], about["dtype"], about["layout"]) == ("single", "3", "uint8", "NHWC")
    assert about["segtool_version"] == segtool.__version__
    assert json.loads(about["settings"]) == {"checkpoint": "best", "tta": ["hflip"], "opset": 18}
    (network,) = json.loads(about["networks"])
    assert network.items() >= model.members[0].items()
    assert (network["arch"], network["mean"], network["resize"]) == ("linknet", [0.485, 0.456, 0.406], None)


def test_several_runs_are_averaged_in_one_graph(made: Path, typed: Type, tmp_path: Path) -> None:
    other = make_run(made / "demo", tmp_path / "other", seed=1, resize=(40, 56), crop=None)
    assert typed(f"export {made / 'run'} {other} -o model.onnx").status == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    both = segtool.load([made / "run", other], device="cpu")
    record = next(iter(segtool.read_dataset(made / "demo")))
    (probs,) = session.run(["probs"], {"image": record.image[None]})
    difference = np.abs(probs[0] - both.predict(record).probs)
    # OpenCV rounds some resized pixels to the grey level beside ours.
    assert difference.max() < 0.02
    assert difference.mean() < 5e-4
    # Far from the prediction of either.
    assert np.abs(probs[0] - segtool.load(made / "run", device="cpu").predict(record).probs).mean() > 0.005
    networks = json.loads(session.get_modelmeta().custom_metadata_map["networks"])
    assert [network["resize"] for network in networks] == [None, "40x56"]


def test_a_program_of_torch_export(made: Path, typed: Type, tmp_path: Path) -> None:
    ended = typed(f"export {made / 'run'} -o model.pt2")
    assert ended.status == 0, ended.stderr
    about = {"classes": "", "networks": ""}
    module = torch.export.load(tmp_path / "model.pt2", extra_files=about).module()
    stored = segtool.read_predictions(made / "preds")
    assert tuple(json.loads(about["classes"])) == stored.classes
    for record in segtool.read_dataset(made / "demo"):
        probs, mask = module(torch.from_numpy(record.image)[None])
        np.testing.assert_allclose(probs[0].detach(), stored[record.image_id].probs, atol=1e-4)
        np.testing.assert_array_equal(mask[0], stored[record.image_id].mask)


def test_classes_that_overlap(typed: Type, tmp_path: Path) -> None:
    data = make_demo(tmp_path / "demo", labels="multi")
    run = make_run(data, tmp_path / "run", aux_head=0.1)
    assert typed("export run -o model.onnx").status == 0
    record = next(iter(segtool.read_dataset(data)))
    probs, mask = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"image": record.image[None]})
    theirs = segtool.load(run, device="cpu").predict(record)
    np.testing.assert_allclose(probs[0], theirs.probs, atol=1e-4)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask[0], theirs.mask)


def test_the_example_runs_without_segtool_and_torch(made: Path, typed: Type, tmp_path: Path) -> None:
    assert typed(f"export {made / 'run'} -o model.onnx").status == 0
    record = next(iter(segtool.read_dataset(made / "demo")))
    command = [sys.executable, "-c", WITHOUT, EXAMPLE, "model.onnx", record.files[0], "mask.png"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert [line.split(":")[0] for line in ended.stdout.splitlines()] == list(
        segtool.read_predictions(made / "preds").classes
    )
    mask = Image.open(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.array(mask), segtool.read_predictions(made / "preds")[record.image_id].mask)
    assert mask.mode == "P"
    assert len(EXAMPLE.read_text().splitlines()) < 22


def member_of(run: Path) -> Member:
    return Member(*restore_network(load_checkpoint(run / "best.pt"), run / "best.pt"))


def test_a_file_that_predicts_something_else_is_not_kept(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = member_of(made / "run")
    wrong = replace(member, spec=replace(member.spec, mean=(0.4, 0.4, 0.4)))
    served = export.ServedModel
    monkeypatch.setattr(export, "ServedModel", lambda members, transforms: served([wrong], transforms))
    with pytest.raises(segtool.SegtoolError, match=r"differ from PyTorch's .* no file is written"):
        export.export_networks(tmp_path / "model.onnx", [member], (), {"segtool_version": "1"}, 17)
    assert not list(tmp_path.iterdir())


def test_another_interpolation_is_seen_although_rounding_is_allowed(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.functional import interpolate

    from segtool.core.inference import serving

    member = member_of(made / "run")
    resized = replace(member, spec=replace(member.spec, resize=Size(96, 128)))
    monkeypatch.setattr(
        serving, "resize_like_opencv", lambda pixels, *size: interpolate(pixels, size=size, mode="bilinear")
    )
    with pytest.raises(segtool.SegtoolError, match="no file is written"):
        export.export_networks(tmp_path / "model.onnx", [resized], (), {"segtool_version": "1"}, 17)


def test_a_network_that_cannot_be_traced_is_refused_in_one_line(tmp_path: Path) -> None:
    spec = NetworkSpec("unet", "tu-mobilevitv2_050", ("a", "b"), 3, (0.5,) * 3, (0.5,) * 3, None, "fp32")
    member = Member(spec, build_network(spec.arch, spec.encoder, 3, spec.outputs).eval())
    with pytest.raises(segtool.SegtoolError) as raised:
        export.export_networks(tmp_path / "model.onnx", [member], (), {"segtool_version": "1"}, 17)
    assert str(raised.value).startswith("--arch unet --encoder tu-mobilevitv2_050 cannot be exported as .onnx: ")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("export run -o model.txt", 2, "--out model.txt .onnx .pt2"),
        ("export run -o model", 2, "--out model .onnx"),
        ("export run -o model.pt2 --opset 18", 2, "--opset has no effect"),
        ("export run -o model.onnx --tta scale:0.5", 2, "--tta scale:0.5 cannot be exported"),
        ("export run -o model.onnx --opset 9", 2, "--opset 13"),
        ("export gone -o model.onnx", 1, "gone does not exist"),
    ],
)
def test_what_is_typed_wrongly_is_refused(line: str, status: int, words: str, typed: Type, made: Path) -> None:
    Path("run").symlink_to(made / "run")
    ended = typed(line)
    assert ended.status == status, ended.stderr
    assert ended.stderr.count("\n") == 1
    for word in words.split():
        assert word in ended.stderr


def test_a_missing_package_is_named(made: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    from segtool.core.inference import packages

    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "onnxruntime" else object())
    ended = typed(f"export {made / 'run'} -o model.onnx")
    assert (ended.status, ended.stderr.count("\n")) == (2, 1)
    assert "needs the package onnxruntime: pip install 'segtool[onnx]'" in ended.stderr
