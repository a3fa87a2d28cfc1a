"""A cache is as it was after a forward pass that failed, wherever it failed; and rows are chosen as they are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deep_delta import DdlTransformer
from tests.models.test_parts_take_effect import CONFIGURATIONS, IDS, build
from tests.tolerances import relative_error


def failing(*_: Any) -> None:
    raise InterruptedError


@pytest.mark.parametrize("name", ["untied", "hybrid"])
def test_a_pass_that_fails_in_any_part_leaves_the_cache_as_it_was(name: str) -> None:
    model = build(name)
    expected = model(IDS)
    for part in [name for name, _ in model.named_modules() if name and name != "blocks"]:
        _decode_around(model, part, expected)


def _decode_around(model: DdlTransformer, part: str, expected: torch.Tensor) -> None:
    """Decode, and fail once on the way."""
    with torch.no_grad():
        cache = model.new_cache(2)
        model(IDS[:, :3], cache=cache)
        handle = model.get_submodule(part).register_forward_hook(failing)
        with pytest.raises(InterruptedError):
            model(IDS[:, 3:5], cache=cache)
        handle.remove()
        assert cache.positions == [3, 3], part
        rest = torch.cat([model(piece, cache=cache) for piece in IDS[:, 3:].split([2, 3], 1)], 1)
    assert relative_error(rest, expected[:, 3:]) < 1e-5, part


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if CONFIGURATIONS[name].tie_embeddings])
def test_a_pass_that_fails_where_a_tied_output_is_computed_leaves_the_cache_as_it_was(name: str) -> None:
    model = build(name)
    cache = model.new_cache(2)
    model(IDS[:, :3], cache=cache)
    embedding = model.embedding
    model.embedding = torch.nn.Sequential(embedding)
    with pytest.raises(ValueError, match="tie_embeddings"):
        model(IDS[:, 3:5], cache=cache)
    model.embedding = embedding
    assert cache.positions == [3, 3]
    assert relative_error(model(IDS[:, 3:], cache=cache), model(IDS)[:, 3:]) < 1e-5


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32, np.int64])
def test_rows_given_as_numbers_of_any_kind_are_numbers(kind: Any) -> None:
    model = build("hybrid")
    cache = model.new_cache(2)
    model(IDS[:, :3], cache=cache)
    for rows in ([1, 1], [1, 0]):
        chosen = cache.select(np.array(rows, kind))
        assert relative_error(model(IDS[rows, 3:], cache=chosen), model(IDS[rows])[:, 3:]) < 1e-5
