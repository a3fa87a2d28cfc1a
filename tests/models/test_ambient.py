"""What is ambient changes no number: default dtype and device, tracers, modes; and models that have no memory yet."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from deep_delta import VARIANTS, DdlConfig, DdlTransformer, DeltaNet, DeltaNetBlock, DeltaResidual, variant_config
from deep_delta.errors import BackendError
from deep_delta.ops import native
from tests.tolerances import relative_error

SIZES: dict[str, Any] = {"d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 19, "max_seq_len": 40}
CONFIGURATIONS: dict[str, DdlConfig] = {
    **{slug: variant_config(slug, **SIZES) for slug in VARIANTS},
    "released": variant_config("ddl-cc", **SIZES, value_source="state", compressor_factored=True, value_scale=4.0),
    "rebuilt": variant_config("ddl-ec", **SIZES, state_storage="rebuilt"),
    "random": variant_config("ddl-ec", **SIZES, compressor_init="random", tie_embeddings=False),
    "hyper": DdlConfig(**SIZES, residual="hyper", d_value=3),
    "deltanet": variant_config("ddl-cc-ec", **SIZES, mixer="deltanet", output_gate=True),
}
IDS = torch.randint(0, 19, (2, 9), generator=torch.Generator().manual_seed(1))


def build(name: str) -> DdlTransformer:
    torch.manual_seed(0)
    return DdlTransformer(CONFIGURATIONS[name])


def everything(model: DdlTransformer) -> list[Tensor]:
    """Logits, loss, gradients, and logits of decoding."""
    model.zero_grad()
    loss = model(IDS, IDS.roll(-1, 1))
    loss.backward()
    with torch.no_grad():
        cache = model.new_cache(2)
        decoded = [model(piece, cache=cache) for piece in IDS.split([4, 1, 4], 1)]
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    return [model(IDS).detach(), loss.detach(), *decoded, *gradients]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


class Passing(TorchFunctionMode):
    """A mode that counts what passes through it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


