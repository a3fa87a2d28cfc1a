from __future__ import annotations

import base64
import json
import random

import numpy as np
import pytest
import torch

from deep_delta.errors import CheckpointError
from deep_delta.training.rng import RngState, capture_rng, restore_rng


def draws() -> tuple:
    return (
        torch.randn(5).tolist(),
        torch.randint(0, 1000, (7,)).tolist(),
        np.random.standard_normal(3).tolist(),  # noqa: NPY002
        np.random.randint(0, 1000, 700).tolist(),  # noqa: NPY002
        random.gauss(0, 1),
        [random.random() for _ in range(700)],
    )


def read(text: str) -> RngState:
    return RngState.from_json(text, error=CheckpointError, where="state.json")


@pytest.mark.parametrize("before", [0, 1, 2, 5])
def test_every_generator_goes_on_as_if_nothing_had_been_between(before: int) -> None:
    for _ in range(before):  # an odd number leaves a second normal deviate waiting
        torch.randn(1), np.random.standard_normal(), random.gauss(0, 1)  # noqa: NPY002
    text = capture_rng().to_json()
    expected = draws()
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    assert draws() != expected
    restore_rng(read(text))
    assert draws() == expected


def test_capturing_draws_nothing() -> None:
    assert capture_rng() == capture_rng()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("torch_cpu", "not base64!"),
        ("torch_cpu", 7),
        ("torch_cuda", "AAAA"),
        ("numpy", {"key": "AAAA", "position": 0, "waiting": None}),
        ("python", {"key": base64.b64encode(bytes(2496)).decode(), "position": 625, "waiting": None}),
        ("python", {"key": base64.b64encode(bytes(2496)).decode(), "position": True, "waiting": None}),
        ("python", {"key": "!" * 3328, "position": 0, "waiting": None}),
    ],
)
def test_what_is_no_state_is_refused_when_it_is_read(field: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"state\.json: {field}"):
        read(json.dumps(json.loads(capture_rng().to_json()) | {field: value}))


def test_a_state_that_torch_refuses_is_a_value_error() -> None:
    state = capture_rng().model_copy(update={"torch_cpu": "AAAA"})
    with pytest.raises(ValueError, match="rng: "):
        restore_rng(state)
