from __future__ import annotations

import os

import torch

from deep_delta.benchmarks.memory import peak_bytes, saved_bytes
from tests.benchmarks.conftest import CPU

MIB = 1 << 20


def megabyte(requires_grad: bool = False) -> torch.Tensor:
    return torch.ones(MIB // 4, requires_grad=requires_grad)


def test_the_peak_is_the_most_that_is_held_at_once() -> None:
    def run() -> None:
        first, second = megabyte(), megabyte()
        del first
        third = megabyte()  # noqa: F841
        del second

    assert 2 * MIB <= peak_bytes(run, CPU) < 2.1 * MIB


def test_what_was_there_before_does_not_count() -> None:
    held = megabyte()
    assert peak_bytes(lambda: held.sum(), CPU) < MIB / 10


def test_nothing_is_told_of_devices_that_cannot_tell() -> None:
    assert peak_bytes(megabyte, torch.device("meta")) is None


def test_the_profiler_is_silent_and_stderr_comes_back(capfd) -> None:
    peak_bytes(megabyte, CPU)
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


def test_saved_storages_count_once_and_parameters_never() -> None:
    x, weight = megabyte(requires_grad=True), megabyte(requires_grad=True)
    assert saved_bytes(lambda: (x * weight).sum(), []) == 2 * MIB
    assert saved_bytes(lambda: (x * weight).sum(), [weight]) == MIB
    assert saved_bytes(lambda: (x * weight * x.view(-1)).sum(), [weight]) == 2 * MIB  # x, and x · weight
    assert saved_bytes(lambda: x.sum(), []) == 0