class Dispatching(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


SETTINGS: dict[str, tuple[Callable[[], Any], float]] = {
    "float64": (lambda: default_dtype(torch.float64), 0.0),
    "bfloat16": (lambda: default_dtype(torch.bfloat16), 0.0),
    "float16": (lambda: default_dtype(torch.float16), 0.0),
    "torch.device('meta')": (lambda: torch.device("meta"), 0.0),
    "set_default_device('meta')": (lambda: default_device("meta"), 0.0),
    "a function mode": (Passing, 1e-4),
    "a dispatch mode": (Dispatching, 1e-4),
    "FlopCounterMode": (lambda: FlopCounterMode(display=False), 1e-4),
    "deterministic algorithms": (lambda: deterministic(), 0.0),
}
"""What may be ambient, and how far numbers may then lie apart, because plain operations round another way."""


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_ambient_changes_no_number(name: str, setting: str) -> None:
    model, (enter, tolerance) = build(name), SETTINGS[setting]
    expected = everything(model)
    with enter():
        found = everything(model)
    scale = max(one.abs().max().item() for one in expected[5:])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert relative_error(one, other, least=0.01 * scale) <= tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layer", [DeltaNet(16, num_heads=2), DeltaNetBlock(16, 2), DeltaResidual(16, 3)], ids=type)
def test_layers_by_themselves_too(layer: nn.Module, dtype: torch.dtype) -> None:
    shape = (2, 7, 16, 3) if isinstance(layer, DeltaResidual) else (2, 7, 16)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = layer(x)
    with default_dtype(dtype), torch.device("meta"):
        found = layer(x)
    assert torch.equal(found, expected)


TRACERS: dict[str, Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]]] = {
    "jit.trace": lambda module, x: torch.jit.trace(module, (x,), check_trace=False),
    "make_fx": lambda module, x: make_fx(lambda y: module(y))(x),
    "make_fx, symbolic": lambda module, x: make_fx(
        lambda y: module(y), tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(x),
}


@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("name", ["ddl-ec", "released", "hyper", "deltanet"])
@torch.no_grad()
def test_what_was_traced_computes_the_same_on_other_inputs(name: str, tracer: str) -> None:
    model = build(name).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checks of shapes become constants, as tracing means
        traced = TRACERS[tracer](model, IDS)
        assert relative_error(traced(IDS.flip(0, 1)), model(IDS.flip(0, 1))) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("layer", [DeltaNet(16, num_heads=2), DeltaNetBlock(16, 2), DeltaResidual(16, 3)], ids=type)
def test_layers_by_themselves_are_traced_too(layer: nn.Module, tracer: str) -> None:
    shape = (2, 7, 16, 3) if isinstance(layer, DeltaResidual) else (2, 7, 16)
    x, y = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).unbind()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert relative_error(TRACERS[tracer](layer.eval(), x)(y), layer(y)) < 1e-5


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_fake_and_meta_tensors_give_shapes(name: str) -> None:
    config = CONFIGURATIONS[name]
    for mode in (FakeTensorMode(), torch.device("meta")):
        with mode:
            model = DdlTransformer(config)
            ids = torch.zeros(2, 9, dtype=torch.int64)
            assert model(ids).shape == (2, 9, 19)
            loss = model(ids, ids)
            loss.backward()
        assert loss.shape == ()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_no_tensor_without_memory_reaches_a_kernel() -> None:
    if reason := native.unavailable(torch.zeros(1)):
        pytest.skip(f"no kernels: {reason}")
    arguments = {"embedded": torch.zeros(1, 2, 3, device="meta")}
    from deep_delta.ops.causal_conv import _Arguments

    with pytest.raises(BackendError, match="embedded is a Tensor on meta"):
        native.call("ddl_causal_conv", _Arguments(), **arguments)
    with FakeTensorMode(), pytest.raises(BackendError, match="embedded is a FakeTensor"):
        native.call("ddl_causal_conv", _Arguments(), embedded=torch.zeros(1, 2, 3))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_model_made_on_meta_is_given_memory_and_a_start(name: str) -> None:
    with torch.device("meta"):
        model = DdlTransformer(CONFIGURATIONS[name])
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    torch.manual_seed(0)
    model.init_weights()
    for (key, started), usual in zip(model.named_parameters(), build(name).parameters(), strict=True):
        assert started.isfinite().all(), key
        if usual.unique().numel() < 4:  # one that is not drawn
            assert torch.equal(started, usual), key
        else:
            assert 0.5 < started.std() / usual.std() < 2, key
    model.load_state_dict(build(name).state_dict())
    assert torch.equal(model(IDS), build(name)(IDS))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_module_starts_anew_by_itself_in_any_order(name: str) -> None:
    expected = build(name)
    for order in (1, -1):
        model = build(name)
        for parameter in model.parameters():
            parameter.data.fill_(torch.nan)
        for module in list(model.modules())[::order]:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        for (key, started), usual in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert started.isfinite().all(), key
            if usual.unique().numel() < 4:
                assert torch.equal(started, usual), key


@pytest.mark.parametrize("name", ["ddl-ec", "hyper", "deltanet"])
def test_a_model_may_be_offloaded_between_the_calls_of_its_parts(name: str) -> None:
    """As accelerate's `cpu_offload` does it: weights are on the device while a module's forward runs, else on meta."""
    model, expected = build(name), build(name)(IDS)
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if own:
            offload(module, own)
    assert relative_error(model(IDS), expected) < 1e-5
    with torch.no_grad():
        cache = model.new_cache(2)
        decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([4, 1, 4], 1)], 1)
    assert relative_error(decoded, expected) < 1e-5


def offload(module: nn.Module, own: dict[str, nn.Parameter]) -> None:
    forward = module.forward

    def put(where: str) -> None:
        for name, parameter in own.items():
            there = parameter if where == "here" else nn.Parameter(parameter.to("meta"))
            module.register_parameter(name, there)

    def called(*args: Any, **kwargs: Any) -> Any:
        put("here")
        out = forward(*args, **kwargs)
        put("meta")
        return out

    module.forward = called
    put("meta")


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["ddl", "ddl-ec", "hyper", "deltanet"])
def test_a_model_in_bf16_keeps_its_gates_in_fp32(name: str, autocast: bool) -> None:
    model, dtypes = build(name).bfloat16(), set()

    def observe(sublayer: int, state: Tensor, rewrite: Any) -> None:
        dtypes.add(None if rewrite.beta is None else rewrite.beta.dtype)

    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        logits = model(IDS, observe=observe)
        model(IDS, IDS).backward()
    assert dtypes == {None if name == "hyper" else torch.float32}
    assert logits.isfinite().all()


def test_copies_and_pickles_of_a_model_are_the_model() -> None:
    model = build("ddl-ec")
    expected = model(IDS)
    assert torch.equal(copy.deepcopy(model)(IDS), expected)
    other = build("ddl-ec")
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(other(IDS), expected)
