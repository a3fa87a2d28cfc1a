from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deep_delta.errors import CheckpointError, ConfigError
from deep_delta.runs.layout import LATEST, RunFolder, StepName, resolve_checkpoint, step_names


def folder_of(checkpoints: Path, *names: str) -> Path:
    for name in names:
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "manifest.json").touch()
    return checkpoints


def test_a_new_run_needs_an_unused_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "a" / "run").create()
    assert run.path.is_dir()
    with run.lock():
        pass
    run.create()  # a lock file alone is no run
    run.variant("ddl").events.append("started")
    with pytest.raises(ConfigError, match=r"not empty; continue it with --resume"):
        run.create()
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "file").create()


def test_opening_a_run_that_is_not_there_names_it(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).open().path == tmp_path
    with pytest.raises(CheckpointError, match=r"no run folder .*/none"):
        RunFolder(tmp_path / "none").open()


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.lock(), pytest.raises(ConfigError, match=rf"pid {os.getpid()}\) is writing to"), run.lock():
        pass
    code = (
        "import sys; from pathlib import Path; from deep_delta.runs.layout import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).lock(): print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=rf"pid {other.pid}\)"), run.lock():
            pass
        other.kill()
    with run.lock():
        pass


def test_a_variant_cannot_lie_outside_its_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.variant("ddl-cc-ec").checkpoints == tmp_path / "ddl-cc-ec" / "checkpoints"
    for slug in ("", "..", "a/b", "/a", ".lock", "A", "a" * 65):
        with pytest.raises(ConfigError, match="variant's name"):
            run.variant(slug)


def test_the_variants_of_a_run_are_those_that_it_has_begun(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.variant("ddl").events.append("started")
    folder_of(run.variant("baseline").checkpoints, "step-1")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()
    assert [variant.slug for variant in run.variants()] == ["baseline", "ddl"]
    assert run.variant("baseline").latest() == run.variant("baseline").checkpoints / "step-1"
    assert run.variant("ddl").latest() is None


def test_steps_are_ordered_by_number_and_by_saving(tmp_path: Path) -> None:
    folder_of(tmp_path, "step-10", "step-9.10", "step-9.2", "step-9", "step-09", "step-9.1", "step--1", "step-1a", "x")
    (tmp_path / "step-5").touch()
    (tmp_path / "step-6").symlink_to(tmp_path / "step-9")
    assert [str(name) for name in step_names(tmp_path)] == ["step-9", "step-9.2", "step-9.10", "step-10"]
    assert step_names(tmp_path / "none") == []
    assert StepName.parse("step-3.2") == StepName(3, 2)


def test_a_checkpoint_goes_by_several_names(tmp_path: Path) -> None:
    checkpoints = folder_of(tmp_path / "ddl" / "checkpoints", "step-1", "step-2", "step-2/best_validation")
    (checkpoints / LATEST).write_text("step-1\n")
    for path in (checkpoints / LATEST, checkpoints, checkpoints.parent, str(checkpoints / "step-1")):
        assert resolve_checkpoint(path) == checkpoints / "step-1"
    best = checkpoints / "step-2" / "best_validation"
    assert resolve_checkpoint(best) == best


def test_a_checkpoint_lies_in_a_run_wherever_it_is_named_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = folder_of(tmp_path / "ddl" / "checkpoints", "step-1", "step-1/best_validation")
    monkeypatch.chdir(checkpoints)
    for name in ("step-1", "../checkpoints/step-1", "step-1/best_validation", checkpoints / "step-1"):
        assert RunFolder.around(Path(name)).path == tmp_path
    assert RunFolder.around(Path("/step-1")).path == Path("/")


def test_before_the_first_latest_the_newest_complete_folder_is_meant(tmp_path: Path) -> None:
    folder_of(tmp_path, "step-2", "step-10")
    (tmp_path / "step-11").mkdir()
    assert resolve_checkpoint(tmp_path) == tmp_path / "step-10"


def test_what_is_no_checkpoint_is_refused_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*none; give a step-N folder"):
        resolve_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        resolve_checkpoint(tmp_path)
    for slug in ("baseline", "ddl"):
        folder_of(tmp_path / slug / "checkpoints", "step-1")
    with pytest.raises(CheckpointError, match=r"is a run of baseline, ddl; choose one, as .*/baseline"):
        resolve_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "../step-1", "/etc", "step-1/../step-1", "step-1\nstep-2\n", "step-1 ", "step-\u0661", "x" * 10**6],
)
def test_a_damaged_latest_is_refused(text: str, tmp_path: Path) -> None:
    folder_of(tmp_path, "step-1")
    (tmp_path / LATEST).write_text(text)
    for path in (tmp_path, tmp_path / LATEST):
        with pytest.raises(CheckpointError, match=LATEST) as caught:
            resolve_checkpoint(path)
        assert "\n" not in str(caught.value)


def test_latest_follows_no_links(tmp_path: Path) -> None:
    folder_of(tmp_path, "step-1")
    (tmp_path / "step-2").symlink_to(tmp_path / "step-1")
    (tmp_path / LATEST).write_text("step-2")
    with pytest.raises(CheckpointError, match=r"names step-2, which is not a folder there; .*: step-1"):
        resolve_checkpoint(tmp_path)
    (tmp_path / "pointer").write_text("step-1")
    (tmp_path / LATEST).unlink()
    (tmp_path / LATEST).symlink_to(tmp_path / "pointer")
    with pytest.raises(CheckpointError, match="symbolic link"):
        resolve_checkpoint(tmp_path)
    (tmp_path / LATEST).unlink()
    os.mkfifo(tmp_path / LATEST)
    with pytest.raises(CheckpointError, match="a pipe"):
        resolve_checkpoint(tmp_path)
