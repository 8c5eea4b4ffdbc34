"""Shards: processes write parts of one folder at the same time, are killed anywhere, and repair the folder."""

import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from segtool.core.artifacts import locks, stamps
from segtool.core.artifacts.output import Output, State, require_done
from segtool.core.documents import read_json
from segtool.core.files import atomic, write_json
from segtool.errors import SegtoolError, UsageError
from segtool.settings.common import OutputSettings
from segtool.values import Shard

OWNS = ("masks", "index.csv")
INPUTS = {"rows": "aa"}
IMAGES = range(7)

fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def short_moment(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "instant" not in request.node.name:
        monkeypatch.setattr(locks, "TIMEOUT", 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "preds"


# --- a command in small -----------------------------------------------------------------------------------------------


def mask(folder: Path, image: int) -> Path:
    return folder / "masks" / f"{image}.png"


def own(shard: Shard | None) -> list[int]:
    return [image for image in IMAGES if not shard or image % shard.total == shard.number - 1]


def opened(folder: Path, shard: Shard | None, seed: int = 0, overwrite: bool = False) -> AbstractContextManager[Output]:
    return Output(OutputSettings(folder, overwrite), "predict", owns=OWNS, shard=shard).writing({"seed": seed}, INPUTS)


def begin(folder: Path, shard: Shard | None, seed: int = 0, overwrite: bool = False) -> State:
    """Begin an output, and stop at once."""
    with opened(folder, shard, seed, overwrite) as output:
        return output.state


def write(folder: Path, image: int, seed: int = 0) -> Path:
    with atomic(mask(folder, image), sync=False) as file:
        file.write(f"{image} by {seed}")
    return mask(folder, image)


def predict(folder: Path, shard: Shard | None = None, seed: int = 0, overwrite: bool = False) -> State:
    """Write an output as `segtool predict` does."""
    with opened(folder, shard, seed, overwrite) as output:
        state = output.state
        if output.done:
            return state
        for image in own(shard):
            if not mask(folder, image).exists():
                write(folder, image, seed)
        if shard and output.finish_shard([mask(folder, image) for image in own(shard)]):
            return state
        write_json(folder / "index.csv", list(IMAGES))
        output.finish([folder / "index.csv", *(mask(folder, image) for image in IMAGES)])
        return state


def assert_finished(folder: Path, seed: int = 0) -> None:
    stamp = require_done(folder, "prediction folder")
    assert stamp["settings"] == {"seed": seed}
    assert len(stamp["outputs"]) == len(IMAGES) + 1
    assert not (folder / "begun.json").exists()
    assert not list(folder.rglob(".tmp-*"))
    assert not list(folder.glob(".lock*"))
    assert [mask(folder, image).read_text() for image in IMAGES] == [f"{image} by {seed}" for image in IMAGES]


def is_locked(folder: Path) -> bool:
    return bool(list(folder.glob(".lock*")))


def all_shards(total: int) -> list[Shard]:
    return [Shard(number, total) for number in range(1, total + 1)]


# --- one after the other ----------------------------------------------------------------------------------------------


def test_the_last_shard_finishes_the_folder(folder: Path) -> None:
    assert [predict(folder, shard) for shard in all_shards(3)[:2]] == [State.NEW, State.RESUME]
    assert not (folder / "done.json").exists()
    assert predict(folder, Shard(1, 3)) is State.DONE
    assert (folder / "begun.json").exists()
    assert predict(folder, Shard(3, 3)) is State.RESUME
    assert_finished(folder)
    assert [predict(folder, shard) for shard in (*all_shards(3), Shard(4, 5), None)] == [State.DONE] * 5
    names = {"masks", "index.csv", "done.json", "done.1-3.json", "done.2-3.json", "done.3-3.json"}
    assert {path.name for path in folder.iterdir()} == names


def test_one_shard_of_one_and_more_shards_than_images(folder: Path, tmp_path: Path) -> None:
    predict(folder, Shard(1, 1))
    assert_finished(folder)
    for shard in all_shards(9):
        predict(tmp_path / "many", shard)
    assert_finished(tmp_path / "many")


def test_shards_that_are_done_are_touched(folder: Path) -> None:
    predict(folder, Shard(1, 2))
    os.utime(folder / "done.1-2.json", (1, 1))
    predict(folder, Shard(1, 2))
    assert (folder / "done.1-2.json").stat().st_mtime > 1


def test_missing_shards_are_listed(folder: Path) -> None:
    with opened(folder, Shard(2, 4)) as output:
        assert output.missing_shards() == [1, 2, 3, 4]
        assert is_locked(folder)
        assert output.finish_shard([]) == [1, 3, 4]
    assert not is_locked(folder)


def test_a_plain_command_finishes_what_shards_began(folder: Path) -> None:
    predict(folder, Shard(2, 3))
    assert predict(folder) is State.RESUME
    assert_finished(folder)
    with opened(folder, Shard(1, 3)) as output:
        assert output.state is State.DONE
        assert output.missing_shards() == []


def test_shards_resume_a_killed_plain_command(folder: Path) -> None:
    begin(folder, None)
    write(folder, 0)
    for shard in all_shards(2):
        assert predict(folder, shard) is State.RESUME
    assert_finished(folder)


def test_shards_of_another_total_may_resume(folder: Path) -> None:
    predict(folder, Shard(1, 2))
    for shard in all_shards(3):
        assert predict(folder, shard) is State.RESUME
    assert_finished(folder)


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_shard_overwrites_nothing_and_a_plain_command_clears_the_stamps_of_the_shards(
    folder: Path, finished: int
) -> None:
    begin(folder, Shard(1, 2))
    write(folder, 0)
    for shard in all_shards(2)[:finished]:
        predict(folder, shard)
    for overwrite in (False, True):
        # Even without a stamp of a shard, one may be at work on another machine.
        with pytest.raises(
            UsageError, match=r"preds was made .*seed \(0, now 1\). A shard overwrites nothing: remove it"
        ):
            predict(folder, Shard(1, 2), seed=1, overwrite=overwrite)
    assert mask(folder, 0).read_text() == "0 by 0"
    assert begin(folder, None, seed=1, overwrite=True) is State.NEW
    assert {path.name for path in folder.iterdir()} == {"begun.json"}
    # What a plain command has begun, shards resume.
    assert [predict(folder, shard, seed=1, overwrite=True) for shard in all_shards(2)] == [State.RESUME] * 2
    assert_finished(folder, seed=1)


def test_a_partly_removed_output_is_refused_by_a_shard(folder: Path) -> None:
    predict(folder)
    write_json(folder / "begun.json", {"command": "predict", "clearing": True})
    with pytest.raises(UsageError, match="was partly removed by a command that was stopped; remove it, or run once"):
        predict(folder, Shard(1, 2))
    assert begin(folder, None) is State.NEW
    assert predict(folder, Shard(1, 2)) is State.RESUME


def test_the_stamp_of_a_shard_with_other_settings_does_not_count(folder: Path) -> None:
    with opened(folder, Shard(2, 2)) as late:
        # As from another machine, which sees no lock.
        shutil.rmtree(folder)
        predict(folder, Shard(1, 2), seed=1)
        assert late.finish_shard([]) == [1]
    with pytest.raises(SegtoolError, match="shard 2 of 2 is missing"):
        require_done(folder, "prediction folder")


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 2, None])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_shard_with_a_broken_mask_is_missing_and_no_other(folder: Path, damage: str, first: int | None) -> None:
    for shard in all_shards(3):
        predict(folder, shard)
    (image,) = own(Shard(2, 3))[:1]
    mask(folder, image).unlink()
    if damage == "truncated":
        mask(folder, image).touch()
    state = begin(folder, Shard(first, 3) if first else None)
    assert state is (State.DONE if first == 1 else State.RESUME)
    with pytest.raises(SegtoolError, match="preds is not finished: shard 2 of 3 is missing; run it"):
        require_done(folder, "prediction folder")
    # Truncated, it might look whole.
    assert not mask(folder, image).exists()
    assert [predict(folder, Shard(k, 3)) for k in (1, 3, 2)] == [State.DONE, State.DONE, State.RESUME]
    assert_finished(folder)


