"""Everything planted in small data sets is found, and nothing else."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn import box_mask, draw, write_drawn
from PIL import Image

from segtool.core.dataset.dataset import load_dataset
from segtool.core.inspection.findings import Findings, inspect_dataset
from segtool.core.tables import read_csv, write_csv


def look(folder: Path, folds: dict[str, int] | None = None) -> Findings:
    return inspect_dataset(load_dataset(folder), folds, workers=0)


def kinds(findings: Findings) -> list[tuple[str, str]]:
    return [(fault.kind, fault.image_id) for fault in findings.faults]


def test_sound_data_have_no_faults(tmp_path: Path) -> None:
    write_drawn(tmp_path, {f"{name}": draw(seed) for seed, name in enumerate("abcdef")}, {"t": draw(50)})
    findings = look(tmp_path)
    assert findings.faults == findings.pairs == findings.near_groups == ()
    assert findings.train is not None
    assert findings.test is not None
    assert (findings.train.images, findings.train.masks, findings.test.images) == (6, 6, 1)
    assert findings.train.sizes == {"96x128": 6}
    assert findings.train.forms == {"RGB 8-bit": 6}


def test_all_faults_are_collected(tmp_path: Path) -> None:
    ids = "abcdefg"
    masks = {"c": box_mask(90, 128), "d": box_mask() * 7, "e": np.zeros((96, 128, 3), np.uint8)}
    write_drawn(tmp_path, {name: draw(seed) for seed, name in enumerate(ids)}, {"t": draw(20)}, masks)
    image = tmp_path / "train" / "a.png"
    image.write_bytes(image.read_bytes()[:-500])
    (tmp_path / "train" / "b.png").unlink()
    (tmp_path / "test" / "t.png").write_bytes(b"no image")
    findings = look(tmp_path)
    assert kinds(findings) == [
        ("unreadable image", "a"),
        ("unreadable image", "b"),
        ("size mismatch", "c"),
        ("values that are no class", "d"),
        ("unreadable mask", "e"),
        ("unreadable image", "t"),
    ]
    assert "90x128" in findings.faults[2].text
    assert "the value 7" in findings.faults[3].text
    assert not any("\n" in fault.text for fault in findings.faults)
    assert findings.to_json()["trainable"] is False


def test_a_mask_that_was_not_turned_with_its_image(tmp_path: Path) -> None:
    write_drawn(tmp_path, {"a": draw(0), "b": draw(1)}, masks={"a": box_mask(128, 96)})
    (fault,) = look(tmp_path).faults
    assert fault.kind == "size mismatch"
    assert "EXIF" in fault.text


def test_notes_of_a_part(tmp_path: Path) -> None:
    plain = np.full((96, 128, 3), 30, np.uint8)
    masks = {"b": np.zeros((96, 128), np.uint8), "c": np.full((96, 128), 255, np.uint8), "d": None}
    write_drawn(tmp_path, {"a": plain, "b": draw(1), "c": draw(2), "d": draw(3), "e": draw(4, 128, 96)}, masks=masks)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw(4, 96, 128)).save(tmp_path / "train" / "e.png", exif=exif)
    Image.fromarray(draw(5)[..., 0]).save(tmp_path / "train" / "d.png")
    part = look(tmp_path).train
    assert part is not None
    assert (part.constant, part.empty, part.ignored, part.turned) == (("a",), ("b",), ("c",), ("e",))
    assert part.unlabelled == 1
    assert part.forms == {"RGB 8-bit": 4, "grey 8-bit": 1}
    assert part.sizes == {"96x128": 4, "128x96": 1}
    assert part.height == (96, 96, 128)


@pytest.mark.parametrize(
    ("value", "kind"), [(0, "one class"), (1, "one class"), (255, "one class"), (None, "no masks")]
)
def test_data_with_nothing_to_learn(tmp_path: Path, value: int | None, kind: str) -> None:
    mask = None if value is None else np.full((96, 128), value, np.uint8)
    write_drawn(tmp_path, {"a": draw(0), "b": draw(1)}, masks={"a": mask, "b": mask})
    assert kinds(look(tmp_path)) == [(kind, "")]


def test_class_statistics(tmp_path: Path) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[0:8, 0:8] = mask[20:28, 0:8] = 1
    mask[50:82, 50:82] = 2
    mask[90, 100] = 2
    ids = [f"{chr(97 + number)}" for number in range(6)]
    masks = {name: np.where(mask == 2, 0, mask).astype(np.uint8) for name in ids[1:]}
    write_drawn(
        tmp_path,
        {name: draw(seed) for seed, name in enumerate(ids)},
        masks={**masks, "a": mask},
        classes=("ground", "two", "one", "never"),
    )
    findings = look(tmp_path)
    ground, two, one, never = findings.classes
    assert (two.images, two.objects, two.small, two.median, two.large) == (6, 12, 64, 64, 64)
    assert two.pixel_share == pytest.approx(128 / (96 * 128))
    assert (one.images, one.objects, one.specks, one.median) == (1, 1, 1, 1024)
    assert one.image_share == pytest.approx(1 / 6)
    assert (never.images, never.objects, never.large) == (0, 0, 0)
    assert (ground.rare, two.rare, one.rare) == (False, False, True)
    assert findings.together[1] == (6, 6, 1, 0)
    assert findings.together[2] == (1, 1, 1, 0)


def test_duplicates_within_and_between(tmp_path: Path) -> None:
    pictures = {f"p{chr(97 + seed)}": draw(seed) for seed in range(8)}
    small = cv2.resize(pictures["pb"], (64, 48), interpolation=cv2.INTER_AREA)
    other = box_mask()
    other[60:80] = 1
    write_drawn(
        tmp_path,
        {**pictures, "exact": pictures["pa"], "resized": small},
        {"resaved": draw(30), "new": draw(31)},
        {"exact": other},
    )
    Image.fromarray(pictures["pc"]).save(tmp_path / "train" / "source.jpg", quality=50)
    Image.open(tmp_path / "train" / "source.jpg").save(tmp_path / "test" / "resaved.png")
    findings = look(tmp_path)
    told = {(pair.first, pair.second): pair for pair in findings.pairs}
    assert {key: pair.kind for key, pair in told.items()} == {
        ("pc", "resaved"): "near",
        ("pa", "exact"): "exact",
        ("pb", "resized"): "near",
    }
    assert [pair.parts for pair in findings.leaks] == [("train", "test")]
    assert findings.pairs[0].second == "resaved"
    assert told["pa", "exact"].other_mask
    assert not told["pb", "resized"].other_mask
    assert findings.near_groups == (("pa", "exact"), ("pb", "resized"))


def test_duplicates_across_folds_leak(tmp_path: Path) -> None:
    write_drawn(tmp_path, {"a": draw(0), "b": draw(0), "c": draw(1), "d": draw(1)})
    findings = look(tmp_path, {"a": 0, "b": 1, "c": 1, "d": 1})
    assert [(pair.first, pair.second, pair.folds) for pair in findings.leaks] == [("a", "b", (0, 1))]
    assert len(findings.pairs) == 2
    assert look(tmp_path).leaks == ()


def test_sequences_that_train_and_test_share(tmp_path: Path) -> None:
    def frames(video: int, numbers: range) -> dict[str, np.ndarray]:
        scene = draw(video, 200, 300)
        return {f"v{video}_f{n}": scene[n * 4 : n * 4 + 96, n * 4 : n * 4 + 128] for n in numbers}

    write_drawn(tmp_path, frames(1, range(12)) | frames(2, range(12)), frames(2, range(12, 20)))
    findings = look(tmp_path)
    assert findings.sequences.names == {"v1": (12, 0), "v2": (12, 8)}
    assert findings.sequences.shared == ["v2"]
    assert findings.sequences.alike


def test_names_alone_do_not_make_images_alike(tmp_path: Path) -> None:
    write_drawn(tmp_path, {f"v{seed % 2}_{seed}": draw(seed) for seed in range(24)})
    findings = look(tmp_path)
    assert set(findings.sequences.names) == {"v0", "v1"}
    assert not findings.sequences.alike


@pytest.mark.parametrize("darker", [False, True])
def test_adversarial_validation(tmp_path: Path, darker: bool) -> None:
    test = {f"t{seed}": draw(seed) // 2 if darker else draw(seed) for seed in range(100, 140)}
    write_drawn(tmp_path, {f"a{seed}": draw(seed) for seed in range(60)}, test)
    found = look(tmp_path).adversarial
    assert found is not None
    if darker:
        assert found.auc > 0.95
        assert found.differ
        assert found.telling[0].train > found.telling[0].test
    else:
        assert abs(found.auc - 0.5) < 0.15
        assert not found.differ


def test_too_few_images_to_tell_apart(tmp_path: Path) -> None:
    write_drawn(tmp_path, {f"a{seed}": draw(seed) for seed in range(9)}, {"t": draw(50)})
    assert look(tmp_path).adversarial is None


@pytest.mark.parametrize("turned", [False, True])
def test_images_with_an_up(tmp_path: Path, turned: bool) -> None:
    rng = np.random.default_rng(0)
    masks = {}
    for number in range(20):
        mask = np.zeros((96, 128), np.uint8)
        mask[: int(rng.integers(20, 40))] = 1
        masks[f"i{number}"] = mask[::-1] if turned and number % 2 else mask
    write_drawn(tmp_path, {name: draw(seed) for seed, name in enumerate(masks)}, masks=masks)
    orientation = look(tmp_path).orientation
    assert orientation.has_up is not turned
    assert not orientation.has_left
    if not turned:
        assert (orientation.vertical[0].what, orientation.vertical[0].mean) == ("box", 1.0)


def test_findings_are_json_and_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    dataset = write_drawn(tmp_path, {f"a_{seed}": draw(seed) for seed in range(20)}, {"t_1": draw(3)})
    one, two = (inspect_dataset(dataset, workers=workers).to_json() for workers in (0, 2))
    assert json.loads(json.dumps(one)) == json.loads(json.dumps(two))
    assert one["pairs"] == {"exact": 1, "near": 0, "mirrored": 0, "leaks": 1}


def test_groups_of_the_table_are_counted(tmp_path: Path) -> None:
    write_drawn(tmp_path, {name: draw(seed) for seed, name in enumerate("abc")}, groups={"a": "x", "b": "x", "c": "y"})
    assert look(tmp_path).groups == 2


def test_a_mask_listed_for_a_file_that_is_missing(tmp_path: Path) -> None:
    write_drawn(tmp_path, {"a": draw(0), "b": draw(1)})
    rows = read_csv(tmp_path / "train.csv")
    write_csv(tmp_path / "train.csv", list(rows[0]), [["a", "train/a.png", "nowhere.png"], list(rows[1].values())])
    assert kinds(look(tmp_path)) == [("unreadable mask", "a")]
