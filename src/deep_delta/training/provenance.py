"""What produced a result: versions, commit and hardware, recorded with it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from deep_delta import __version__
from deep_delta.runs.comparison import Origin

_CPUINFO = Path("/proc/cpuinfo")


def origin(device: torch.device) -> Origin:
    """Where and with what this process computes."""
    return Origin(versions=versions(), commit=commit(), hardware=hardware(device))


def versions() -> dict[str, str]:
    return {
        "deep_delta": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def hardware(device: torch.device) -> dict[str, str]:
    """The machine as far as it decides speed and rounding."""
    found = {
        "system": platform.system(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "device": str(device),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def commit() -> str | None:
    """The commit of this source, `-dirty` where tracked files differ from it; None where git does not track it."""
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return f"{head}-dirty" if head and changes else head


def _git(*arguments: str) -> str | None:
    """What git says in this file's folder; None when it is not installed or fails."""
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    """The processor's model name."""
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
