"""A transformer with hyper-connections: where it starts, and what training may do to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deep_delta import DdlConfig, DdlTransformer, TrainingConfig
from deep_delta.nn.hyper import HyperStream
from deep_delta.nn.residual import Rewrite
from deep_delta.training.optimizer import build_optimizer, decay_groups
from tests.tolerances import relative_error

SIZES: dict[str, Any] = {"d_model": 32, "num_layers": 3, "num_heads": 2, "vocab_size": 29, "max_seq_len": 24}
IDS = torch.randint(0, 29, (2, 17), generator=torch.Generator().manual_seed(7))


def build(*, moved: bool = False, **fields: Any) -> DdlTransformer:
    """`moved`: away from the start, at which nothing depends on the token."""
    torch.manual_seed(0)
    model = DdlTransformer(DdlConfig(**SIZES, **{"residual": "hyper", "d_value": 4, **fields}))
    for module in model.modules():
        if moved and isinstance(module, HyperStream):
            nn.init.normal_(module.dynamic.weight)
            nn.init.normal_(module.scale, std=0.3)
    return model


def states(model: DdlTransformer) -> list[Tensor]:
    """The state before each rewrite."""
    seen: list[Tensor] = []

    def observe(sublayer: int, state: Tensor, rewrite: Rewrite) -> None:
        seen.append(state)

    model(IDS, observe=observe)
    return seen


@pytest.mark.parametrize("fields", [{"d_value": 1}, {"d_value": 3}, {"embed_conv": True}], ids=str)
def test_the_start_is_an_ordinary_residual_network_in_every_stream(fields: dict[str, Any]) -> None:
    """And so are the logits, since the last norm takes the factor V away (but for its ε, which is nothing here)."""
    hyper = build(**fields, norm_eps=1e-30).double()
    additive = build(residual="additive", d_value=1, norm_eps=1e-30).double()
    left_out = additive.load_state_dict(hyper.state_dict(), strict=False)
    assert left_out.missing_keys == []
    assert all(".stream." in name or name.startswith("expand.") for name in left_out.unexpected_keys)
    for ours, theirs in zip(states(hyper), states(additive), strict=True):
        assert relative_error(ours, theirs.expand_as(ours)) < 1e-12
    assert relative_error(hyper(IDS), additive(IDS)) < 1e-12


def test_the_first_step_tells_the_streams_apart() -> None:
    model = build()
    optimizer = build_optimizer(model, TrainingConfig())
    assert all(torch.equal(state[:, :, :1].expand_as(state), state) for state in states(model))
    model.loss(IDS[:, :-1], IDS[:, 1:]).backward()
    optimizer.step()
    last = states(model)[-1]
    for one in range(4):
        for other in range(one):
            assert (last[:, :, one] - last[:, :, other]).abs().max() > 1e-4


def test_the_dynamic_part_decays_and_the_static_part_does_not() -> None:
    model = build()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, others = ({names[id(parameter)] for parameter in group} for group in decay_groups(model))
    for layer in range(3):
        for sublayer in ("mixer", "mlp"):
            stream = f"blocks.{layer}.{sublayer}.stream"
            assert f"{stream}.dynamic.weight" in decayed
            assert {f"{stream}.static", f"{stream}.scale"} <= others


def test_every_sublayer_has_parameters_of_its_own_and_the_reads_have_none() -> None:
    model, additive = build(), build(residual="additive", d_value=1)
    coefficients = 32 * 6 + 4 * 6 + 2
    assert model.num_parameters() - additive.num_parameters() == 6 * coefficients
    reads = [block.mixer.stream.static[:, 0].argmax().item() for block in model.blocks]
    assert reads == [0, 2, 0]


@pytest.mark.parametrize("d_value", [1, 4])
def test_one_graph_with_the_gradients_of_eager_execution(d_value: int) -> None:
    torch.compiler.reset()
    model = build(moved=True, d_value=d_value).double()
    gradients = []
    for loss in (model.loss, torch.compile(model.loss, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        loss(IDS[:, :-1], IDS[:, 1:]).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for eager, compiled in zip(*gradients, strict=True):
        assert relative_error(compiled, eager) < 1e-11


def test_bf16_autocast_keeps_the_state_narrow_and_what_is_written_wide() -> None:
    model, dtypes = build(moved=True), set()

    def observe(sublayer: int, state: Tensor, rewrite: Rewrite) -> None:
        assert rewrite.value is not None
        dtypes.add((state.dtype, rewrite.direction.dtype, rewrite.value.dtype))

    with torch.autocast("cpu", torch.bfloat16):
        logits = model(IDS, observe=observe)
        loss = model.loss(IDS[:, :-1], IDS[:, 1:])
    assert dtypes == {(torch.bfloat16, torch.bfloat16, torch.float32)}
    assert relative_error(logits, model(IDS)) < 0.1
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