@pytest.mark.parametrize("shard", [*all_shards(2), None])
def test_a_lost_index_is_written_by_any_shard(folder: Path, shard: Shard | None) -> None:
    for each in all_shards(2):
        predict(folder, each)
    (folder / "index.csv").unlink()
    assert predict(folder, shard) is State.RESUME
    assert_finished(folder)


def test_bad_data_of_one_shard_leave_the_others_alone(folder: Path) -> None:
    predict(folder, Shard(1, 2))
    with pytest.raises(SegtoolError, match="bad"), opened(folder, Shard(2, 2)):
        raise SegtoolError("bad")
    predict(folder, Shard(2, 2))
    assert_finished(folder)


def test_an_unfinished_set_is_refused_by_name(folder: Path) -> None:
    def refusal() -> str:
        with pytest.raises(SegtoolError) as refused:
            require_done(folder, "prediction folder")
        return str(refused.value).replace(str(folder), "preds")

    begin(folder, Shard(1, 4))
    again = "prediction folder preds is not finished: run its `segtool predict` again to resume"
    assert refusal() == again
    predict(folder, Shard(1, 4))
    predict(folder, Shard(4, 4))
    assert refusal() == "prediction folder preds is not finished: shards 2, 3 of 4 are missing; run them"
    predict(folder, Shard(2, 2))
    assert refusal() == "prediction folder preds is not finished: shard 1 of 2 is missing; run it"
    with opened(folder, Shard(1, 2)) as output:
        for image in IMAGES:
            write(folder, image)
        assert output.finish_shard(mask(folder, image) for image in own(Shard(1, 2))) == []
    # All shards are there, and the last was killed before the end.
    assert refusal() == again


