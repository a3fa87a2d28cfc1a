"""`torch.func` and forward-mode derivatives, from which a hand-written backward would hide what it does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from deep_delta import DeltaNet, DeltaNetModel, chunk_delta_rule, delta_update
from deep_delta.errors import BackendError
from tests.tolerances import relative_error


def through_time(v: Tensor, backend: str = "auto") -> Tensor:
    q, k, beta = v.flip(-1), v.flip(-2), v.sum(-1).sigmoid()
    return chunk_delta_rule(q, k, v, beta, backend=backend)


def through_depth(v: Tensor, backend: str = "auto") -> Tensor:
    return delta_update(v, v[..., 0], v[..., 0, :], v[..., 0, :1].sigmoid(), backend=backend)


LAYER = DeltaNet(4, num_heads=2).double().requires_grad_(False)


def through_layers(v: Tensor) -> Tensor:
    return LAYER(v.flatten(0, 1))


pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, at its first jvp
FUNCTIONS = [through_time, through_depth, through_layers]


def draw() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 5, 4, dtype=torch.float64)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_forward_derivatives_agree_with_the_backward(function: Callable[..., Tensor]) -> None:
    x = draw().requires_grad_()
    tangent, y = torch.randn_like(x), function(x)
    upstream = torch.randn_like(y)
    (backward,) = torch.autograd.grad(y, x, upstream)
    found = torch.func.jvp(function, (x.detach(),), (tangent,))[1]
    assert relative_error((found * upstream).sum(), (backward * tangent).sum()) < 1e-11
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(function(forward_ad.make_dual(x.detach(), tangent))).tangent
    assert dual is not None
    assert relative_error(dual, found) < 1e-12
    assert relative_error(torch.func.vjp(function, x.detach())[1](upstream)[0], backward) < 1e-11


def test_gradients_of_each_sequence_by_vmap() -> None:
    torch.manual_seed(0)
    model, ids = DeltaNetModel(11, 16, 2, 2, residual="delta", d_value=4), torch.randint(0, 11, (3, 8))
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor], row: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, weights, row[None, :-1])[0]
        return torch.nn.functional.cross_entropy(logits, row[1:])

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, ids)
    for index, row in enumerate(ids):
        expected = torch.autograd.grad(loss(weights, row), list(weights.values()))
        for name, grad in zip(weights, expected, strict=True):
            assert relative_error(found[name][index], grad) < 1e-3, name


@pytest.mark.parametrize(("function", "backend"), [(through_time, "chunk"), (through_depth, "fused")])
def test_a_backend_asked_for_by_name_is_refused(function: Callable[..., Tensor], backend: str) -> None:
    with pytest.raises(BackendError, match=f"{backend}.* has no forward-mode derivative .* use backend 'reference'"):
        torch.func.jvp(lambda x: function(x, backend), (draw(),), (draw(),))
