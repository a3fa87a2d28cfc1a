from __future__ import annotations

import errno
import os
import random
import time
from pathlib import Path

import pytest

from deep_delta.data.cache import cached
from deep_delta.errors import DeepDeltaError, StorageError
from deep_delta.paths import cache_folder

CONTENT = bytes(range(256)) * 40


def _make(content: bytes = CONTENT):
    calls: list[int] = []

    def write(file) -> None:
        calls.append(1)
        file.write(content)

    return write, calls


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_made_once(cache):
    write, calls = _make()
    for _ in range(3):
        path = cached("x.bin", write)
        assert path == cache / "x.bin"
        assert path.read_bytes() == CONTENT
    assert len(calls) == 1
    assert _names(cache) == {"x.bin", "x.bin.json"}


def test_the_folder_is_the_users_choice_or_in_his_home(cache, monkeypatch, tmp_path):
    assert cache_folder() == cache
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DEEP_DELTA_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("DEEP_DELTA_CACHE")
    assert cache_folder() == tmp_path / ".cache" / "deep_delta"


def test_without_a_home_the_remedy_is_named(monkeypatch):
    monkeypatch.setenv("DEEP_DELTA_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(StorageError, match=r"no place for the cache .* name a folder in DEEP_DELTA_CACHE"):
        cached("x.bin", _make()[0])


def test_any_damage_is_found_and_the_file_made_again():
    write, calls = _make()
    path = cached("x.bin", write)
    draw = random.Random(0)
    for _ in range(100):
        damaged = bytearray(CONTENT)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        assert cached("x.bin", write).read_bytes() == CONTENT
    assert len(calls) == 101


@pytest.mark.parametrize("damage", [CONTENT[:-1], b"", CONTENT + b"x"], ids=["cut", "empty", "longer"])
def test_another_length_is_found(damage, caplog):
    write, _ = _make()
    cached("x.bin", write).write_bytes(damage)
    assert cached("x.bin", write).read_bytes() == CONTENT
    assert "damaged, making it again" in caplog.text


@pytest.mark.parametrize("stamp", [b"", b"{}", b"\xff", b'{"format_version": 2, "size": 1, "sha256": ""}', None])
def test_a_file_without_its_stamp_is_made_again(stamp):
    write, calls = _make()
    path = cached("x.bin", write)
    if stamp is None:
        path.with_name("x.bin.json").unlink()
    else:
        path.with_name("x.bin.json").write_bytes(stamp)
    assert cached("x.bin", write).read_bytes() == CONTENT
    assert len(calls) == 2


def test_a_writer_that_fails_leaves_nothing(cache):
    def write(file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("x.bin", write)
    assert _names(cache) == set()


def test_an_error_of_the_writer_is_not_the_disks():
    def write(file) -> None:
        raise DeepDeltaError("the corpus is bad")

    with pytest.raises(DeepDeltaError, match="the corpus is bad"):
        cached("x.bin", write)


def test_a_full_disk_is_one_line_and_leaves_nothing(cache):
    def write(file) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match=r"x\.bin: No space left on device; make room or .* DEEP_DELTA_CACHE"):
        cached("x.bin", write)
    assert _names(cache) == set()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="Not a directory"):
        cached("x.bin", _make()[0])


def test_a_read_only_folder_serves_what_it_has_and_names_the_remedy_for_the_rest(cache, monkeypatch):
    write, calls = _make()
    cached("x.bin", write)
    if os.geteuid():
        cache.chmod(0o500)
    else:

        def refuse(**_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert cached("x.bin", write).read_bytes() == CONTENT
    assert len(calls) == 1
    with pytest.raises(StorageError, match="name another folder in DEEP_DELTA_CACHE"):
        cached("y.bin", write)
    cache.chmod(0o700)


def test_what_killed_processes_left_is_removed_in_time(cache):
    old, young = cache / ".tmp-old", cache / ".tmp-young"
    old.write_text("half")
    young.write_text("half")
    os.utime(old, (time.time() - 90_000,) * 2)
    cached("x.bin", _make()[0])
    assert _names(cache) == {"x.bin", "x.bin.json", ".tmp-young"}
