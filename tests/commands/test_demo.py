"""`segtool demo`: a readable data set, equal bytes for equal seeds, separate answers, and resuming."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from segtool.commands import demo
from segtool.core.dataset import synthetic
from segtool.core.dataset.dataset import load_dataset
from segtool.core.documents import read_json
from segtool.core.tables import read_csv
from segtool.errors import UsageError
from segtool.settings.common import OutputSettings
from segtool.settings.demo import DemoSettings


def run(folder: Path, *, overwrite: bool = False, **options: Any) -> str:
    chosen = {"train": 18, "test": 4, "size": 32, **options}
    return demo.run(DemoSettings(OutputSettings(folder, overwrite, quiet=True), **chosen)).summary


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "a demo"
    run(folder)
    return folder


def test_every_image_and_mask_can_be_read(made: Path) -> None:
    dataset = load_dataset(made)
    assert (len(dataset.train), len(dataset.test)) == (18, 4)
    assert len({record.group for record in dataset.train}) == 6
    assert len({dataset.read_pair(record)[0].shape for record in dataset.train}) > 1
    present = set().union(*(np.unique(dataset.read_mask(record)) for record in dataset.train))
    assert set(range(len(dataset.classes))) <= present


def test_images_come_in_every_format(made: Path) -> None:
    forms = set()
    for record in load_dataset(made).train:
        with Image.open(record.image) as image:
            forms.add((image.format, image.mode, image.getexif().get(0x0112, 1)))
    assert forms == {
        ("PNG", "RGB", 1),
        ("PNG", "L", 1),
        ("PNG", "RGBA", 1),
        ("PNG", "P", 1),
        ("PNG", "I;16", 1),
        ("JPEG", "RGB", 1),
        ("JPEG", "RGB", 6),
    }


def test_the_pixels_are_those_drawn_in_every_format(made: Path) -> None:
    for index, record in enumerate(load_dataset(made).train):
        number, frame = divmod(index, synthetic.FRAMES)
        drawn, _ = synthetic.draw(synthetic.make_scene(0, synthetic.TRAIN, number, 32), frame)
        read = load_dataset(made).read_image(record)
        if (read[:, :, 0] == read[:, :, 2]).all():
            drawn = np.array(Image.fromarray(drawn).convert("L").convert("RGB"))
        # JPEG and palettes lose detail; a turned or shifted image would differ by far more.
        assert np.abs(cv2.blur(read, (5, 5)).astype(int) - cv2.blur(drawn, (5, 5))).mean() < 8


def test_masks_are_those_drawn_except_the_listed(made: Path) -> None:
    listed = {row["image_id"] for row in read_csv(made / "wrong_masks.csv", ("image_id", "fault"))}
    dataset = load_dataset(made)
    wrong = set()
    for index, record in enumerate(dataset.train):
        number, frame = divmod(index, synthetic.FRAMES)
        _, mask = synthetic.draw(synthetic.make_scene(0, synthetic.TRAIN, number, 32), frame)
        if (mask != dataset.read_mask(record)).any():
            wrong.add(record.image_id)
    assert wrong == listed
    assert len(listed) == 1


def test_test_masks_are_in_the_answers_only(made: Path) -> None:
    dataset, answers = load_dataset(made), load_dataset(made / "answers.yaml")
    assert all(record.mask is None for record in dataset.test)
    assert [record.image_id for record in answers.train] == [record.image_id for record in dataset.test]
    for index, record in enumerate(answers.train):
        number, frame = divmod(index, synthetic.FRAMES)
        _, mask = synthetic.draw(synthetic.make_scene(0, synthetic.TEST, number, 32), frame)
        assert (answers.read_pair(record)[1] == mask).all()


def test_masks_show_the_palette(made: Path) -> None:
    with Image.open(load_dataset(made).train[0].mask) as mask:
        assert mask.mode == "P"
        palette = mask.getpalette()
    assert palette is not None
    assert palette[:6] == [*synthetic.PALETTE[0], *synthetic.PALETTE[1]]


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    run(tmp_path / "again")
    assert files(tmp_path / "again") == files(made)
    run(tmp_path / "other", seed=1)
    assert files(tmp_path / "other").keys() == files(made).keys()
    assert files(tmp_path / "other")["images/scene000/frame0.png"] != files(made)["images/scene000/frame0.png"]


def test_the_same_command_does_nothing(made: Path) -> None:
    before = files(made)
    assert run(made) == f"{made} is up to date"
    assert files(made) == before


def test_killed_in_the_middle_and_run_again(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def killed(path: Path, *args: Any) -> None:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *args)

    write = demo.write_mask
    monkeypatch.setattr(demo, "write_mask", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "demo")
    assert not (tmp_path / "demo" / "done.json").exists()
    monkeypatch.undo()
    run(tmp_path / "demo")
    assert files(tmp_path / "demo") == files(made)


def test_truncated_or_missing_files_are_made_again(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(made, folder)
    before = files(folder)
    (folder / "masks/scene001/frame1.png").write_bytes(b"")
    (folder / "images/scene002/frame0.png").unlink()
    assert "up to date" not in run(folder)
    assert files(folder) == before
    assert run(folder) == f"{folder} is up to date"


def test_other_settings_are_refused_and_overwritten_on_request(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(made, folder)
    (folder / "folds.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"train \(18, now 9\)"):
        run(folder, train=9)
    run(folder, train=9, overwrite=True)
    assert len(load_dataset(folder).train) == 9
    assert len(list((folder / "images").rglob("scene*/*"))) == 9
    assert (folder / "folds.csv").read_text() == "mine"


def test_without_a_test_part_there_are_no_answers(tmp_path: Path) -> None:
    run(tmp_path / "demo", test=0)
    assert load_dataset(tmp_path / "demo").test == ()
    assert not (tmp_path / "demo" / "answers.yaml").exists()


def test_a_folder_of_something_else_is_left_alone(segtool: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    done = segtool("demo", "-o", "mine", "--overwrite")
    assert done.returncode == 2
    assert done.stderr == "error: mine contains files that segtool did not write; choose an empty or new folder\n"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_the_stamp_holds_every_file(made: Path) -> None:
    outputs = read_json(made / "done.json", dict)["outputs"]
    assert outputs.keys() == files(made).keys() - {"done.json"}


def test_overlapping_classes_have_planes_and_other_masks_than_single_ones(tmp_path: Path) -> None:
    run(tmp_path / "a", labels="multi")
    dataset = load_dataset(tmp_path / "a")
    assert dataset.multi and dataset.classes == synthetic.CLASSES[1:]
    planes = [dataset.read_pair(record)[1] for record in dataset.train]
    assert all(set(np.unique(plane)) <= {0, 1, 255} for plane in planes)
    assert any(((plane == 1).sum(0) > 1).any() for plane in planes), "some pixels are of several classes"
    assert any((plane == 255).all(0).any() for plane in planes), "glare is ignored in all classes"
    assert set().union(*(np.flatnonzero((plane == 1).any((1, 2))) for plane in planes)) == set(range(5))
    answers = load_dataset(tmp_path / "a/answers.yaml")
    assert answers.multi and all(answers.read_mask(record).any() for record in answers.train)
    run(tmp_path / "b", labels="multi")
    one, other = files(tmp_path / "a"), files(tmp_path / "b")
    stamps = {"begun.json", "done.json"}
    assert {name: one[name] for name in one.keys() - stamps} == {name: other[name] for name in other.keys() - stamps}


def test_faults_of_planes() -> None:
    planes = np.zeros((5, 4, 6), np.uint8)
    planes[0, 1], planes[:, 0, 0] = 1, 255
    other = np.ones((5, 2, 3), np.uint8)
    exchanged = synthetic.spoil_planes(planes, other, synthetic.Fault.EXCHANGED)
    assert exchanged[1, 1].all() and not exchanged[0, 1].any() and (exchanged[:, 0, 0] == 255).all()
    missing = synthetic.spoil_planes(planes, other, synthetic.Fault.MISSING)
    assert not (missing == 1).any() and (missing[:, 0, 0] == 255).all()
    assert synthetic.spoil_planes(planes, other, synthetic.Fault.OTHER).tolist() == np.ones((5, 4, 6)).tolist()
