"""Blocks that somebody took out, repeated, reordered or added by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from deep_delta import DdlTransformer
from tests.models import plain_model
from tests.models.test_parts_take_effect import CONFIGURATIONS, IDS, build
from tests.tolerances import relative_error


def without_any(model: DdlTransformer) -> None:
    model.blocks = nn.ModuleList()


def the_first_alone(model: DdlTransformer) -> None:
    model.blocks = model.blocks[:1]


def one_at_three_places(model: DdlTransformer) -> None:
    model.blocks.append(model.blocks[1])
    model.blocks.insert(1, model.blocks[1])
    model.config = model.config.model_copy(update={"num_layers": 4, "attention_every": None})


@pytest.mark.parametrize("change", [without_any, the_first_alone, one_at_three_places])
@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if name != "hybrid"])
def test_a_model_computes_with_the_blocks_that_it_has(name: str, change: Callable[[DdlTransformer], None]) -> None:
    model = build(name)
    change(model)
    out, cache = model(IDS), model.new_cache(2)
    with torch.no_grad():
        decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([3, 1, 4], 1)], 1)
    assert relative_error(decoded, out) < 1e-5
    assert relative_error(out, _expected(model)) < 2e-5
    model(IDS, IDS).backward()


def _expected(model: DdlTransformer) -> torch.Tensor:
    """`plain_model`, which writes after the last block: where there is none, the embedding is read as it is."""
    if len(model.blocks):
        return plain_model.logits(model, IDS)
    c = model.norm(model.readout(model.expand(model.embedding(IDS))))
    return c @ model.embedding.weight.T if model.head is None else model.head(c)
