"""`bundle`: it predicts like its runs, without their folders and without access to the internet."""

import io
import json
import socket
import zipfile
from pathlib import Path

import pytest
from conftest import Type

from segtool.core.models.bundles import FORMAT, unpack_bundle
from segtool.core.predictions.folder import open_predictions
from segtool.errors import SegtoolError

NETWORK = "--arch linknet --encoder tu-test_efficientnet --encoder-weights none --threads 1 --workers 0"
PREDICT = "predict tiny --subset train --threads 1"


@pytest.fixture
def folder(tiny: Path, typed: Type) -> Path:
    """The test's folder with `tiny` and two runs."""
    for seed in (0, 1):
        assert typed(f"train tiny {NETWORK} --batch 2 --epochs 2 --keep-last 2 --seed {seed} -o run{seed}").status == 0
    return tiny.parent


def content(folder: Path) -> dict[str, bytes]:
    files = [*folder.glob("masks/*"), *folder.glob("probs/*"), folder / "index.csv"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_bundle_predicts_what_its_runs_predict_with_the_network_unplugged(
    folder: Path, typed: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert typed(f"{PREDICT} --run run0 --run run1 -o preds").status == 0
    ended = typed("bundle run0 run1 -o models/all.zip")
    assert (ended.status, "2 run(s)" in ended.stdout) == (0, True)
    for run in ("run0", "run1"):
        (folder / run).rename(folder / f"gone_{run}")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert typed(f"{PREDICT} --run models/all.zip -o again").status == 0
    assert content(Path("again")) == content(Path("preds"))
    # Its runs have no folder of their own, which train could ask for what they have seen.
    pseudo = typed("pseudo again -o labels --threshold 0 --min-share 0")
    assert "what 2 of the networks behind again were trained on is unknown here" in pseudo.stdout
    # What the runs have seen is known there too.
    assert open_predictions(Path("again")).oof == open_predictions(Path("preds")).oof
    assert typed("evaluate tiny again -o scores").status == 2


def test_a_bundle_holds_no_optimizer_state_and_is_the_same_twice(folder: Path, typed: Type) -> None:
    assert typed("bundle run0 --checkpoint last:2 -o one.zip").status == 0
    assert typed("bundle run0 --checkpoint last:2 -o one.zip").stdout == "one.zip is up to date\n"
    assert typed("bundle run0 --checkpoint last:2 -o two.zip").status == 0
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()
    with zipfile.ZipFile("one.zip") as bundle:
        assert sorted(bundle.namelist()) == [
            "0/config.json",
            "0/done.json",
            "0/epoch_001.pt",
            "0/epoch_002.pt",
            "0/samples.csv",
            "bundle.json",
        ]
        assert bundle.getinfo("0/epoch_002.pt").file_size < 0.6 * Path("run0/epoch_002.pt").stat().st_size
    assert typed(f"{PREDICT} --run one.zip --checkpoint last:2 -o preds").status == 0
    ended = typed(f"{PREDICT} --run one.zip -o best")
    assert (ended.status, "one.zip:0 has no best.pt" in ended.stderr) == (1, True)


@pytest.mark.parametrize("cut", [0, 10, 2000])
def test_a_broken_bundle_is_named(cut: int, folder: Path, typed: Type) -> None:
    assert typed("bundle run0 -o one.zip").status == 0
    whole = Path("one.zip").read_bytes()
    Path("one.zip").write_bytes(whole[:cut])
    ended = typed(f"{PREDICT} --run one.zip -o preds")
    assert (ended.status, "one.zip is truncated, or not a bundle" in ended.stderr) == (1, True)
    with zipfile.ZipFile("other.zip", "w") as other:
        other.writestr("readme.txt", "hello")
    assert "not a bundle of segtool" in typed(f"{PREDICT} --run other.zip -o preds").stderr


def packed(manifest: object, method: int = zipfile.ZIP_STORED, flag: int = 0) -> bytes:
    """A bundle with this manifest (text as it is) and one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as bundle:
        bundle.writestr("bundle.json", manifest if isinstance(manifest, str) else json.dumps(manifest))
        bundle.writestr("0/a", "hello" * 100)
    content = bytearray(buffer.getvalue())
    for signature, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        start = content.find(signature)
        while start >= 0:
            content[start + place] |= flag
            start = content.find(signature, start + 4)
    return bytes(content)


def run(*files: object) -> dict[str, object]:
    return {"format": FORMAT, "runs": [{"name": "r", "files": files}]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (packed("[" * 10_000), "bundle.json is truncated or not JSON"),
        (packed([]), "bundle.json must be a mapping"),
        (packed({"format": FORMAT, "runs": {}}), "`runs` must be a list, not {}"),
        (packed({"format": FORMAT, "runs": []}), "is a bundle without a run"),
        (packed({"format": FORMAT, "runs": [[]]}), "`runs[0]` must be a mapping"),
        (packed({"format": FORMAT}), "lacks `runs`"),
        (packed({"format": "2", "runs": []}), "of another version"),
        (packed(run(5)), "`runs[0].files[0]` must be text, not 5"),
        (packed(run("../a")), "a file called '../a'"),
        (packed(run("..")), "a file called '..'"),
        (packed(run("b")), "no item named '0/b'"),
        (packed(run("a"), zipfile.ZIP_DEFLATED), "'bundle.json' is compressed or encrypted"),
        (packed(run("a"), zipfile.ZIP_LZMA), "'bundle.json' is compressed or encrypted"),
        (packed(run("a"), flag=1), "'bundle.json' is compressed or encrypted"),
        (packed(run("a")).replace(b"hellohello", b"jellojello", 1), "Bad CRC-32"),
        (packed(" " * (17 << 20)), "bundle.json has more than 16,777,216 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bundle_that_nobody_wrote_is_one_line(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SegtoolError) as caught:
        unpack_bundle(tmp_path / "x.zip")
    assert str(tmp_path / "x.zip") in str(caught.value)
    assert told in str(caught.value)


def test_a_bundle_is_not_larger_than_its_file(tmp_path: Path) -> None:
    content = bytearray(packed(run("a")))
    start = content.rindex(b"PK\1\2")
    content[start + 20 : start + 28] = (5 << 28).to_bytes(4, "little") * 2
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(SegtoolError, match="its files are larger than itself"):
        unpack_bundle(tmp_path / "x.zip")


def test_an_unfinished_run_and_a_run_given_twice_are_refused(folder: Path, typed: Type) -> None:
    (folder / "run1" / "done.json").rename(folder / "run1" / "begun.json")
    ended = typed("bundle run0 run1 -o all.zip")
    assert (ended.status, "run1 is not finished" in ended.stderr, Path("all.zip").exists()) == (1, True, False)
    ended = typed("bundle run0 run0 -o all.zip")
    assert (ended.status, "given twice" in ended.stderr) == (2, True)
