"""Small C kernels, compiled at first use with the machine's own compiler and kept in the user's cache folder.

The kernels have a plain C interface and are called through ctypes with pointers: they depend on no version of PyTorch.
They run on PyTorch's own OpenMP threads: the library names the runtime's functions and finds them in the process.
Without a compiler nothing breaks: every operator has another backend.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deep_delta.errors import BackendError, StorageError
from deep_delta.ops.tracing import ORDINARY, ordinary, recorded
from deep_delta.paths import cache_folder

FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
"""No -ffast-math and no -march=native: NaNs stay visible, and the code runs on any processor of its kind (kernels are
dispatched at run time)."""

_HERE = Path(__file__).parent
_log = logging.getLogger("deep_delta")


DTYPES = (torch.float32, torch.bfloat16)
CPU = torch.device("cpu")
"""Where every buffer for a kernel is, whatever the default device."""
REMEDY = "; what traces a backward pass must trace its forward pass too, or set DEEP_DELTA_BACKEND=reference"


def unavailable(*tensors: Tensor | None) -> str | None:
    """Why the kernels cannot run on these tensors; None when they can. The first call may compile (1 s)."""
    for tensor in tensors:
        if tensor is None:
            continue
        if not tensor.is_cpu:
            return f"it runs on a CPU, and a tensor is on {tensor.device}"
        if tensor.dtype not in DTYPES:
            return f"it computes in fp32 on fp32 or bf16 tensors, and one is {tensor.dtype}"
    if torch.compiler.is_compiling():
        return None  # a graph may hold the op; `call` says so when it runs
    if not ordinary(*tensors):
        kinds = ", ".join(sorted({type(one).__name__ for one in tensors if not ordinary(one)}))
        return f"it reads memory, and the values of a {kinds} may not be there"
    library = _library()
    return library if isinstance(library, str) else None


def call(name: str, arguments: ctypes.Structure, **operands: Tensor | None) -> None:
    """Call the kernel `name` with every operand's address set in its arguments; they live until it returns.

    Raises `BackendError` with the reason where there are no kernels, where an operand has no memory to point at, and
    where a graph is being recorded, which would hold the results' memory and nothing that fills it.
    """
    library = _library()
    if isinstance(library, str):
        raise BackendError(f"the native kernels cannot run: {library}")
    if recorded():
        raise BackendError(f"the native kernels cannot be recorded in a graph{REMEDY}")
    for field, tensor in operands.items():
        if tensor is None:
            continue
        if type(tensor) in ORDINARY and tensor.is_cpu and (address := tensor.data_ptr()):
            if not tensor.is_contiguous():
                raise BackendError(f"the native kernels read rows, and {field} has strides {tensor.stride()}")
            setattr(arguments, field, address)
        elif type(tensor) not in ORDINARY or tensor.numel():
            kind = f"{type(tensor).__name__} on {tensor.device}"
            raise BackendError(f"the native kernels read a CPU's memory, and {field} is a {kind}{REMEDY}")
    function: Callable[..., int] = getattr(library, name)
    if function(ctypes.byref(arguments)):
        raise MemoryError(f"no memory for the scratch rows of {name}")


def rows(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> Tensor | None:
    """As the kernels read it: contiguous, in this precision."""
    if tensor is None or (tensor.dtype == dtype and tensor.is_contiguous() and not tensor.is_neg()):
        return tensor
    return tensor.to(dtype).contiguous().resolve_neg()


def threads(tokens: int) -> int:
    """How many to use: one token is done before a second thread has woken up."""
    return max(1, min(torch.get_num_threads(), tokens))


@functools.cache
def _library() -> ctypes.CDLL | str:
    """The compiled kernels, or the reason in words why there are none."""
    named = shlex.split(os.environ.get("CC", ""))
    compiler = named or next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), [])
    if not compiler or shutil.which(compiler[0]) is None:
        return "there is no C compiler (cc, gcc or clang, or the one that CC names)"
    failure = ""
    for openmp in (True, False) if torch.backends.openmp.is_available() else (False,):
        try:
            return ctypes.CDLL(str(_build(compiler, openmp)))
        except subprocess.CalledProcessError as error:
            failure = f"{compiler[0]} failed: {(error.stderr.strip() or str(error)).splitlines()[-1]}"
        except (OSError, subprocess.TimeoutExpired, StorageError) as error:
            failure = f"the kernels could not be built: {error}"
    return failure


def _build(compiler: Sequence[str], openmp: bool) -> Path:
    """Compile into the cache, unless the same sources, flags and compiler have been before."""
    compile_flags = [*FLAGS, *(["-fopenmp"] if openmp else [])]
    version = _run(*compiler, "--version")
    sources = sorted(_HERE.glob("*.[ch]"))
    key = "\0".join((*(source.read_text() for source in sources), *compile_flags, version, platform.machine()))
    built = cache_folder() / "native" / f"kernels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    stamp = built.with_suffix(".sha256")
    if stamp.exists() and built.exists() and stamp.read_text() == _sha256(built):
        return built
    built.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        objects = []
        for source in sources:
            if source.suffix == ".c":
                objects.append(f"{folder}/{source.stem}.o")
                _run(*compiler, *compile_flags, "-c", str(source), "-o", objects[-1])
        linked = Path(folder, built.name)
        # linked without naming an OpenMP library: a second one in the process would fight the first for the cores
        _run(*compiler, "-shared", *objects, "-o", str(linked), "-lm")
        Path(folder, "stamp").write_text(_sha256(linked))
        linked.rename(built)  # whole or not at all, also when two processes build at once
        Path(folder, "stamp").rename(stamp)
    _log.info("compiled %s with %s", built, compiler[0])
    return built


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
