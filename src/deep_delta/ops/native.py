"""Small C kernels, compiled at first use with the machine's own compiler and kept in the user's cache folder.

The kernels have a plain C interface and are called through ctypes with pointers: they depend on no version of PyTorch.
They run on PyTorch's own OpenMP threads: the object names the runtime's functions and finds them in the process.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from deep_delta.errors import StorageError
from deep_delta.paths import cache_folder

FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fPIC")
"""No -ffast-math and no -march=native: NaNs stay visible, and the code runs on any processor of its kind (kernels are
dispatched at run time)."""

_log = logging.getLogger("deep_delta")


class Library:
    """A compiled kernel file, or the reason in words why there is none."""

    def __init__(self, source: Path) -> None:
        self.source = source

    @functools.cached_property
    def reason(self) -> str | None:
        """Why it cannot be had on this machine; None when it can. The first call compiles (a second or two)."""
        return self._opened if isinstance(self._opened, str) else None

    @property
    def functions(self) -> ctypes.CDLL:
        """The functions of the file. Raises `RuntimeError` with the reason where there are none."""
        if isinstance(self._opened, str):
            raise RuntimeError(self._opened)
        return self._opened

    @functools.cached_property
    def _opened(self) -> ctypes.CDLL | str:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None or shutil.which(compiler) is None:
            return "there is no C compiler (cc, gcc or clang, or the one that CC names)"
        failure = ""
        for openmp in (True, False) if torch.backends.openmp.is_available() else (False,):
            try:
                return ctypes.CDLL(str(self._build(compiler, openmp)))
            except subprocess.CalledProcessError as error:
                failure = (
                    f"{compiler} failed: {error.stderr.strip().splitlines()[-1] if error.stderr.strip() else error}"
                )
            except (OSError, subprocess.TimeoutExpired, StorageError) as error:
                failure = f"{self.source.name} could not be built: {error}"
        return failure

    def _build(self, compiler: str, openmp: bool) -> Path:
        """Compile into the cache, unless the same source, flags and compiler have been before."""
        compile_flags = [*FLAGS, *(["-fopenmp"] if openmp else [])]
        version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
        key = hashlib.sha256("\0".join((self.source.read_text(), *compile_flags, version)).encode()).hexdigest()[:16]
        built = cache_folder() / "native" / f"{self.source.parent.name}-{key}.so"
        stamp = built.with_suffix(".sha256")
        if stamp.exists() and built.exists() and stamp.read_text() == _sha256(built):
            return built
        built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            unlinked, linked = Path(folder, "kernel.o"), Path(folder, "kernel.so")
            # linked by itself, without naming an OpenMP library: a second one in the process would fight for the cores
            for command in (
                [compiler, *compile_flags, "-c", str(self.source), "-o", str(unlinked)],
                [compiler, "-shared", str(unlinked), "-o", str(linked), "-lm"],
            ):
                subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            digest = _sha256(linked)
            linked.rename(built)  # whole or not at all, also when two processes build at once
            Path(folder, "stamp").write_text(digest)
            Path(folder, "stamp").rename(stamp)
        _log.info("compiled %s with %s", built.name, compiler)
        return built


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
