"""The documentation is true: its Python runs, its commands run, its links lead somewhere, its table is the code's."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deep_delta import VARIANTS, variant_config
from deep_delta.models.variants import PAPER_NAMES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "src").rglob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


@pytest.mark.parametrize("page", pages_with("python"), ids=lambda page: page.name)
def test_python_runs_from_top_to_bottom(page: Path) -> None:
    program = "\n".join(blocks(page, "python"))
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120, cwd=ROOT)


WITH_EXAMPLES = [path for path in sorted((ROOT / "src").rglob("*.py")) if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings_run(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize(
    "more", [" --train.max-steps 8", pytest.param("", marks=pytest.mark.slow)], ids=["short", "as written"]
)
@pytest.mark.parametrize("page", pages_with("console"), ids=lambda page: page.name)
def test_commands_run_one_after_the_other(page: Path, more: str, tmp_path: Path) -> None:
    """more: what training gets besides, so that it is soon over."""
    for name in ("book.txt", "other.txt"):
        (tmp_path / name).write_text("".join(f"Line {number} of the {name}.\n" for number in range(2000)))
    commands = [line[2:] for line in "\n".join(blocks(page, "console")).splitlines() if line.startswith("$ ")]
    commands = [command for command in commands if command.startswith("ddl ")]
    assert commands
    ddl = Path(sys.executable).parent / "ddl"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # the suite runs one process a core
    for command in commands:
        command = command.replace("ddl", str(ddl), 1) + (more if command.startswith("ddl train") else "")
        subprocess.run(command, shell=True, check=True, timeout=300, cwd=tmp_path, env=environment)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_table_of_variants_is_the_codes() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = [
        line.split("|")[1:-1] for line in readme.splitlines() if line.startswith(tuple(f"| `{s}` " for s in VARIANTS))
    ]
    assert [row[0].strip(" `") for row in rows] == list(VARIANTS)
    for slug, name, channels, _, convolution in ([cell.strip() for cell in row] for row in rows):
        config = variant_config(slug.strip("`"), d_model=8, num_layers=1, num_heads=1, vocab_size=2)
        assert name == PAPER_NAMES[slug.strip("`")]
        assert channels == ("–" if config.residual == "additive" else str(config.d_value))
        assert (convolution == "yes") == config.embed_conv
