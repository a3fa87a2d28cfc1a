import os
import subprocess
import sys

import pytest
import torch

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.errors import BackendError, ConfigError
from deep_delta.training import memory


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu:0"])
def test_names_that_devices_have(name):
    check_device_name(name)


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:x", "auto:1", "meta", "cuda:99999", "cpu cuda"])
def test_names_that_no_device_has(name):
    with pytest.raises(ConfigError, match="unknown device"):
        check_device_name(name)


def test_cpu_is_always_there():
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_a_gpu_where_there_is_one():
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_device_that_is_not_there_says_why():
    absent = "cuda:999" if torch.cuda.is_available() else "cuda"
    with pytest.raises(BackendError, match=rf"device {absent} is not available here: \w+") as caught:
        resolve_device(absent)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_is_kept_for_the_next_step():
    program = (
        "import resource, torch; from deep_delta.cli.device import resolve_device; resolve_device('cpu')\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def step(): tensors = [torch.ones(1 << 22) for _ in range(8)]\n"
        "for _ in range(20): step()\n"
        "before = faults(); step(); print(faults() - before)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    assert int(found.stdout) < 1000  # of 32,768 pages


@pytest.mark.parametrize("variable", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_a_user_has_said_about_memory_stands(variable, monkeypatch):
    monkeypatch.setenv(variable, "2")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("the allocator was asked"))
    memory.keep_freed_memory()
