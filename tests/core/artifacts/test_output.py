"""Outputs: files are written completely or not at all, and every decision: new, resume, done, refused, cleared."""

import errno
import fcntl
import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segtool.core.artifacts import output as artifacts
from segtool.core.artifacts.output import Output, State, require_done
from segtool.core.documents import read_json
from segtool.core.files import (
    atomic,
    create_json,
    digest_bytes,
    digest_file,
    digest_stats,
    remove_leftovers,
    write_json,
)
from segtool.core.tables import read_csv, write_csv
from segtool.errors import SegtoolError, Terminated, UsageError
from segtool.settings.common import OutputSettings


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".tmp-*")]


# --- atomic files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)), atomic(path) as file:
        file.write("half")
        raise error
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


class FullDisk:
    """A file whose disk is full: the first bytes fit."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: Any) -> None:
        self.file.write(content[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *args, **more: FullDisk(real(*args, **more)))
    with pytest.raises(OSError, match="No space left") as caught:
        write_json(path, {"new": 2})
    assert caught.value.errno == errno.ENOSPC
    assert read_json(path, dict) == {"old": 1}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("step", ["fsync", "flush"])
def test_a_disk_that_fills_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    real = os.fdopen

    def opened(*args: Any, **more: Any) -> Any:
        file = FullDisk(real(*args, **more))
        file.write = file.file.write  # type: ignore[method-assign]
        if step == "flush":
            file.flush = fail  # type: ignore[attr-defined]
        return file

    monkeypatch.setattr(os, "fdopen", opened)
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"), atomic(tmp_path / "a", "wb") as file:
        file.write(b"all of it")
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder_names_the_file_that_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(OSError, match="Read-only") as caught:
        write_json(tmp_path / "a.json", {})
    assert caught.value.filename == str(tmp_path / "a.json")
    with pytest.raises(OSError, match="Read-only") as caught:
        create_json(tmp_path / "b.json", {})
    assert caught.value.filename == str(tmp_path / "b.json")


@pytest.mark.parametrize("links", [True, False])
def test_an_existing_file_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    assert create_json(tmp_path / "a.json", 1)
    assert not create_json(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json", int) == 1
    assert leftovers(tmp_path) == []


def test_a_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic(tmp_path / "deep" / "한글 a.txt") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "한글 a.txt").stat().st_mode & 0o777 == 0o640


def test_per_image_files_may_skip_the_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for sync in (False, True):
        with atomic(tmp_path / "a", sync=sync) as file:
            file.write("x")
        assert len(synced) == int(sync)


# --- JSON, CSV, digests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "line"), [(b'{"a": 1', "truncated or not JSON"), (b"\xff\xfe\x00", "not JSON")])
def test_broken_json_is_named(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(SegtoolError, match=rf"x\.json is .*{line}"):
        read_json(tmp_path / "x.json", dict)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for read, how in ((read_json, dict), (read_csv, ())):
        with pytest.raises(SegtoolError, match=r"nothing is missing"):
            read(tmp_path / "nothing", how)
    with pytest.raises(SegtoolError, match=r"cannot read .*nothing: No such file"):
        digest_file(tmp_path / "nothing")
    with pytest.raises(SegtoolError, match=r"cannot read .*nothing: No such file"):
        digest_stats([tmp_path / "nothing"])


def test_csv_round_trip_keeps_odd_ids_and_empties_nan(tmp_path: Path) -> None:
    ids = ["001", "NA", "null", "1e5", "a,b", 'x "y"', "a\nb", "한글/사진 1"]
    write_csv(tmp_path / "x.csv", ("image_id", "score"), [(image_id, math.nan) for image_id in ids])
    rows = read_csv(tmp_path / "x.csv", ("image_id",))
    assert [row["image_id"] for row in rows] == ids
    assert {row["score"] for row in rows} == {""}


def test_a_csv_with_a_byte_order_mark_and_crlf_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbfimage_id,fold\r\na,1\r\n")
    assert read_csv(tmp_path / "x.csv", ("image_id", "fold")) == [{"image_id": "a", "fold": "1"}]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"image,mask\na,b\n", "has no column 'image_id' .it has: image, mask."),
        (b"", "has no column 'image_id' .it has: none."),
        (b"image_id,image\na\n", "line 2: not 2 cells"),
        (b"image_id,image\na,b\nc,d,e\n", "line 3: not 2 cells"),
        (b"image_id\n\xff\n", "not UTF-8 text: line 2"),
    ],
)
def test_a_broken_csv_is_named(tmp_path: Path, content: bytes, line: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(SegtoolError, match=rf"x\.csv.*{line}"):
        read_csv(tmp_path / "x.csv", ("image_id",))


def test_digests_follow_content_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    content, stats = digest_file(path), digest_stats([path])
    assert content == digest_bytes(b"one")
    os.utime(path, ns=(2, 2))
    assert digest_file(path) == content
    assert digest_stats([path]) != stats
    path.write_bytes(b"two!")
    os.utime(path, ns=(1, 1))
    assert digest_file(path) != content
    assert digest_stats([path]) != stats


# --- stamps of a folder -----------------------------------------------------------------------------------------------

SETTINGS: dict[str, Any] = {"seed": 0, "size": [8, 9], "weight_decay": 0.1}
INPUTS = {"rows": "aa", "files": "bb"}


def output(folder: Path, command: str = "draw", overwrite: bool = False) -> Output:
    return Output(OutputSettings(folder, overwrite), command, owns=("*.txt", "masks"))


def begin(
    folder: Path, *, overwrite: bool = False, inputs: dict[str, str] = INPUTS, command: str = "draw", **settings: Any
) -> State:
    """Begin an output, and stop at once."""
    with output(folder, command, overwrite).writing({**SETTINGS, **settings}, inputs) as begun:
        return begun.state


@pytest.fixture
def done(tmp_path: Path) -> Path:
    """A finished output with one file, one mask in a subfolder, and one the user may edit."""
    folder = tmp_path / "out"
    with output(folder).writing(SETTINGS, INPUTS) as begun:
        for name in ("a.txt", "masks/1.png", "edit.txt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("content")
        begun.finish([folder / "a.txt", folder / "masks" / "1.png"], [folder / "edit.txt"], score=0.5)
    return folder


def test_a_new_folder_is_marked_as_begun(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    assert begin(folder) is State.NEW
    stamp = read_json(folder / "begun.json", dict)
    assert (stamp["command"], stamp["settings"], stamp["inputs"]) == ("draw", SETTINGS, INPUTS)


def test_a_full_disk_stops_the_beginning_and_the_next_call_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left"):
        begin(tmp_path / "out")
    monkeypatch.undo()
    assert list((tmp_path / "out").iterdir()) == []
    assert begin(tmp_path / "out") is State.NEW


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    (tmp_path / ".tmp-from-a-kill").touch()
    assert begin(tmp_path) is State.NEW


def test_the_stamp_is_written_last_and_holds_sizes_and_facts(done: Path) -> None:
    stamp = require_done(done, "drawing")
    assert stamp["outputs"] == {"a.txt": 7, "masks/1.png": 7, "edit.txt": None}
    assert stamp["score"] == 0.5
    assert not (done / "begun.json").exists()


def test_the_same_again_is_done_and_touches_the_stamp(done: Path) -> None:
    os.utime(done / "done.json", (1, 1))
    assert begin(done) is State.DONE
    assert (done / "done.json").stat().st_mtime > 1
    assert not (done / "begun.json").exists()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", [(os, "utime"), (Path, "unlink"), (os, "open")], ids=str)
def test_a_read_only_output_is_done(
    done: Path, monkeypatch: pytest.MonkeyPatch, code: int, step: tuple[Any, str]
) -> None:
    write_json(done / "begun.json", {key: read_json(done / "done.json", dict)[key] for key in ("command", "settings")})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*step, refuse)
    assert begin(done) is State.DONE


def test_tuples_in_settings_equal_the_lists_they_become(done: Path) -> None:
    assert begin(done, size=(8, 9)) is State.DONE


def test_an_unfinished_equal_output_is_resumed_without_leftovers(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / ".tmp-half").touch()
    (tmp_path / "masks" / "1.png").touch()
    assert begin(tmp_path) is State.RESUME
    assert leftovers(tmp_path) == []
    assert (tmp_path / "masks" / "1.png").exists()


@pytest.mark.parametrize("damage", ["missing", "truncated", "folder"])
def test_a_broken_output_is_named_and_made_again(done: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    caplog.set_level(logging.INFO)
    broken = done / "masks" / "1.png"
    if damage == "truncated":
        broken.write_text("cont")
    else:
        broken.unlink()
    if damage == "folder":
        broken.mkdir()
    assert begin(done) is State.RESUME
    # Truncated or edited, it might look whole.
    assert not broken.is_file()
    assert "masks/1.png missing or changed" in caplog.text
    assert not (done / "done.json").exists()
    assert (done / "a.txt").exists()


def test_results_that_are_not_numbers_stop_nothing(tmp_path: Path) -> None:
    with output(tmp_path).writing(SETTINGS, INPUTS) as begun:
        (tmp_path / "a.txt").touch()
        begun.finish([tmp_path / "a.txt"], score=math.nan)
    (tmp_path / "a.txt").unlink()
    assert begin(tmp_path) is State.RESUME


@pytest.mark.parametrize("name", ["../mine.txt", "/mine.txt", "", "masks/.."])
def test_a_wrong_stamp_removes_nothing_that_no_command_writes(done: Path, name: str) -> None:
    mine = done.parent / "mine.txt"
    mine.write_text("mine")
    name = str(mine) if name.startswith("/") else name
    write_json(done / "done.json", {**read_json(done / "done.json", dict), "outputs": {name: 1}})
    begin(done)
    assert mine.read_text() == "mine"
    assert (done / "a.txt").exists()


@pytest.mark.parametrize("part", ["settings", "inputs", "outputs"])
def test_a_malformed_stamp_is_named_and_removes_nothing(done: Path, part: str) -> None:
    write_json(done / "done.json", {**read_json(done / "done.json", dict), part: ["x"]})
    with pytest.raises(SegtoolError, match=f"done.json: `{part}` must be a mapping"):
        begin(done, overwrite=True)
    assert (done / "a.txt").exists()


def test_an_edited_file_is_broken_only_if_it_is_missing(done: Path) -> None:
    (done / "edit.txt").write_text("a user's own words")
    assert begin(done) is State.DONE
    (done / "edit.txt").unlink()
    assert begin(done) is State.RESUME


def test_differing_keys_are_named(done: Path) -> None:
    with pytest.raises(UsageError) as refused:
        begin(done, seed=3, weight_decay=0.2, new=1, inputs={"rows": "cc", "files": "bb"})
    line = str(refused.value)
    assert line == (
        f"{done} was made with different settings: new (not set, now 1); seed (0, now 3); weight-decay (0.1, now 0.2),"
        " and from different inputs: rows. Use --overwrite, or choose another output"
    )
    assert (done / "a.txt").exists()


def test_many_differing_keys_are_counted(done: Path) -> None:
    with pytest.raises(UsageError, match="and 4 more"):
        begin(done, **{f"key{index}": index for index in range(10)})


@pytest.mark.parametrize("finished", [True, False])
def test_overwrite_removes_what_the_command_owns_and_nothing_else(done: Path, finished: bool) -> None:
    if not finished:
        (done / "done.json").rename(done / "begun.json")
    (done / "notes.md").write_text("mine")
    assert begin(done, seed=1, overwrite=True) is State.NEW
    assert sorted(path.name for path in done.iterdir()) == ["begun.json", "notes.md"]
    assert read_json(done / "begun.json", dict)["settings"]["seed"] == 1


def test_overwrite_without_a_difference_does_nothing(done: Path) -> None:
    assert begin(done, overwrite=True) is State.DONE
    assert (done / "a.txt").exists()


def test_a_link_that_is_owned_is_unlinked_not_followed(done: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "x").touch()
    (done / "masks" / "1.png").unlink()
    (done / "masks").rmdir()
    (done / "masks").symlink_to(kept)
    begin(done, seed=1, overwrite=True)
    assert (kept / "x").exists()
    assert not (done / "masks").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_while_clearing_never_leads_to_a_resume(
    done: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(artifacts.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(done, seed=1, overwrite=True)
    monkeypatch.undo()
    assert (done / "masks" / "1.png").exists()
    # Neither the old nor the new settings may take what is left for theirs.
    assert begin(done, overwrite=overwrite) is State.NEW
    assert not (done / "masks").exists()
    assert not (done / "done.json").exists()


def test_a_kill_just_after_the_stamp_is_done(done: Path) -> None:
    stamp = read_json(done / "done.json", dict)
    write_json(done / "begun.json", {key: stamp[key] for key in ("command", "version", "settings", "inputs")})
    assert begin(done) is State.DONE
    assert not (done / "begun.json").exists()


def test_a_kill_between_begin_and_removing_the_old_stamp_is_not_done(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (done / "a.txt").write_text("edited")

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name == "done.json":
            raise KeyboardInterrupt
        os.unlink(path)  # noqa: PTH108

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(done)
    monkeypatch.undo()
    assert (done / "begun.json").exists()
    assert (done / "done.json").exists()
    assert begin(done) is State.RESUME


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_place_is_refused(tmp_path: Path, done: Path, overwrite: bool) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="contains files that segtool did not write"):
        begin(foreign, overwrite=overwrite)
    with pytest.raises(UsageError, match="is a file; choose a folder"):
        begin(foreign / "thesis.txt", overwrite=overwrite)
    with pytest.raises(UsageError, match=r"is not an output of `segtool paint` but of 'draw'; choose another output"):
        begin(done, command="paint", overwrite=overwrite)
    (foreign / "done.json").write_text("[1]")
    with pytest.raises(SegtoolError, match=r"done\.json must be a mapping"):
        begin(foreign, overwrite=overwrite)
    assert (foreign / "thesis.txt").read_text() == "mine"
    assert (done / "a.txt").exists()


def test_a_truncated_stamp_is_named(done: Path) -> None:
    (done / "done.json").write_text('{"command": "dr')
    with pytest.raises(SegtoolError, match=r"done\.json is truncated"):
        begin(done)


def test_bad_data_remove_the_output_and_a_kill_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for error, remains in ((KeyboardInterrupt(), True), (OSError(errno.ENOSPC, "full"), True), (SegtoolError(), False)):
        with pytest.raises(type(error)), output(folder).writing(SETTINGS, INPUTS):
            (folder / "a.txt").touch()
            raise error
        assert folder.exists() is remains


@pytest.mark.parametrize("made", [True, False])
def test_bad_data_keep_expensive_work(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "out"
    with pytest.raises(SegtoolError), output(folder).writing(SETTINGS, INPUTS, keep="masks/**/*.png"):
        (folder / "masks" / "deep").mkdir(parents=True)
        (folder / "masks" / "deep" / ("1.png" if made else "1.txt")).touch()
        raise SegtoolError
    assert folder.exists() is made
    assert begin(folder) is (State.RESUME if made else State.NEW)


def test_an_error_after_the_end_removes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SegtoolError), output(tmp_path).writing(SETTINGS, INPUTS) as begun:
        begun.finish()
        raise SegtoolError
    assert begin(tmp_path) is State.DONE


class Processes:
    """The processes of one launch, of which the main one decides."""

    def __init__(self, main: bool) -> None:
        self.is_main = main

    def run_on_main(self, work: Any) -> Any:
        return work() if self.is_main else State.RESUME


@pytest.mark.parametrize("main", [True, False])
def test_only_the_main_process_changes_files(tmp_path: Path, main: bool) -> None:
    folder = tmp_path / "out"
    with pytest.raises(SegtoolError), output(folder).writing(SETTINGS, INPUTS, processes=Processes(main)):
        assert folder.exists() is main
        folder.mkdir(exist_ok=True)
        raise SegtoolError
    assert folder.exists() is not main


def test_require_done_tells_apart_missing_unfinished_and_other(tmp_path: Path, done: Path) -> None:
    with pytest.raises(SegtoolError, match=r"run .*nowhere does not exist"):
        require_done(tmp_path / "nowhere", "run")
    with pytest.raises(SegtoolError, match=r"is not a run \(no done.json\)"):
        require_done(tmp_path, "run")
    (done / "done.json").rename(done / "begun.json")
    with pytest.raises(SegtoolError, match="is not finished"):
        require_done(done, "run")


# --- a single file ----------------------------------------------------------------------------------------------------


def begin_file(path: Path, *, overwrite: bool = False, **settings: Any) -> State:
    with Output(OutputSettings(path, overwrite), "split", file=True).writing(settings, {}) as begun:
        return begun.state


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "deep" / "folds.csv"
    with Output(OutputSettings(path), "split", file=True).writing({"seed": 0}, {}) as single:
        assert single.state is State.NEW
        path.write_text("content")
        single.finish([path])
    yield path


def test_a_file_has_its_stamp_next_to_it(file: Path) -> None:
    assert sorted(path.name for path in file.parent.iterdir()) == ["folds.csv", "folds.csv.done.json"]
    os.utime(file, (1, 1))
    assert begin_file(file, seed=0) is State.DONE
    # Make looks at the file itself.
    assert file.stat().st_mtime > 1


def test_a_truncated_file_is_made_again(file: Path) -> None:
    file.write_text("con")
    assert begin_file(file, seed=0) is State.RESUME
    assert (file.parent / "folds.csv.begun.json").exists()


def test_a_file_of_other_settings_is_refused_and_overwritten_on_request(file: Path) -> None:
    neighbour = file.parent / "other.csv"
    neighbour.write_text("mine")
    with pytest.raises(UsageError, match=r"seed \(0, now 1\)"):
        begin_file(file, seed=1)
    assert file.read_text() == "content"
    assert begin_file(file, seed=1, overwrite=True) is State.NEW
    assert not file.exists()
    assert neighbour.exists()


def test_a_file_that_was_never_written_refuses_nothing(tmp_path: Path) -> None:
    begin_file(tmp_path / "a", seed=0)
    assert begin_file(tmp_path / "a", seed=1) is State.NEW


def test_a_file_without_a_stamp_is_replaced_on_request_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(UsageError, match="a file segtool has no stamp for; --overwrite replaces it"):
        begin_file(tmp_path / "a")
    assert begin_file(tmp_path / "a", overwrite=True) is State.NEW
    with pytest.raises(UsageError, match="is a folder"):
        begin_file(tmp_path, overwrite=True)


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("name", ["folds.csv", "a [b]*.csv", "긴" * 80], ids=["plain", "glob", "long"])
def test_leftovers_beside_a_file_are_removed_and_nothing_else(tmp_path: Path, resumed: bool, name: str) -> None:
    path = tmp_path / name
    if resumed:
        begin_file(path)
    mine = [tmp_path / "other.csv", path.with_name("x" + name)]
    for target in (path, path.with_name(name + ".done.json"), path.with_name(name + ".begun.json"), *mine):
        before = set(leftovers(tmp_path))
        with pytest.raises(KeyboardInterrupt), atomic(target):
            # A second name, as the kill of a process would leave the first.
            (left,) = set(leftovers(tmp_path)) - before
            os.link(tmp_path / left, tmp_path / (left[:-8] + "01234567"))
            raise KeyboardInterrupt
    assert len(leftovers(tmp_path)) == 5
    begin_file(path)
    assert len(leftovers(tmp_path)) == 2


WRITING = """
import sys
from pathlib import Path
from segtool.core.files import atomic