# --- several at once --------------------------------------------------------------------------------------------------


@contextmanager
def process(work: Callable[..., Any], *args: Any) -> Iterator[tuple[Any, Connection]]:
    """Start another process with a pipe to it, and kill it at the end if it is still running."""
    here, there = fork.Pipe()
    child = fork.Process(target=work, args=(there, *args))
    child.start()
    there.close()
    try:
        yield child, here
    finally:
        child.kill()
        child.join()


def at_work(wire: Connection, folder: Path, shard: Shard | None) -> None:
    """Begin an output, report its state, and finish on request."""
    with opened(folder, shard) as output:
        wire.send(output.state)
        wire.recv()
    predict(folder, shard)


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("theirs", "ours"), [(Shard(1, 2), None), (None, Shard(1, 2))])
def test_plain_and_shards_exclude_each_other_until_the_end(
    folder: Path, theirs: Shard | None, ours: Shard | None, killed: bool
) -> None:
    with process(at_work, folder, theirs) as (child, wire):
        assert wire.recv() is State.NEW
        for overwrite in (False, True):
            with pytest.raises(UsageError, match=r"is being written by another process; wait for it"):
                predict(folder, ours, overwrite=overwrite)
        if not killed:
            wire.send("finish")
            child.join()
    if killed:
        assert predict(folder, ours) is State.RESUME
    else:
        assert predict(folder, ours) is (State.DONE if theirs is None else State.RESUME)


def test_the_same_shard_is_written_by_one_process(folder: Path) -> None:
    with process(at_work, folder, Shard(2, 2)) as (_, wire):
        wire.recv()
        with pytest.raises(UsageError, match=r"shard 2/2 of .*preds is being written by another process; wait for it"):
            predict(folder, Shard(2, 2))
        assert predict(folder, Shard(1, 2)) is State.RESUME
    assert predict(folder, Shard(2, 2)) is State.RESUME
    assert_finished(folder)


def test_a_finished_folder_is_reopened_by_a_shard_and_finished_by_one_at_work(folder: Path) -> None:
    with process(at_work, folder, Shard(1, 2)) as (child, wire):
        wire.recv()
        for shard in all_shards(3):
            predict(folder, shard)
        mask(folder, 1).unlink()
        # Which of another total has it to make is not known before it is begun.
        assert begin(folder, Shard(2, 2)) is State.RESUME
        wire.send("finish")
        child.join()
    assert not (folder / "done.json").exists()
    assert predict(folder, Shard(2, 2)) is State.RESUME
    assert_finished(folder)


def test_a_shard_does_not_remove_what_another_is_writing(folder: Path) -> None:
    half = folder / "masks" / ".tmp-0.png-1-01234567"
    with process(at_work, folder, Shard(2, 2)) as (_, wire):
        wire.recv()
        half.parent.mkdir()
        half.touch()
        # Shards of another total finish while it is at work.
        for shard in all_shards(3):
            predict(folder, shard)
        assert (folder / "done.json").exists()
        assert half.exists()
    (folder / "index.csv").unlink()
    predict(folder, Shard(1, 3))
    assert_finished(folder)


def at_once(wire: Connection, folder: Path, shard: Shard, seed: int, overwrite: bool) -> None:
    wire.recv()
    wire.send(predict(folder, shard, seed, overwrite))


@pytest.mark.parametrize("there", ["nothing", "a lost mask"])
def test_shards_that_start_at_the_same_instant_all_get_in_and_one_finishes(tmp_path: Path, there: str) -> None:
    total = 5
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        if there != "nothing":
            for shard in all_shards(2):
                predict(folder, shard, seed=1)
        if there == "a lost mask":
            mask(folder, 3).unlink()
        children = [process(at_once, folder, shard, 1, True) for shard in all_shards(total)]
        started = [child.__enter__() for child in children]
        for _, wire in started:
            wire.send("go")
        states = [wire.recv() for _, wire in started]
        for child in children:
            child.__exit__(None, None, None)
        assert states.count(State.NEW) <= (there != "a lost mask")
        assert_finished(folder, seed=1)


