"""What a type checker is told about the delta rule over time: `mypy` reads this file, `pytest` runs it."""

from __future__ import annotations

from typing import assert_type

import pytest
import torch
from torch import Tensor

from deep_delta import chunk_delta_rule, delta_rule_step, recurrent_delta_rule


def draw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    q, k, v = torch.randn(3, 1, 2, 5, 4).unbind(0)
    return q, k, v, torch.rand(1, 2, 5)


def test_the_output_alone_is_a_tensor() -> None:
    q, k, v, beta = draw()
    o: Tensor = chunk_delta_rule(q, k, v, beta, 16)
    assert_type(chunk_delta_rule(q, k, v, beta, output_final_state=False), Tensor)
    assert_type(recurrent_delta_rule(q, k, v, beta), Tensor)
    assert o.shape == v.shape


def test_with_the_final_state_it_is_a_pair() -> None:
    q, k, v, beta = draw()
    o, S = chunk_delta_rule(q, k, v, beta, output_final_state=True)
    assert_type(S, Tensor)
    assert_type(recurrent_delta_rule(q, k, v, beta, output_final_state=True, scale=1.0), tuple[Tensor, Tensor])
    assert_type(delta_rule_step(q[:, :, 0], k[:, :, 0], v[:, :, 0], beta[:, :, 0], S), tuple[Tensor, Tensor])
    assert o.shape == v.shape


@pytest.mark.parametrize("output_final_state", [False, True])
def test_where_that_is_not_known_it_is_either(output_final_state: bool) -> None:
    q, k, v, beta = draw()
    found = chunk_delta_rule(q, k, v, beta, output_final_state=output_final_state)
    assert_type(found, Tensor | tuple[Tensor, Tensor])
    assert isinstance(found, tuple) == output_final_state
