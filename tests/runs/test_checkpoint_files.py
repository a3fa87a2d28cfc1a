"""A save survives a failure at every call; reading believes nothing that the sha256 does not confirm."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from deep_delta.errors import CheckpointError, ConfigError, StorageError
from deep_delta.runs.checkpoint_files import Best, verify, write_checkpoint, write_folder
from deep_delta.runs.layout import BEST, LATEST, resolve_checkpoint, step_names
from deep_delta.runs.storage import TEMPORARY, atomic_write, remove, write_new
from tests.runs.faults import FaultyDisk, Killed, content, manifest_of, snapshot

OWN = {"model": None, "tokenizer": None}


def save(checkpoints: Path, step: int, text: str = "", *, best: Best | Path | None = None, keep: int = 2) -> Path:
    files = {"model": content(f"model {step} {text}"), "moments": content(f"moments {step}"), "tokenizer": content("t")}
    return write_checkpoint(checkpoints, manifest_of(step), files, best=best, keep=keep)


def begin(checkpoints: Path) -> None:
    save(checkpoints, 1, best=Best(1, OWN))
    save(checkpoints, 2, best=checkpoints / "step-1" / BEST)


SAVES: dict[str, Callable[[Path], Path]] = {
    "best carried on": lambda folder: save(folder, 3, best=folder / "step-2" / BEST),
    "best is this step": lambda folder: save(folder, 3, best=Best(3, OWN)),
    "best from memory": lambda folder: save(folder, 4, best=Best(3, {"model": content("best"), "tokenizer": None})),
    "no best": lambda folder: save(folder, 3),
    "keep one": lambda folder: save(folder, 3, keep=1),
    "the same step again": lambda folder: save(folder, 2, best=folder / "step-1" / BEST),
    "the same step, other bytes": lambda folder: save(folder, 2, "again", best=folder / "step-1" / BEST),
}


def leftovers(checkpoints: Path) -> list[str]:
    return [entry.name for entry in checkpoints.iterdir() if entry.name.startswith(TEMPORARY)]


def test_a_checkpoint_holds_what_was_written_and_latest_names_it(tmp_path: Path) -> None:
    begin(tmp_path)
    assert (tmp_path / LATEST).read_text() == "step-2\n"
    assert resolve_checkpoint(tmp_path / LATEST) == tmp_path / "step-2"
    manifest = verify(tmp_path / "step-2")
    assert (manifest.step, manifest.kind, sorted(manifest.files)) == (
        2,
        "checkpoint",
        ["model", "moments", "tokenizer"],
    )
    assert (tmp_path / "step-2" / "model").read_bytes() == b"model 2 "
    best = verify(tmp_path / "step-2" / BEST)
    assert (best.step, best.kind, sorted(best.files)) == (1, BEST, ["model", "tokenizer"])


def test_best_validation_shares_its_bytes_with_where_they_are_already(tmp_path: Path) -> None:
    begin(tmp_path)
    files = [tmp_path / "step-1" / "model", tmp_path / "step-1" / BEST / "model", tmp_path / "step-2" / BEST / "model"]
    assert len({file.stat().st_ino for file in files}) == 1


def test_best_validation_is_copied_where_links_are_not_to_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    begin(tmp_path)
    assert (tmp_path / "step-2" / BEST / "model").stat().st_nlink == 1
    assert verify(tmp_path / "step-2").best_validation is not None


def test_every_byte_is_on_the_disk_before_a_name_points_at_it(tmp_path: Path, disk: FaultyDisk) -> None:
    begin(tmp_path)
    with disk.failing("error", at=-1):
        save(tmp_path, 3, best=Best(3, OWN), keep=1)
    trace = disk.trace
    draft = str(tmp_path / f"{TEMPORARY}step-3")
    published = trace.index(("rename", draft))
    names = [*snapshot(tmp_path / "step-3"), BEST, "."]
    for name in names:
        assert trace.index(("fsync", os.path.normpath(f"{draft}/{name}"))) < published
    written = [number for number, (call, path) in enumerate(trace) if call == "write" and path.startswith(draft)]
    assert trace[max(written)][1] == f"{draft}/manifest.json"
    assert trace.index(("fsync", draft)) > max(written)
    assert not any(call == "write" for call, _ in trace[published:])
    pointer = str(tmp_path / f"{TEMPORARY}{LATEST}")
    position = 0
    for event in [
        ("fsync", pointer),
        ("rename", draft),
        ("fsync", str(tmp_path)),
        ("replace", pointer),
        ("fsync", str(tmp_path)),
        ("rename", str(tmp_path / "step-1")),
    ]:
        position = trace.index(event, position) + 1


def fail_at_every_call(attempt: Callable[[Path], object], mode: str, tmp_path: Path, disk: FaultyDisk) -> int:
    """Try a save on a fresh copy of two checkpoints for every call that it makes; how many there were."""
    base = tmp_path / "base"
    begin(base)
    before = {step: snapshot(base / step) for step in ("step-1", "step-2")}
    count, num_calls = 0, 1
    while count <= num_calls:
        checkpoints = tmp_path / str(count)
        shutil.copytree(base, checkpoints)
        with disk.failing(mode, at=count), suppress(Killed, StorageError, CheckpointError):
            attempt(checkpoints)
        if mode == "error":
            assert all(entry.startswith(f"{TEMPORARY}pruned") for entry in leftovers(checkpoints))
        latest = resolve_checkpoint(checkpoints)
        assert verify(latest).step >= 2
        if latest.name == "step-2":
            assert (checkpoints / "step-1").exists()
        for step in map(str, step_names(checkpoints)):
            verify(checkpoints / step)
            assert step not in before or snapshot(checkpoints / step) == before[step]

        resumed = save(checkpoints, 5, best=latest / BEST if (latest / BEST).exists() else None)
        assert leftovers(checkpoints) == []
        assert resolve_checkpoint(checkpoints) == resumed == checkpoints / "step-5"
        for step in map(str, step_names(checkpoints)):
            verify(checkpoints / step)
        shutil.rmtree(checkpoints)
        count, num_calls = count + 1, len(disk.trace)
    return num_calls


@pytest.mark.parametrize("mode", ["kill", "error"])
@pytest.mark.parametrize("name", SAVES)
def test_a_failure_at_any_call_loses_nothing(name: str, mode: str, tmp_path: Path, disk: FaultyDisk) -> None:
    assert fail_at_every_call(SAVES[name], mode, tmp_path, disk) > 30


def save_without_a_draft(checkpoints: Path) -> None:
    (checkpoints / "step-3").mkdir()
    write_new(checkpoints / "step-3" / "model", b"m")
    write_new(checkpoints / "step-3" / "manifest.json", manifest_of(3).to_bytes())
    atomic_write(checkpoints / LATEST, "step-3")


def save_in_place(checkpoints: Path) -> None:
    for path in (checkpoints / "step-2" / "model", checkpoints / "step-2" / "manifest.json"):
        write_new(path, path.read_bytes())


def save_with_a_plain_pointer(checkpoints: Path) -> None:
    save(checkpoints, 3, keep=9)
    write_new(checkpoints / LATEST, b"step-3\n")


def save_pruning_first(checkpoints: Path) -> None:
    remove(checkpoints / "step-1")
    save(checkpoints, 3)


@pytest.mark.parametrize(
    "bad",
    [save_without_a_draft, save_in_place, save_with_a_plain_pointer, save_pruning_first],
    ids=lambda f: f.__name__,
)
def test_this_harness_catches_a_bad_writer(bad: Callable[[Path], None], tmp_path: Path, disk: FaultyDisk) -> None:
    with pytest.raises((AssertionError, CheckpointError)):
        fail_at_every_call(bad, "kill", tmp_path, disk)


@pytest.mark.parametrize("mode", ["kill", "error"])
def test_a_failure_in_the_first_save_leaves_a_folder_that_can_begin_again(
    mode: str, tmp_path: Path, disk: FaultyDisk
) -> None:
    count = 0
    while True:
        checkpoints = tmp_path / str(count)
        with disk.failing(mode, at=count), suppress(Killed, StorageError):
            save(checkpoints, 1, best=Best(1, OWN))
        assert all(verify(checkpoints / str(step)) for step in step_names(checkpoints))
        folder = save(checkpoints, 1, best=Best(1, OWN))
        assert folder == resolve_checkpoint(checkpoints) == checkpoints / "step-1"
        assert leftovers(checkpoints) == []
        if count >= len(disk.trace):
            break
        count += 1
    assert count > 30


@pytest.mark.parametrize("mode", ["kill", "error"])
def test_a_folder_of_its_own_is_written_whole_or_not_at_all(mode: str, tmp_path: Path, disk: FaultyDisk) -> None:
    files = {"model": content("model"), "tokenizer": content("t")}
    count = 0
    while True:
        folder = tmp_path / str(count) / "made"
        with disk.failing(mode, at=count), suppress(Killed, StorageError):
            write_folder(folder, manifest_of(0), files)
        if folder.exists():
            assert verify(folder).files.keys() == files.keys()
        elif mode == "error":
            assert not folder.parent.exists() or leftovers(folder.parent) == []
        if count >= len(disk.trace):
            break
        if not folder.exists():
            write_folder(folder, manifest_of(0), files)
            assert leftovers(folder.parent) == []
        count += 1
    assert count > 15


def test_a_folder_that_holds_something_is_never_written_to(tmp_path: Path) -> None:
    for name, make in (
        ("full", lambda path: save(path, 1)),
        ("file", lambda path: path.write_text("x")),
        ("link", lambda path: path.symlink_to(tmp_path / "elsewhere")),
    ):
        make(tmp_path / name)
        before = snapshot(tmp_path)
        with pytest.raises(ConfigError, match=f"{name} exists and is not empty; choose another folder"):
            write_folder(tmp_path / name, manifest_of(0), {"model": content("m")})
        assert snapshot(tmp_path) == before
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", manifest_of(0), {"model": content("m")})
    assert verify(tmp_path / "empty").step == 0


def test_a_step_saved_again_keeps_the_identical_folder(tmp_path: Path) -> None:
    begin(tmp_path)
    inode = (tmp_path / "step-2").stat().st_ino
    assert save(tmp_path, 2, best=tmp_path / "step-1" / BEST) == tmp_path / "step-2"
    assert (tmp_path / "step-2").stat().st_ino == inode


def test_a_step_saved_again_with_other_bytes_gets_a_sibling_and_replaces_the_first_only_then(tmp_path: Path) -> None:
    begin(tmp_path)
    assert save(tmp_path, 2, "again") == tmp_path / "step-2.2"
    assert resolve_checkpoint(tmp_path) == tmp_path / "step-2.2"
    assert [str(name) for name in step_names(tmp_path)] == ["step-1", "step-2.2"]
    assert save(tmp_path, 2, "a third time") == tmp_path / "step-2.3"


def test_a_damaged_folder_of_the_same_step_is_not_taken_for_the_saved_one(tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "step-2" / "model").write_bytes(b"model X ")
    folder = save(tmp_path, 2, best=tmp_path / "step-1" / BEST)
    assert folder == tmp_path / "step-2.2"
    assert verify(folder)


@pytest.mark.parametrize("squatter", ["file", "link", "empty folder"])
def test_whatever_has_the_name_already_is_left_alone(squatter: str, tmp_path: Path) -> None:
    begin(tmp_path)
    place = tmp_path / "step-3"
    if squatter == "file":
        place.write_text("mine")
    elif squatter == "link":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
    assert save(tmp_path, 3) == tmp_path / "step-3.2"


def test_pruning_keeps_the_last_steps_and_those_that_lie_ahead(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, keep=3)
    save(tmp_path, 15, keep=2)
    assert [str(name) for name in step_names(tmp_path)] == ["step-10", "step-15", "step-20", "step-30"]
    save(tmp_path, 20, "again", keep=2)
    assert [str(name) for name in step_names(tmp_path)] == ["step-15", "step-20.2", "step-30"]


def test_an_error_of_a_writer_leaves_no_debris(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    begin(tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, manifest_of(3), {"model": interrupted}, keep=2)
    assert snapshot(tmp_path) == before


FILES = ["manifest.json", "model", "moments", f"{BEST}/manifest.json", f"{BEST}/tokenizer"]


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_is_detected(name: str, tmp_path: Path) -> None:
    save(tmp_path, 3, best=Best(2, {"model": content("b"), "tokenizer": content("t")}))
    path = tmp_path / "step-3" / name
    good = path.read_bytes()
    bits = range(0, 8 * len(good), 1 + 8 * len(good) // 500)
    for bit in bits:
        path.write_bytes(good[: bit // 8] + bytes([good[bit // 8] ^ 1 << bit % 8]) + good[bit // 8 + 1 :])
        with pytest.raises(CheckpointError, match=str(path)):
            verify(tmp_path / "step-3")
    path.write_bytes(good)
    verify(tmp_path / "step-3")


@pytest.mark.parametrize("damage", ["shorter", "longer", "empty", "missing"])
@pytest.mark.parametrize("name", FILES)
def test_every_cut_is_detected(name: str, damage: str, tmp_path: Path) -> None:
    save(tmp_path, 3, best=Best(2, {"model": content("b"), "tokenizer": content("t")}))
    path = tmp_path / "step-3" / name
    good = path.read_bytes()
    path.write_bytes({"shorter": good[:-1], "longer": good + b"\n", "empty": b"", "missing": b""}[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(CheckpointError) as caught:
        verify(tmp_path / "step-3")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["symlink", "symlink to itself", "fifo", "folder"])
@pytest.mark.parametrize("name", [*FILES, BEST])
def test_only_plain_files_are_ever_opened(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 3, best=Best(2, {"model": content("b"), "tokenizer": content("t")}))
    path, outside = tmp_path / "step-3" / name, tmp_path / "outside"
    path.rename(outside)
    if kind == "symlink":
        path.symlink_to(outside)
    elif kind == "symlink to itself":
        path.symlink_to(path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: opened.append(str(path)) or real(path, *rest, **more))
    with pytest.raises(CheckpointError):
        verify(tmp_path / "step-3")
    assert str(path) not in opened
    assert not any(name.startswith(str(outside)) for name in opened)


def test_a_best_validation_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a", 3, best=Best(2, {"model": content("b"), "tokenizer": None}))
    save(tmp_path / "b", 3, best=Best(2, {"model": content("c"), "tokenizer": None}))
    shutil.rmtree(tmp_path / "a" / "step-3" / BEST)
    shutil.copytree(tmp_path / "b" / "step-3" / BEST, tmp_path / "a" / "step-3" / BEST)
    with pytest.raises(CheckpointError, match="damaged"):
        verify(tmp_path / "a" / "step-3")


def test_files_that_the_manifest_does_not_list_are_not_read(tmp_path: Path) -> None:
    folder = save(tmp_path, 3)
    os.mkfifo(folder / "extra.pkl")
    (folder / BEST).symlink_to(tmp_path)
    assert verify(folder).step == 3