with atomic(Path(sys.argv[1])) as file:
    file.write("whole")
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [False, True])
def test_what_another_process_is_writing_is_no_leftover(tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "a.csv"
    command = [sys.executable, "-c", WRITING, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        begin_file(path)
        assert len(leftovers(tmp_path)) == 1
        if killed:
            process.kill()
        process.communicate()
    assert path.exists() is not killed
    remove_leftovers(path)
    assert leftovers(tmp_path) == []


def test_a_signal_just_after_a_file_was_made_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def opened(*args: Any, **more: Any) -> int:
        os.close(real(*args, **more))
        raise Terminated

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(Terminated), atomic(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_taken_for_a_leftover_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = fcntl.flock, []

    def lock(descriptor: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / leftovers(tmp_path)[0]).unlink()
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    with atomic(tmp_path / "a") as file:
        file.write("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert len(calls) == 2


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated])
def test_of_a_single_file_a_signal_leaves_nothing(tmp_path: Path, signal: type[BaseException]) -> None:
    output = Output(OutputSettings(tmp_path / "a.csv"), "split", file=True)
    with pytest.raises(signal), output.writing({}, {}), atomic(output.path) as file:
        file.write("half")
        raise signal
    assert list(tmp_path.iterdir()) == []


def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    path = tmp_path / ("가" * 85)
    with atomic(path) as file:
        file.write("x")
    assert path.read_text() == "x"


# --- real kills -------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from segtool.core.artifacts.output import write_json
path = Path(sys.argv[1])
number = 0
print("go", flush=True)
while True:
    number += 1
    write_json(path, {"numbers": [number] * 2000})
"""


def test_a_process_killed_while_writing_leaves_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        while not path.exists() and writer.poll() is None:
            pass
        writer.kill()
        writer.wait()
        writer.stdout.close()
        numbers = json.loads(path.read_text())["numbers"]
        assert len(numbers) == 2000
        assert len(set(numbers)) == 1
        path.unlink()


HOLDER = """
import os, sys, time
from pathlib import Path
from segtool.core.artifacts.output import Output
from segtool.settings.common import OutputSettings
output = Output(OutputSettings(Path(sys.argv[1])), "draw", owns=("*.txt", "masks"))
writing = output.writing({"seed": 0, "size": [8, 9], "weight_decay": 0.1}, {"rows": "aa", "files": "bb"})
writing.__enter__()
print(output.state)
ready, tell = os.pipe()
worker = os.fork()
if worker:
    os.read(ready, 1)
    print(worker, flush=True)
else:
    os.write(tell, b"x")
time.sleep(60)
"""


def test_a_folder_is_written_by_one_process_and_free_when_it_is_killed_though_its_workers_live(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "State.NEW\n"
        worker = int(holder.stdout.readline())
        try:
            for overwrite in (False, True):
                with pytest.raises(UsageError, match="out is being written by another process; wait for it"):
                    begin(folder, overwrite=overwrite)
            holder.kill()
            holder.wait()
            os.kill(worker, 0)
            assert begin(folder) is State.RESUME
        finally:
            holder.kill()
            os.kill(worker, signal.SIGKILL)
    assert [path.name for path in folder.iterdir()] == ["begun.json"]


def test_a_finished_or_refused_output_is_not_held_and_no_lock_is_left(done: Path) -> None:
    assert begin(done) is State.DONE
    with pytest.raises(UsageError, match="seed"):
        begin(done, seed=1)
    assert not (done / ".lock").exists()
    with output(done, overwrite=True).writing({**SETTINGS, "seed": 1}, INPUTS):
        with pytest.raises(UsageError, match="is being written by another process"):
            begin(done, seed=1)
        assert (done / ".lock").exists()
    assert not (done / ".lock").exists()
    assert begin(done, seed=1) is State.RESUME


def test_a_file_system_without_locks_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert begin(tmp_path / "out") is State.NEW
