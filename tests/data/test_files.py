from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import pytest

from deep_delta.data.files import embedded, find_files
from deep_delta.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    for name in ("b.txt", "a/z.txt", "a/y.md", "a.txt", ".hidden", ".git/config"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def _names(root: Path, spec: object) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_files(str(spec)).paths]


def test_a_folder_is_all_its_files_in_order_without_hidden_ones(folder):
    assert _names(folder, folder) == ["a.txt", "a/y.md", "a/z.txt", "b.txt"]
    assert find_files(str(folder)).name == "texts"
    assert find_files(f"{folder}/").name == "texts"


def test_a_glob_is_what_it_matches(folder):
    assert _names(folder, folder / "*.txt") == ["a.txt", "b.txt"]
    assert _names(folder, folder / "**" / "*.txt") == ["a.txt", "a/z.txt", "b.txt"]
    assert _names(folder, folder / "**") == ["a.txt", "a/y.md", "a/z.txt", "b.txt"]
    assert _names(folder, folder / "[ab]" / "?.txt") == ["a/z.txt"]
    assert _names(folder, folder / ".hid*") == [".hidden"]
    with pytest.raises(DataError, match=r"'.*\*\*\.txt' is no pattern|no file matches"):
        find_files(str(folder / "x**.txt"))
    with pytest.raises(DataError, match=r"no file matches '.*\.csv'"):
        find_files(str(folder / "*.csv"))


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder):
    odd = folder / "what[1]?.txt"
    odd.write_text("odd")
    assert find_files(str(odd)).paths == (odd,)


def test_relative_paths_and_home(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert find_files("a.txt").paths == (Path("a.txt"),)
    assert find_files("~/a.txt").paths == (folder / "a.txt",)
    assert find_files(".").name == "texts"


def test_links_that_lead_back_up_are_walked_once(folder):
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "a" / "self").symlink_to(folder / "a")
    (folder / "also_a").symlink_to(folder / "a")
    assert sorted(Path(name).name for name in _names(folder, folder)) == ["a.txt", "b.txt", "y.md", "z.txt"]
    assert sorted(Path(name).name for name in _names(folder, folder / "**")) == ["a.txt", "b.txt", "y.md", "z.txt"]


def test_a_linked_folder_elsewhere_is_read(folder, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "c.txt").write_text("c")
    (folder / "near").symlink_to(tmp_path / "far")
    assert "near/c.txt" in _names(folder, folder)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*gone\.txt"):
        find_files(str(tmp_path / "gone.txt"))
    with pytest.raises(DataError, match="cannot read ~nobody-of-this-name/a"):
        find_files("~nobody-of-this-name/a")
    with pytest.raises(DataError, match="holds no files"):
        find_files(str(tmp_path))


def test_links_to_nowhere_and_pipes_are_named_and_never_opened(folder):
    (folder / "broken.txt").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"broken\.txt is a link that leads nowhere"):
        find_files(str(folder))
    (folder / "broken.txt").unlink()
    (folder / "circle.txt").symlink_to("circle.txt")
    with pytest.raises(DataError, match=r"circle\.txt is a link that leads nowhere"):
        find_files(str(folder / "*.txt"))
    (folder / "circle.txt").unlink()
    os.mkfifo(folder / "pipe.txt")
    for spec in (folder, folder / "pipe.txt", folder / "*.txt"):
        with pytest.raises(DataError, match=r"pipe\.txt is neither a file nor a folder"):
            find_files(str(spec))


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read folder .*texts: Permission denied"):
        find_files(str(folder))


def test_the_embedded_corpus_is_the_library_itself():
    root = Path(sysconfig.get_path("stdlib"))
    paths = embedded().paths
    names = [path.relative_to(root).as_posix() for path in paths]
    assert names == sorted(names)
    assert {"json/decoder.py", "typing.py", "asyncio/tasks.py"} <= set(names)
    unwanted = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "encodings"}
    assert not unwanted & {part for path in paths for part in path.relative_to(root).parts}
    assert not any("sysconfigdata" in name for name in names)


def test_without_library_source_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(DataError, match="give a corpus with --data"):
        embedded()
