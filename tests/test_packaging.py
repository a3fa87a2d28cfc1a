"""What a fresh machine installs: every requirement is pinned, and what CI resolves is what the package declares."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = re.findall(r"(?m)^([\w.-]+)==", (ROOT / "constraints.txt").read_text())


@pytest.fixture(scope="module")
def resolve() -> ModuleType:
    spec = importlib.util.spec_from_file_location("resolve", ROOT / ".ci/resolve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0]


def test_every_requirement_is_resolved_and_pinned(resolve: ModuleType) -> None:
    asked = {named(one) for one in resolve.requirements(PROJECT)}
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = {named(one) for lines in (PROJECT["project"]["dependencies"], *extras) for one in lines}
    assert declared - {"deep-delta-learning"} | {"hatchling"} == asked
    assert asked - {"hatchling"} <= set(PINS), "pinned in constraints.txt"
    assert len(PINS) == len(set(PINS))


def test_the_supported_pythons_are_the_resolved_ones(resolve: ModuleType) -> None:
    assert resolve.pythons(PROJECT) == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_neither_local_wheels_nor_other_indexes_are_seen(resolve: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_CONSTRAINT", "PIP_CERT"):
        monkeypatch.setenv(name, "elsewhere")
    seen = {name: value for name, value in resolve.environment().items() if name.startswith("PIP_")}
    assert seen.keys() <= {"PIP_CONFIG_FILE", "PIP_DISABLE_PIP_VERSION_CHECK", *resolve.TRANSPORT}
    assert seen["PIP_CONFIG_FILE"] == "/dev/null"


@pytest.mark.parametrize("index", ["", "there"], ids=["public index", "another index"])
def test_another_index_is_for_torch_alone(index: str) -> None:
    command = ["make", "--dry-run", "--always-make", "test", f"TORCH_INDEX={index}"]
    planned = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    installs = [line for line in planned if "pip install" in line]
    assert [("torch==" in line, "--index-url there" in line) for line in installs] == [
        (True, bool(index)),
        (False, False),
        (False, False),
    ]
