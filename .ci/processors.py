"""The core tests as lesser processors would run them, with one and two threads; a table of what passed.

PyTorch, MKL and oneDNN are told which instructions they may use, from SSE up to what this processor has. The project's
own kernels are compiled for every processor and choose by themselves. --short: the numerical tests alone, with one
thread, as two common processors below this one would run them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
NUMERICAL = ("ops", "nn", "models", "integrations")
CORE = (*NUMERICAL, "training", "evaluation", "generation", "spectral", "benchmarks", "data")
LEVELS = {  # PyTorch's kernels, MKL, oneDNN
    "default": ("default", "SSE4_2", "SSE41"),
    "avx2": ("avx2", "AVX2", "AVX2"),
    "avx512": ("avx512", "AVX512", "AVX512_CORE"),
}
VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true")
    short = parser.parse_args().short
    here = torch.backends.cpu.get_cpu_capability().lower()
    possible = list(LEVELS)[: list(LEVELS).index(here) + 1] if here in LEVELS else []
    settings = [level for level in possible if not short or level != "avx512"] + ([] if short else ["as it is"])
    print(f"this processor: {here}; {'numerical' if short else 'core'} tests", flush=True)
    print(f"{'instructions':<14}{'threads':<9}{'passed':<9}{'failed':<9}seconds", flush=True)
    failed = []
    for level in settings:
        for threads in (1,) if short else (1, 2):
            report, code = run(level, threads, NUMERICAL if short else CORE)
            if code:
                failed.append(f"{level}, {threads} threads:\n{report}")
    print("\n\n".join(failed))
    return bool(failed)


def run(level: str, threads: int, folders: tuple[str, ...]) -> tuple[str, int]:
    """One run of the tests, and its row. PyTorch's compiled code is kept apart: it is for one set of instructions."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-v", "--no-header", "--tb=short", f"--numprocesses={2 // threads}"]
    command += [f"tests/{folder}" for folder in folders]
    with tempfile.TemporaryDirectory() as compiled:
        chosen = dict(zip(VARIABLES, LEVELS[level], strict=True)) if level in LEVELS else {}
        environment = os.environ | chosen | {"TEST_THREADS": str(threads), "TORCHINDUCTOR_CACHE_DIR": compiled}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    counted = {word: number for number, word in re.findall(r"(\d+) (passed|failed|error)", ended.stdout)}
    wrong = int(counted.get("failed", 0)) + int(counted.get("error", 0))
    row = f"{level:<14}{threads:<9}{counted.get('passed', '0'):<9}{wrong:<9}{time.monotonic() - started:.0f}"
    print(row, flush=True)
    return ended.stdout[-6000:] + ended.stderr[-2000:], ended.returncode


if __name__ == "__main__":
    sys.exit(main())