def test_two_shards_that_both_find_everything_done_both_finish(folder: Path) -> None:
    with opened(folder, Shard(1, 2)) as first, opened(folder, Shard(2, 2)) as second:
        assert [output.finish_shard([]) for output in (second, first, second)] == [[1], [], []]
        for output in (first, second):
            for image in IMAGES:
                write(folder, image)
            write_json(folder / "index.csv", [])
            output.finish([folder / "index.csv", *(mask(folder, image) for image in IMAGES)])
    assert_finished(folder)


def test_a_stamp_that_another_shard_takes_away_is_not_missed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predict(folder)
    stamp = read_json(folder / "done.json", dict)
    write_json(folder / "begun.json", {key: stamp[key] for key in ("command", "version", "settings", "inputs")})
    read_text = Path.read_text

    def taken(path: Path, *args: Any, **more: Any) -> str:
        if path.name == "begun.json":
            path.unlink()
        return read_text(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", taken)
    assert predict(folder, Shard(1, 2)) is State.DONE


def test_a_folder_that_another_shard_reopens_during_the_check_is_not_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(folder)

    def opened_again(*_: object) -> list[str]:
        monkeypatch.undo()
        (folder / "done.json").rename(folder / "begun.json")
        return []

    monkeypatch.setattr(stamps, "broken", opened_again)
    assert predict(folder, Shard(1, 1)) is State.RESUME
    assert_finished(folder)


def test_a_file_system_without_locks_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with process(at_work, folder, Shard(1, 2)) as (child, wire):
        wire.recv()
        assert predict(folder, Shard(2, 2)) is State.RESUME
        wire.send("finish")
        child.join()
    assert_finished(folder)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_shard_that_is_done_in_a_read_only_folder_is_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    predict(folder, Shard(1, 2))
    for name in ("open", "utime", "unlink", "link", "replace"):
        monkeypatch.setattr(os, name, refuse)
    assert begin(folder, Shard(1, 2)) is State.DONE
    with pytest.raises(OSError, match=os.strerror(code)):
        predict(folder, Shard(2, 2))


# --- kills ------------------------------------------------------------------------------------------------------------


def killed_at(wire: Connection, step: int, after: bool, folder: Path, shard: Shard | None, seed: int) -> None:
    """SIGKILL at the n-th change to the file system, just before or just after it."""
    left = step

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **more: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            made = change(*args, **more)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        return changed

    for name in ("replace", "link", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    predict(folder, shard, seed, overwrite=True)
    wire.send("through")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mender", [*all_shards(2), None], ids=str)
@pytest.mark.parametrize("there", ["nothing", "the other shard", "other settings", "a lost mask"])
def test_after_a_kill_at_any_change_the_folder_is_repaired(
    tmp_path: Path, there: str, mender: Shard | None, after: bool
) -> None:
    for step in range(1, 100):
        folder = tmp_path / str(step)
        if there == "the other shard":
            predict(folder, Shard(2, 2))
        elif there != "nothing":
            for shard in all_shards(2):
                predict(folder, shard, seed=int(there == "other settings"))
        if there == "a lost mask":
            mask(folder, 0).unlink()
        killed = None if there == "other settings" else Shard(1, 2)
        with process(killed_at, step, after, folder, killed, 0) as (child, wire):
            child.join()
            through = wire.poll() and child.exitcode == 0
        # Never finished with something missing.
        if (folder / "done.json").exists() and not (folder / "begun.json").exists():
            broken = stamps.broken(folder, read_json(folder / "done.json", dict)["outputs"])
            assert broken == [] or (there == "a lost mask" and broken == ["masks/0.png"])
        if mender and there == "other settings":
            # A shard either resumes, or leaves the removal to a plain command.
            with suppress(UsageError):
                predict(folder, mender, overwrite=True)
            predict(folder, None, overwrite=True)
        predict(folder, mender, overwrite=True)
        if mender and not (folder / "done.json").exists():
            (other,) = {1, 2} - {mender.number}
            with pytest.raises(SegtoolError, match=f"shard {other} of 2 is missing"):
                require_done(folder, "prediction folder")
            predict(folder, Shard(other, 2), overwrite=True)
        for leftover in (*folder.glob(".tmp-*"), *folder.glob(".lock*")):
            leftover.unlink()
        assert_finished(folder)
        if through:
            return
    pytest.fail("the number of changes has no end")
