from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from deep_delta.errors import CheckpointError, StorageError
from deep_delta.runs import storage
from tests.runs.faults import FaultyDisk, Killed


@pytest.mark.parametrize("mode", ["kill", "error"])
def test_an_atomic_write_is_seen_whole_or_not_at_all(mode: str, tmp_path: Path, disk: FaultyDisk) -> None:
    path, seen = tmp_path / "report.json", set()
    count, num_calls = 0, 1
    while count <= num_calls:
        path.write_text("old")
        with disk.failing(mode, at=count), suppress(Killed, StorageError):
            storage.atomic_write(path, "new text")
        seen.add(path.read_text())
        if mode == "error":
            assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
        count, num_calls = count + 1, len(disk.trace)
    assert seen == {"old", "new text"}
    storage.atomic_write(path, b"\x00newer")
    assert path.read_bytes() == b"\x00newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_refusing_disk_is_one_line_with_file_reason_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"cannot write .*/no/report.json: No such file.*; make room or choose"
    ) as caught:
        storage.atomic_write(tmp_path / "no" / "report.json", "text")
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)


def test_a_full_device_is_a_storage_error() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StorageError, match="No space left"), storage.storage_errors(Path("/dev/full")):
        storage.write_all(descriptor, b"text")
    os.close(descriptor)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
    storage.write_new(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_reading_never_opens_what_is_not_a_plain_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path, what in [("pipe", "a pipe"), ("link", "a symbolic link"), (".", "a folder"), ("none", "No such file")]:
        with pytest.raises(CheckpointError, match=what):
            storage.read_regular(tmp_path / path, limit=10)
    with pytest.raises(CheckpointError, match="a pipe, socket or device"):
        storage.hash_regular(Path("/dev/zero"))


def test_a_file_swapped_after_the_look_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    looked = path.lstat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "lstat", lambda self: looked)
    with pytest.raises(CheckpointError, match="was replaced"):
        storage.read_regular(path, limit=10)
    assert stat.S_ISREG(looked.st_mode)


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert storage.read_regular(tmp_path / "file", limit=10) == b"0123456789"
    with pytest.raises(CheckpointError, match="longer than 9 bytes"):
        storage.read_regular(tmp_path / "file", limit=9)


def test_space_is_asked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    storage.require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(StorageError, match=r"needs 1,000,000,000,000\.0 MB .* are free; free some space"):
        storage.require_space(tmp_path / "not" / "yet", 10**18)
    assert not any(tmp_path.iterdir())


def test_folders_are_made_with_their_parents(tmp_path: Path) -> None:
    storage.make_folder(tmp_path / "a" / "b")
    storage.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/b"):
        storage.make_folder(tmp_path / "file" / "b")


def test_removing_takes_links_and_not_what_they_point_at(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    storage.remove(tmp_path / "link")
    assert (tmp_path / "folder" / "file").exists()
    storage.remove(tmp_path / "folder")
    assert not any(tmp_path.iterdir())
