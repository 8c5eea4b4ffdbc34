"""Every kind of input file, damaged in many ways: the command ends well, or with one line and status 1 or 2."""

import contextlib
import io
import json
import re
import shlex
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segtool import cli
from segtool.core.averaging.runs import read_run
from segtool.core.dataloading.presets import load_pipeline
from segtool.core.dataset import dataset as catalog
from segtool.core.dataset.seen_images import read_samples, write_samples
from segtool.core.files import write_json
from segtool.core.losses.class_weights import read_class_weights
from segtool.core.models.bundles import FORMAT, unpack_bundle
from segtool.core.noise import table
from segtool.core.predictions.blending import Blend
from segtool.core.predictions.ensembles import read_choice, write_choice
from segtool.core.predictions.folder import open_predictions
from segtool.core.predictions.pseudo_labels import read_worst
from segtool.core.roi.crops import read_boxes
from segtool.core.tables import write_csv
from segtool.errors import SegtoolError
from segtool.values import Amount

CLASSES = ("ground", "box", "stripe")

CONFIG = {"out": "run", "data": "tiny", "epochs": 3, "crop": "16x16", "scale": [0.5, 2.0], "fold": 0, "augment": "none"}


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    stderr: str


def run(line: str) -> Ended:
    """`segtool LINE`, in this process and in the current folder; whatever it raises reaches the test."""
    stderr, before = io.StringIO(), sys.argv
    sys.argv = ["segtool", *shlex.split(line)]
    try:
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as ended:
        return Ended(int(ended.code or 0), stderr.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("main() leaves with its status")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder, with one file of each kind."""
    here = tmp_path_factory.mktemp("fuzz")
    with contextlib.chdir(here):
        for part, count in (("images", 4), ("masks", 4)):
            Path("tiny", part).mkdir(parents=True)
            for number in range(count):
                shape = (16, 12, 3) if part == "images" else (16, 12)
                pixels = np.random.default_rng(number).integers(0, 3 if part == "masks" else 256, shape, np.uint8)
                Image.fromarray(pixels).save(f"tiny/{part}/i{number}.png")
        records = [
            catalog.Record(f"i{n}", here / f"tiny/images/i{n}.png", here / f"tiny/masks/i{n}.png", f"g{n % 2}", 1 + n)
            for n in range(4)
        ]
        dataset = catalog.Dataset(here / "tiny", CLASSES, train=tuple(records), palette=((0, 0, 0),) * 3)
        catalog.write_dataset(here / "tiny", dataset)
        for number in range(4):
            Path("arrays").mkdir(exist_ok=True)
            probs = np.random.default_rng(number).dirichlet([0.1] * 3, (16, 12)).transpose(2, 0, 1)
            np.save(f"arrays/i{number}.npy", probs.astype(np.float32))
        for line in (
            "split tiny --n-folds 2 -o folds.csv",
            "import preds arrays --data tiny --subset oof --oof -o preds",
            "threshold tiny preds --cv-folds 2 -o rule.json",
            "noise-rank tiny preds -o noise.csv",
            "roi crop tiny --preds preds -o crops",
        ):
            assert run(f"{line} --quiet") == (0, ""), line
        for crop in (crop for its in read_boxes(here / "crops" / "boxes.csv") for crop in its.crops):
            path = here / "crop_arrays" / f"{crop.crop_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.full((3, *crop.size), 1 / 3, np.float32))
        assert run("import preds crop_arrays --data crops --subset oof --oof --quiet -o pasted") == (0, "")
        write_others(here, dataset, records)
        yield here


def write_others(here: Path, dataset: catalog.Dataset, records: list[catalog.Record]) -> None:
    """Files that other tools write, and those of trained runs."""
    entries = [{"id": n, "file_name": f"i{n}.png", "height": 16, "width": 12} for n in range(4)]
    region = {"id": 1, "image_id": 0, "category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 4]], "iscrowd": 0}
    counts = {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [16, 12], "counts": [3, 4, 185]}}
    names = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    write_json(here / "coco.json", {"images": entries, "annotations": [region, counts], "categories": names})
    outline = {"label": "box", "points": [[1, 1], [6, 1], [6, 4]], "shape_type": "polygon", "group_id": None}
    size = {"imagePath": "i0.png", "imageHeight": 16, "imageWidth": 12}
    (here / "labelme").mkdir()
    write_json(here / "labelme" / "i0.json", {"shapes": [outline], **size})
    (here / "tiny" / "labels").mkdir()
    (here / "tiny" / "labels" / "i0.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.3\n2 0.5 0.5 0.9 0.9 0.5 0.9\n")
    (here / "data.yaml").write_text("train: tiny/images\nnames: [ground, box, stripe]\n")
    write_json(here / "boxes.json", [{"image_id": "i0", "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}])
    (here / "recipe.yaml").write_text("n-folds: 2\nseed: 3\nkind: kfold\noverwrite: true\n")
    (here / "names.txt").write_text("\n".join(CLASSES))
    write_csv(here / "weights.csv", ("class", "weight"), [(name, 1.5) for name in CLASSES])
    (here / "rle.csv").write_text("ImageId,ClassId,EncodedPixels,Height,Width\ni0,1,3 4 9 2,16,12\ni1,2,,16,12\n")
    ids = [f"i{n}_{name},1 1\n" for n in range(4) for name in CLASSES]
    (here / "sample.csv").write_text("Image_Label,EncodedPixels\n" + "".join(ids))
    write_csv(here / "colors.csv", ("name", "r", "g", "b"), [(name, n, 9, 200) for n, name in enumerate(CLASSES)])
    pipeline = {"transform": {"__class_fullname__": "HorizontalFlip", "p": 0.5}}
    (here / "pipeline.yaml").write_text(json.dumps(pipeline))
    (here / "ensemble").mkdir()
    write_choice(here / "ensemble", [open_predictions(here / "preds")], Blend("mean", (1.0,), 1.0), None)
    (here / "run").mkdir()
    write_samples(here / "run" / "samples.csv", dataset, records[:2], records[2:])
    stamp = {"command": "train", "settings": {}, "inputs": {}, "outputs": {}, "epochs": 3, "planned": 3}
    write_json(here / "run" / "done.json", stamp)
    write_json(here / "run" / "config.json", {"settings": CONFIG})
    with zipfile.ZipFile(here / "bundle.zip", "w") as bundle:
        runs = [{"name": "r", "files": ["config.json"]}]
        bundle.writestr("bundle.json", json.dumps({"format": FORMAT, "runs": runs}))
        bundle.writestr("0/config.json", "{}")


# The file, and the command that reads it; each time into another output.
COMMANDS = {
    "tiny/dataset.yaml": "split tiny --n-folds 2",
    "tiny/train.csv": "split tiny --n-folds 2",
    "recipe.yaml": "split tiny --config recipe.yaml",
    "folds.csv": "import preds arrays --data tiny --subset valid --folds folds.csv --fold 0 --partial",
    "arrays/i0.npy": "import preds arrays --data tiny --subset oof --oof",
    "tiny/images/i0.png": "import folders --images tiny/images --masks tiny/masks --classes ground,box,stripe",
    "tiny/masks/i0.png": "import folders --images tiny/images --masks tiny/masks --classes ground,box,stripe",
    "names.txt": "import folders --images tiny/images --masks tiny/masks --classes names.txt",
    "coco.json": "import coco coco.json --images tiny/images",
    "rle.csv": "import rle rle.csv --images tiny/images",
    "sample.csv": "submit preds --format rle --sample sample.csv",
    "colors.csv": "submit preds --format png --colors colors.csv",
    "labelme/i0.json": "import labelme labelme --images tiny/images",
    "tiny/labels/i0.txt": "import yolo tiny/labels --images tiny/images --classes ground,box,stripe",
    "data.yaml": "import yolo data.yaml --unlisted drop",
    "boxes.json": "roi crop tiny --boxes boxes.json --subset train",
    "preds/done.json": "submit preds",
    "preds/meta.json": "evaluate tiny preds",
    "preds/index.csv": "evaluate tiny preds",
    "preds/masks/i0.png": "evaluate tiny preds",
    "preds/probs/i0.b2nd": "submit preds --thresholds rule.json",
    "rule.json": "submit preds --thresholds rule.json",
    "crops/done.json": "roi paste pasted --crops crops",
    "crops/boxes.csv": "roi paste pasted --crops crops",
}
# Files of trained runs, whose commands load the engine: what reads them.
READERS: dict[str, Callable[[Path], object]] = {
    "run/done.json": lambda path: read_run(path.parent),
    "run/config.json": lambda path: read_run(path.parent),
    "run/samples.csv": lambda path: read_samples(path),
    "ensemble/ensemble.json": lambda path: read_choice(path.parent),
    "weights.csv": lambda path: read_class_weights(path, CLASSES),
    "pipeline.yaml": load_pipeline,
    "noise.csv": lambda path: (read_worst(path, Amount(1, False)), table.read_marked(path, 4, "score")),
    "bundle.zip": unpack_bundle,
}

# What stands in for a value, or for a whole file.
VALUES = [
    *("", "[]", "{}", "null", "true", '"x"', "5", "-1", "1.5", "1e999", ".inf", "nan", "³", "３", "٣", "1_000"),
    *("9" * 25, "9" * 5000, "0x" + "f" * 4000, "2001-99-99", "!!int x", "!!timestamp x", "*a", "&a [*a]"),
    *("[" * 2000, "{a: " * 2000, "&a [x, x]", "<<: {}", "- - -", ": :", "---\n---", "data: ''", "out: ''"),
    *('"\\ud800"', '"\\u0000"', "\0", "\r", "\n", "\ufeff", '"', "'", "%s{}", "한글", "~nobody", "x" * 3000),
    *("a//b", "./i0", "../i0", "/", "i0", "a/" * 200),
]
WORD = re.compile(rb"[\w.+-]+|\"[^\"]*\"|\[[^\[\]]*\]|\{[^{}]*\}")


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """The content of a file with values, lines or bytes of it exchanged, doubled or gone."""
    value = draw(st.sampled_from(VALUES)).encode()
    kind = draw(st.sampled_from(["value", "value", "value", "line", "bytes", "cut", "whole"]))
    if kind == "whole":
        return draw(st.sampled_from([value, value * 2, b"\xff\xfe" + value, b"\n" + good, good + good, b"\xb0\xa1"]))
    if kind == "value" and (words := list(WORD.finditer(good[:4000]))):
        word = draw(st.sampled_from(words))
        return good[: word.start()] + value + good[word.end() :]
    if kind == "line":
        lines = good.splitlines(keepends=True) or [b""]
        place = draw(st.integers(0, len(lines) - 1))
        lines[place] = draw(
            st.sampled_from([b"", lines[place] * 2, b"\n", value + b"\n", lines[place].strip() + value])
        )
        return b"".join(lines)
    place = draw(st.integers(0, max(0, len(good) - 1)))
    if kind == "cut":
        return good[:place]
    return good[:place] + draw(st.binary(min_size=1, max_size=4)) + good[place + draw(st.integers(0, 4)) :]


EXAMPLES = settings(
    max_examples=25, derandomize=True, database=None, suppress_health_check=list(HealthCheck), deadline=None
)


@contextlib.contextmanager
def exchanged(path: Path, content: bytes) -> Iterator[None]:
    good = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_file_is_no_traceback(name: str, folder: Path) -> None:
    shutil.rmtree("out", ignore_errors=True)
    assert run(f"{COMMANDS[name]} --quiet -o out/x") == (0, "")
    shutil.rmtree("out")

    @EXAMPLES
    @given(damaged((folder / name).read_bytes()))
    def check(content: bytes) -> None:
        with exchanged(folder / name, content):
            ended = run(f"{COMMANDS[name]} --quiet -o out/x")
        shutil.rmtree(folder / "out", ignore_errors=True)
        assert ended.status in (0, 1, 2)
        assert (ended.stderr.count("\n"), ended.stderr[:7]) == ((1, "error: ") if ended.status else (0, "")), ended
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr) < 2100

    check()


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_of_a_run_is_one_line(name: str, folder: Path) -> None:
    READERS[name](folder / name)

    @EXAMPLES
    @given(damaged((folder / name).read_bytes()))
    def check(content: bytes) -> None:
        with exchanged(folder / name, content), contextlib.suppress(SegtoolError):
            READERS[name](folder / name)

    check()


def test_a_damaged_stamp_of_an_output_is_one_line(folder: Path) -> None:
    stamp = folder / "folds.csv.done.json"

    @EXAMPLES
    @given(damaged(stamp.read_bytes()))
    def check(content: bytes) -> None:
        with exchanged(stamp, content):
            ended = run("split tiny --n-folds 2 --quiet -o folds.csv")
        assert ended.status in (0, 1, 2)
        assert ended.stderr.count("\n") == bool(ended.status)

    check()
