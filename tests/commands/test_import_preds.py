"""`segtool import preds`: files of other code become a prediction folder that every command reads."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Type
from PIL import Image

from segtool.core import images
from segtool.core.dataset.dataset import load_dataset
from segtool.core.formats import foreign
from segtool.core.predictions.folder import Predictions, open_predictions
from segtool.core.predictions.probability_maps import decide, read_probs
from segtool.core.tables import read_csv, write_csv

Floats = npt.NDArray[np.float32]
Store = Callable[[Path, Floats], None]

FOLDS = "--folds folds.csv --fold 1"


def softmax(number: int, classes: int = 3) -> Floats:
    """Probabilities of 32x32 pixels."""
    random = np.random.default_rng(number)
    return random.dirichlet(np.ones(classes), (32, 32)).transpose(2, 0, 1).astype(np.float32)


def save(folder: Path, ids: list[str], store: Store | None = None) -> dict[str, Floats]:
    """Write the probabilities of images into files named after them; returns them."""
    made = {image_id: softmax(number) for number, image_id in enumerate(ids)}
    for image_id, probs in made.items():
        (folder / image_id).parent.mkdir(parents=True, exist_ok=True)
        (store or (lambda path, p: np.save(f"{path}.npy", p)))(folder / image_id, probs)
    return made


def as_png(path: Path, probs: Floats) -> None:
    Image.fromarray(decide(probs)).save(f"{path}.png")


@pytest.fixture
def theirs(tiny: Path, tmp_path: Path) -> Path:
    """The folder `theirs` with predictions of the test images; `folds.csv` holds train_4 to train_7 out in fold 1."""
    save(tmp_path / "theirs", ["test_0", "test_1"])
    write_csv(tmp_path / "folds.csv", ("image_id", "fold"), [(f"train_{n}", n // 4) for n in range(8)])
    return tmp_path / "theirs"


def check(preds: Predictions, expected: dict[str, Floats], off: float = 2 / 65535) -> None:
    assert preds.ids == list(expected)
    for image_id, probs in expected.items():
        assert np.abs(read_probs(preds.probs_path(image_id)) - probs).max() <= off
        assert np.array_equal(preds.read_mask(image_id), decide(probs))


def test_arrays_become_a_prediction_folder(theirs: Path, typed: Type) -> None:
    ended = typed("import preds theirs --data tiny -o preds")
    assert ended.status == 0, ended.stderr
    assert ended.stdout == (
        "preds: 2 images (test), 3 classes; 2 of float32 probabilities (C, H, W); none out-of-fold without a claim\n"
    )
    preds = open_predictions(Path("preds"))
    check(preds, {f"test_{n}": softmax(n) for n in range(2)})
    assert (preds.classes, preds.subset, preds.oof) == (("ground", "box", "stripe"), "test", frozenset())
    assert [member["claim"] for member in preds.members] == [None]
    assert json.loads(Path("preds/meta.json").read_text())["data"] == "../tiny/dataset.yaml"
    assert typed("submit preds -o sub.csv").status == 0
    assert typed("import preds theirs --data tiny -o preds").stdout == "preds is up to date\n"


@pytest.mark.parametrize(
    ("store", "options", "off"),
    [
        (lambda path, p: np.save(f"{path}.npy", p.transpose(1, 2, 0).astype(np.float64)), "", 2 / 65535),
        (lambda path, p: np.savez_compressed(f"{path}.npz", probabilities=p[:, None]), "", 2 / 65535),
        (lambda path, p: np.savez(f"{path}.npz", a=p, b=p[::-1]), "--key a", 2 / 65535),
        (lambda path, p: np.save(f"{path}.npy", 5 + np.log(p)), "--logits", 2 / 65535),
        (lambda path, p: np.save(f"{path}.npy", np.rint(p * 65535).astype(np.uint16)), "", 3 / 65535),
    ],
)
def test_every_format_gives_the_same(
    theirs: Path, typed: Type, tmp_path: Path, store: Store, options: str, off: float
) -> None:
    made = save(tmp_path / "other", ["test_0", "test_1"], store)
    ended = typed(f"import preds other --data tiny {options} -o preds")
    assert ended.status == 0, ended.stderr
    check(open_predictions(Path("preds")), made, off)


def test_masks_become_votes(theirs: Path, typed: Type, tmp_path: Path) -> None:
    made = save(tmp_path / "votes", ["test_0", "test_1"], as_png)
    assert "2 of index PNGs, as votes" in typed("import preds votes --data tiny -o preds").stdout
    check(open_predictions(Path("preds")), {i: foreign.one_hot(decide(p), 3) for i, p in made.items()}, 0)


def test_masks_beside_arrays_do_not_count(theirs: Path, typed: Type) -> None:
    as_png(theirs / "test_0", 1 - softmax(0))
    assert typed("import preds theirs --data tiny -o preds").status == 0
    check(open_predictions(Path("preds")), {f"test_{n}": softmax(n) for n in range(2)})


def test_classes_in_another_order_are_put_in_order(theirs: Path, typed: Type) -> None:
    assert typed("import preds theirs --data tiny --classes stripe,ground,box -o preds").status == 0
    check(open_predictions(Path("preds")), {f"test_{n}": softmax(n)[[1, 2, 0]] for n in range(2)})
    refused = typed("import preds theirs --data tiny --classes stripe,ground,boxes -o other")
    assert refused.status == 2
    assert "'boxes' is not a class of the data set, which has ground, box, stripe" in refused.stderr
    assert "--classes lacks 'box'" in typed("import preds theirs --data tiny --classes ground,stripe -o o").stderr


def test_another_size_is_resized_on_request(theirs: Path, typed: Type) -> None:
    np.save(theirs / "test_1.npy", softmax(1)[:, ::2, ::2])
    refused = typed("import preds theirs --data tiny -o preds")
    assert (refused.status, Path("preds").exists()) == (1, False)
    assert "test_1.npy is 16x16 (HxW), but image 'test_1' is 32x32; --resize" in refused.stderr
    assert typed("import preds theirs --data tiny --resize -o preds").status == 0
    probs = read_probs(Path("preds/probs/test_1.b2nd"))
    assert probs.shape == (3, 32, 32)
    # The pixels' centres are matched: the first row and column are the stored ones, the next lie a quarter on.
    small = softmax(1)[:, ::2, ::2]
    assert probs[:, 0, 0] == pytest.approx(small[:, 0, 0], abs=1e-4)
    assert probs[:, 0, 1] == pytest.approx(0.75 * small[:, 0, 0] + 0.25 * small[:, 0, 1], abs=1e-4)


def test_what_is_claimed_decides_what_is_scored(theirs: Path, typed: Type, tmp_path: Path) -> None:
    save(tmp_path / "held", [f"train_{n}" for n in range(4, 8)])
    assert typed(f"import preds held --data tiny --subset valid {FOLDS} -o valid").status == 0
    preds = open_predictions(Path("valid"))
    assert preds.oof == {f"train_{n}" for n in range(4, 8)}
    assert preds.claims == ["not trained on fold 1 of folds.csv, as claimed at the import"]
    scored = typed("evaluate tiny valid -o scores")
    assert (scored.status, "4 images of the subset valid; not trained on fold 1" in scored.stdout) == (0, True)

    assert typed("import preds held --data tiny --subset valid --partial -o silent").status == 0
    refused = typed("evaluate tiny silent -o scores2")
    assert (refused.status, "nothing says that no model was trained on 4 of its 4 images" in refused.stderr) == (
        2,
        True,
    )

    save(tmp_path / "all", [f"train_{n}" for n in range(8)])
    assert typed("import preds all --data tiny --subset oof --oof -o oof").status == 0
    assert typed("evaluate tiny oof -o scores3").status == 0
    assert typed(f"import preds all --data tiny --subset train {FOLDS} -o train").status == 0
    assert [row["oof"] for row in read_csv(Path("train/index.csv"))] == ["0"] * 4 + ["1"] * 4


def test_files_of_other_folds_may_be_in_the_folder(theirs: Path, typed: Type, tmp_path: Path) -> None:
    save(tmp_path / "all", [f"train_{n}" for n in range(8)])
    assert typed(f"import preds all --data tiny --subset valid {FOLDS} -o preds").status == 0
    assert open_predictions(Path("preds")).ids == [f"train_{n}" for n in range(4, 8)]


def test_missing_images_are_named(theirs: Path, typed: Type) -> None:
    (theirs / "test_0.npy").unlink()
    refused = typed("import preds theirs --data tiny -o preds")
    assert (refused.status, refused.stdout) == (1, "")
    assert "theirs has no file for 1 of the 2 images of the subset test (test_0); --partial" in refused.stderr
    assert typed("import preds theirs --data tiny --partial -o preds").status == 0
    assert open_predictions(Path("preds")).ids == ["test_1"]


def test_without_a_data_set_the_files_name_the_images(tiny: Path, typed: Type, tmp_path: Path) -> None:
    made = save(tmp_path / "theirs", ["a/1.jpg", "b"])
    assert typed("import preds theirs --classes x,y,z --oof -o preds").status == 0
    preds = open_predictions(Path("preds"))
    check(preds, made)
    assert (preds.classes, preds.oof) == (("x", "y", "z"), {"a/1.jpg", "b"})
    assert "data" not in json.loads(Path("preds/meta.json").read_text())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "without --data the classes are unknown: give --classes"),
        ("--classes a,b,c --resize", "--resize has no effect without --data"),
        ("--classes a,b,c --partial", "--partial has no effect without --data"),
        (f"--classes a,b,c --subset valid {FOLDS}", "--folds has no effect without --data"),
        ("--data tiny --fold 1", "--fold has no effect without --folds"),
        ("--data tiny --subset oof", "--subset oof needs --oof"),
        ("--data tiny --subset train --oof", "which images the models have seen; use --subset oof"),
        (f"--data tiny --subset valid --oof {FOLDS}", "--oof contradicts --folds"),
        (f"--data tiny --subset test {FOLDS}", "--folds has no effect with --subset test"),
        ("--data tiny --key a", "--key has no effect: theirs contains no .npz file"),
        ("--data tiny --logits", "--logits: theirs/test_0.npy contains probabilities"),
        ("--data tiny --subset valid --folds folds.csv --fold 5", "folds.csv has no fold 5"),
        ("--classes a,a,c", "duplicate class 'a'"),
    ],
)
def test_what_makes_no_sense_is_refused(theirs: Path, typed: Type, options: str, said: str) -> None:
    ended = typed(f"import preds theirs {options} -o preds")
    assert (ended.status, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not Path("preds").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: np.save(f / "test_1.npy", np.full((3, 32, 32), np.nan)), "test_1.npy contains NaN"),
        (lambda f: np.save(f / "test_1.npy", softmax(1) * 9 - 4), "test_1.npy contains values from -"),
        (lambda f: np.save(f / "test_1.npy", softmax(1, 4)), "shape (4, 32, 32), but there are 3 classes"),
        (lambda f: np.save(f / "test_1.npy", np.zeros((32, 32), np.int64)), "class ids belong in index PNGs"),
        (lambda f: (f / "test_1.npy").write_bytes(b"x"), "cannot read theirs/test_1.npy"),
        (
            lambda f: np.save(f / "stranger.npy", softmax(1)),
            "stranger.npy matches no test image (--subset test) of the data set",
        ),
        (lambda f: np.savez(f / "test_1.npz", softmax(1)), "both named after image 'test_1'"),
        (lambda f: [p.unlink() for p in f.iterdir()], "theirs holds no PNG named after an image_id"),
    ],
)
def test_bad_files_are_named_and_nothing_is_left(
    theirs: Path, typed: Type, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(theirs)
    ended = typed("import preds theirs --data tiny -o preds")
    assert (ended.status, ended.stdout) == (1, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not Path("preds").exists()


@pytest.mark.parametrize("name", ["logits", "layout chw"])
def test_masks_have_no_logits_and_no_axes(tiny: Path, typed: Type, tmp_path: Path, name: str) -> None:
    save(tmp_path / "votes", ["test_0", "test_1"], as_png)
    ended = typed(f"import preds votes --data tiny --{name} -o preds")
    assert (ended.status, "has no effect: votes contains no .npy or .npz" in ended.stderr) == (2, True)


def test_killed_and_resumed(theirs: Path, typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    assert typed("import preds theirs --data tiny -o whole").status == 0
    real, read = foreign.to_probs, []

    def interrupted(values: Floats, where: Path, **options: bool) -> Floats:
        read.append(Path(where).name)
        if len(read) == 2:
            raise KeyboardInterrupt
        return real(values, where, **options)

    monkeypatch.setattr(foreign, "to_probs", interrupted)
    assert typed("import preds theirs --data tiny -o preds").status == 130
    assert not Path("preds/done.json").exists()
    assert typed("import preds theirs --data tiny -o preds").status == 0
    assert read == ["test_0.npy", "test_1.npy", "test_1.npy"]
    for file in ("probs/test_0.b2nd", "masks/test_1.png", "index.csv", "meta.json"):
        assert Path("preds", file).read_bytes() == Path("whole", file).read_bytes()


def test_other_files_and_settings_are_noticed(theirs: Path, typed: Type) -> None:
    assert typed("import preds theirs --data tiny -o preds").status == 0
    refused = typed("import preds theirs --data tiny --oof -o preds")
    assert (refused.status, "oof (False, now True)" in refused.stderr) == (2, True)
    refused = typed("import preds theirs --data tiny --classes stripe,box,ground -o preds")
    assert (refused.status, "classes (" in refused.stderr) == (2, True)
    np.save(theirs / "test_0.npy", softmax(7))
    assert "inputs: predictions" in typed("import preds theirs --data tiny -o preds").stderr
    assert typed("import preds theirs --data tiny --overwrite -o preds").status == 0
    check(open_predictions(Path("preds")), {"test_0": softmax(7), "test_1": softmax(1)})


def test_a_lost_mask_is_made_again(theirs: Path, typed: Type) -> None:
    assert typed("import preds theirs --data tiny -o preds").status == 0
    images.write_mask(Path("preds/masks/test_0.png"), np.zeros((32, 32), np.uint8))
    assert typed("import preds theirs --data tiny -o preds").status == 0
    check(open_predictions(Path("preds")), {f"test_{n}": softmax(n) for n in range(2)})


def test_binary_probabilities_of_the_foreground(data_dir: Path, typed: Type) -> None:
    for kind in ("image", "label"):
        Path(kind).mkdir()
        for path in sorted((data_dir / "membrane" / "train" / kind).iterdir())[:3]:
            Path(kind, path.name).symlink_to(path)
    assert typed("import folders --images image --masks label --classes membrane,cell -o data").status == 0
    dataset = load_dataset(Path("data"))
    Path("theirs").mkdir()
    for number, record in enumerate(dataset.train):
        truth = dataset.read_mask(record).astype(np.float16)
        # Foreground alone, in any of its forms, and wrong in every fourth row.
        truth[::4] = 1 - truth[::4]
        np.save(f"theirs/{record.image_id}.npy", (truth, truth[None], truth[..., None])[number % 3] * 0.9)
    ended = typed("import preds theirs --data data --subset oof --oof -o preds")
    assert ended.status == 0, ended.stderr
    assert "1 of float16 probabilities (H, W), 1 of float16 probabilities (C, H, W)" in ended.stdout
    assert typed("evaluate data preds -o scores").status == 0
    assert json.loads(Path("scores/summary.json").read_text())["pixel_accuracy"] == pytest.approx(0.75)
