"""States that are rebuilt in the backward pass: the gradients of stored ones, whatever the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deep_delta import DdlTransformer, variant_config
from tests.tolerances import assert_gradients_close

SIZES = {"d_model": 32, "num_layers": 3, "num_heads": 4, "vocab_size": 50, "max_seq_len": 16}
MODELS = [
    ("baseline", {}),
    ("ddl", {}),
    ("ddl-tokenconv", {}),
    ("ddl-ec", {}),
    ("ddl-cc", {}),
    ("ddl-cc-ec", {}),
    ("ddl-cc", {"residual": "write_only"}),
    ("ddl-cc", {"mapping": "v_map"}),
    ("ddl-ec", {"value_source": "state", "value_bias": True, "value_scale": 4.0}),
    ("ddl-cc", {"value_source": "branch", "beta_single_linear": False}),
    ("ddl-cc", {"compressor_factored": True, "value_constant": 1.0}),
]


def gradients(slug: str, fields: dict[str, Any], storage: str, *, compiled: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = DdlTransformer(variant_config(slug, **SIZES, **fields, state_storage=storage))
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    ids = torch.randint(50, (2, 17))
    loss = torch.compile(model.loss, fullgraph=True, backend="aot_eager") if compiled else model.loss
    loss(ids[:, :-1], ids[:, 1:]).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize(("slug", "fields"), MODELS, ids=str)
def test_gradients_equal_those_of_stored_states(
    slug: str, fields: dict[str, Any], backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEP_DELTA_BACKEND", backend)
    stored, rebuilt = (gradients(slug, fields, storage) for storage in ("stored", "rebuilt"))
    assert_gradients_close(rebuilt, stored, 2e-5)


@pytest.mark.parametrize("slug", ["baseline", "ddl", "ddl-ec", "ddl-cc-ec"])
def test_the_models_own_operators_equal_plain_operations(slug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = gradients(slug, {}, "stored")
    monkeypatch.setenv("DEEP_DELTA_BACKEND", "reference")
    plain = gradients(slug, {}, "stored")
    assert_gradients_close(fast, plain, 5e-5)


def test_a_compiled_model_rebuilds_too() -> None:
    eager, compiled = (gradients("ddl-cc", {}, "rebuilt", compiled=compiled) for compiled in (False, True))
    assert_gradients_close(compiled, eager, 1e-4)


def test_one_state_is_kept_however_deep_the_model() -> None:
    def states(num_layers: int) -> int:
        model = DdlTransformer(variant_config("ddl-cc", **{**SIZES, "num_layers": num_layers}, state_storage="rebuilt"))
        found = set()

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape == (2, 16, 4, 32) and tensor.untyped_storage().nbytes() >= 4 * tensor.numel():
                found.add(tensor.data_ptr())
            return tensor

        ids = torch.randint(50, (2, 17))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model.loss(ids[:, :-1], ids[:, 1:])
        assert loss.isfinite()
        return len(found)

    assert states(1) == states(4) <= 2
