"""Do the pinned versions install from the public index alone, on every supported Python?

Asks pip to resolve the package with all its extras and its build system under `constraints.txt`: a solution of
everything together is one of each extra. Local wheels and other indexes are out of its sight. Nothing is installed, and
only metadata is fetched. pip resolves for another Python than its own, but reads markers as its own: what a package
wants on one Python only is seen where this script runs on that Python. Nor does it resolve what exists as sources only
for another Python: `SOURCES_ONLY` is asked for on the Python that runs this script alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRANSPORT = ("PIP_CERT", "PIP_PROXY", "PIP_DEFAULT_TIMEOUT")  # how to reach an index, not which one
SOURCES_ONLY = ("lm-eval",)  # needs rouge-score, sqlitedict and word2number, of which there are no wheels
PIP = "pip>=25.3"  # the first whose dry run fetches no wheels once it knows their metadata


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        pip = own_pip(Path(folder))
        asked = requirements(project)
        built = [line for line in asked if not line.startswith(SOURCES_ONLY)]
        codes = [resolve(pip, built, Path(folder), version) for version in pythons(project)]
        return max(*codes, resolve(pip, asked, Path(folder)))


def requirements(project: dict) -> list[str]:
    """What the package, each of its extras and its build system ask for; extras that name other extras add nothing."""
    own = project["project"]
    lists = [own["dependencies"], *own["optional-dependencies"].values(), project["build-system"]["requires"]]
    asked = {line for lines in lists for line in lines if re.match(r"[\w.-]+", line)[0] != own["name"]}
    return sorted(asked)


def pythons(project: dict) -> list[str]:
    """The supported versions: the classifiers of the package."""
    prefix = "Programming Language :: Python :: 3."
    return [one.split()[-1] for one in project["project"]["classifiers"] if one.startswith(prefix)]


def own_pip(folder: Path) -> list[str]:
    venv.create(folder / "venv", with_pip=True)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "install"]
    subprocess.run([*pip, "--quiet", "--upgrade", PIP], env=environment(), check=True)
    return pip


def resolve(pip: list[str], asked: list[str], folder: Path, version: str | None = None) -> int:
    """Print whether there is a solution, for this Python where no version is given; 0 where there is one."""
    started = time.monotonic()
    options = ["--dry-run", "--ignore-installed", "--use-feature=fast-deps"]
    if version is not None:
        options += ["--only-binary=:all:", "--python-version", version, "--target", str(folder / "target")]
    options += ["--constraint", str(ROOT / "constraints.txt"), *asked]
    ended = subprocess.run(
        [*pip, *options], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    told = "fails" if ended.returncode else "resolves"
    where = "everything on this Python" if version is None else f"Python {version}"
    print(f"{where}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
    if ended.returncode:
        print("\n".join(ended.stdout.splitlines()[-14:]), flush=True)
    return ended.returncode


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name in TRANSPORT}
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


if __name__ == "__main__":
    sys.exit(main())
