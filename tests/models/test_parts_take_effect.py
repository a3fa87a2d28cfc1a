"""Whatever is attached to a part of a model takes the effect that plain PyTorch would give it, forward and backward.

Every part of every kind of model is replaced, wrapped, hooked, parametrised, frozen and compiled. The oracle,
`plain_model`, calls every part as a module. Containers (a block, a sublayer, a stream, a mixer) cannot be called by it:
for them it is told what was attached.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from deep_delta import VARIANTS, DdlConfig, DdlTransformer, RMSNorm, variant_config
from deep_delta.errors import ConfigError
from tests.models import plain_model
from tests.tolerances import relative_error

SIZES: dict[str, Any] = {"d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 19, "max_seq_len": 12}
CONFIGURATIONS: dict[str, DdlConfig] = {
    **{slug: variant_config(slug, **SIZES) for slug in VARIANTS},
    "untied": variant_config("ddl-cc-ec", **SIZES, tie_embeddings=False, beta_single_linear=False, beta_hidden=3),
    "released": variant_config(
        "ddl-cc", **SIZES, value_source="state", value_scale=4.0, value_bias=True, compressor_factored=True
    ),
    "v_map": variant_config("ddl-tokenconv", **SIZES, mapping="v_map", qk_norm=False),
    "write-only": variant_config("ddl-cc", **SIZES, residual="write_only"),
    "hyper": DdlConfig(**SIZES, residual="hyper", d_value=3),
    "deltanet": variant_config("baseline", **SIZES, mixer="deltanet", output_gate=True),
    "hybrid": variant_config("ddl-ec", **SIZES, mixer="deltanet", attention_every=2, neg_eigval=True),
    "rebuilt": variant_config("ddl-ec", **SIZES, state_storage="rebuilt"),
}
IDS = torch.randint(0, 19, (2, 8), generator=torch.Generator().manual_seed(1))
TAKEN_APART = (".process", ".stream", ".mixer", ".mlp", "blocks.0", "blocks.1")


def build(name: str) -> DdlTransformer:
    torch.manual_seed(0)
    model = DdlTransformer(CONFIGURATIONS[name])
    for parameter in model.parameters():  # away from a start at which parts have no effect
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def scaled(out: Any) -> Any:
    """An output, or the first tensor of one, made larger."""
    if isinstance(out, Tensor):
        return out * 1.3
    return type(out)(*(scaled(out[0]), *out[1:])) if hasattr(out, "_fields") else (scaled(out[0]), *out[1:])


class Scaled(nn.Module):
    """A wrapper as people write them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return scaled(self.inner(*args, **kwargs))


class LoRA(nn.Module):
    """W x + B A x, with nothing of a linear layer's attributes."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


Attachment = Callable[[nn.Module, str], bool]
"""Attach something to the part of a model with this name; false where it cannot be attached to such a part."""


def put(model: nn.Module, name: str, part: nn.Module) -> None:
    home, _, last = name.rpartition(".")
    setattr(model.get_submodule(home), last, part) if not last.isdigit() else model.get_submodule(home).__setitem__(
        int(last), part
    )


def hooked(model: nn.Module, name: str) -> bool:
    model.get_submodule(name).register_forward_hook(lambda module, inputs, out: scaled(out))
    return True


def pre_hooked(model: nn.Module, name: str) -> bool:
    if name == "embedding":
        return False  # ids are not to be scaled
    model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.7, *inputs[1:]))
    return True


def backward_hooked(model: nn.Module, name: str) -> bool:
    def halve(module: nn.Module, grad_input: Any, grad_output: Any) -> Any:
        return tuple(None if grad is None else grad / 2 for grad in grad_input)

    part = model.get_submodule(name)
    if isinstance(part, nn.Embedding):
        return False  # its input has no gradient
    part.register_full_backward_hook(halve)
    return True


def wrapped(model: nn.Module, name: str) -> bool:
    if name == "embedding" and model.head is None:
        return False  # refused: see the test of its own
    put(model, name, Scaled(model.get_submodule(name)))
    return True


def subclassed(model: nn.Module, name: str) -> bool:
    part = model.get_submodule(name)
    kind = type(part)
    part.__class__ = type("Mine", (kind,), {"forward": lambda self, *args: scaled(kind.forward(self, *args))})
    return True


def patched(model: nn.Module, name: str) -> bool:
    part = model.get_submodule(name)
    before = part.forward
    part.forward = lambda *args: scaled(before(*args))
    return True


def low_rank(model: nn.Module, name: str) -> bool:
    part = model.get_submodule(name)
    if not isinstance(part, nn.Linear):
        return False
    put(model, name, LoRA(part))
    return True


def biased(model: nn.Module, name: str) -> bool:
    part = model.get_submodule(name)
    if not isinstance(part, nn.Linear) or part.bias is not None:
        return False
    part.bias = nn.Parameter(torch.randn(part.out_features))
    return True


def replaced(model: nn.Module, name: str) -> bool:
    """By something of PyTorch's that is not quite the same."""
    part = model.get_submodule(name)
    if isinstance(part, RMSNorm | nn.Identity):
        width = part.dim if isinstance(part, RMSNorm) else SIZES["d_model"] // SIZES["num_heads"]
        other: nn.Module = nn.LayerNorm(width)
        nn.init.normal_(other.weight)
        nn.init.normal_(other.bias)
    elif isinstance(part, nn.Linear):
        other = nn.Sequential(nn.Linear(part.in_features, 3), nn.Tanh(), nn.Linear(3, part.out_features))
    else:
        return False
    put(model, name, other)
    return True


def replaced_by_torchs_norm(model: nn.Module, name: str) -> bool:
    part = model.get_submodule(name)
    if not isinstance(part, RMSNorm):
        return False
    other = nn.RMSNorm(part.dim, part.eps)
    nn.init.normal_(other.weight)
    put(model, name, other)
    return True


def taken_out(model: nn.Module, name: str) -> bool:
    if not isinstance(model.get_submodule(name), RMSNorm | nn.Identity):
        return False
    put(model, name, nn.Identity())
    return True


def weights_of(part: nn.Module) -> list[str]:
    return [name for name, parameter in part.named_parameters(recurse=False) if parameter.ndim]


def parametrised(model: nn.Module, name: str) -> bool:
    part = model.get_submodule(name)
    for weight in weights_of(part):
        parametrize.register_parametrization(part, weight, Halved())
    return bool(weights_of(part)) or hasattr(part, "parametrizations")


def on_a_matrix(attach: Callable[[nn.Module], Any]) -> Attachment:
    def attached(model: nn.Module, name: str) -> bool:
        part = model.get_submodule(name)
        if not isinstance(part, nn.Linear):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some of these are deprecated, and in use
            attach(part)
        return True

    return attached


ATTACHMENTS: dict[str, Attachment] = {
    "a forward hook": hooked,
    "a forward pre-hook": pre_hooked,
    "a backward hook": backward_hooked,
    "a wrapper": wrapped,
    "a subclass": subclassed,
    "a patched forward": patched,
    "LoRA": low_rank,
    "a bias": biased,
    "another kind": replaced,
    "torch's RMSNorm": replaced_by_torchs_norm,
    "nothing": taken_out,
    "a parametrisation": parametrised,
    "spectral_norm": on_a_matrix(parametrizations.spectral_norm),
    "spectral_norm by hooks": on_a_matrix(torch.nn.utils.spectral_norm),
    "weight_norm": on_a_matrix(parametrizations.weight_norm),
    "weight_norm by hooks": on_a_matrix(torch.nn.utils.weight_norm),
    "pruning": on_a_matrix(lambda part: prune.random_unstructured(part, "weight", 0.5)),
}


KEEPS_THE_LOGITS = ("a backward hook", "weight_norm", "weight_norm by hooks")


def leaves(model: DdlTransformer) -> list[str]:
    """The parts that `plain_model` calls."""
    names = (name for name, _ in model.named_modules())
    return [name for name in names if name and name != "blocks" and name != "stream" and not name.endswith(TAKEN_APART)]


def role(name: str) -> str:
    return name.replace("blocks.0.", "").replace("blocks.1.", "")


def gradients(model: DdlTransformer, out: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def hold(model: DdlTransformer, expected: DdlTransformer, effects: plain_model.Effects | None = None) -> Tensor:
    """Logits, loss, gradients and decoding of `model` equal those of `expected` in plain operations."""
    plain = plain_model.logits(expected, IDS, effects)
    wanted = gradients(expected, plain)
    out = model(IDS)
    assert relative_error(out, plain) < 2e-5
    found = gradients(model, out)
    assert found.keys() == wanted.keys()
    largest = max(gradient.abs().max().item() for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert relative_error(found[name], gradient, least=0.01 * largest) < 1e-4, name
    targets = IDS.roll(-1, 1)
    loss = F.cross_entropy(plain.flatten(0, 1), targets.flatten())
    with torch.no_grad():
        assert relative_error(model(IDS, targets), loss) < 1e-5
        cache = model.new_cache(2)
        decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([3, 1, 4], 1)], 1)
    assert relative_error(decoded, plain) < 1e-4
    return out.detach()


def attach_everywhere(name: str, attachment: str, parts: Iterator[str] | list[str]) -> int:
    """Attach it to one part after the other of a fresh model each; returns how often that changed the logits."""
    count, before = 0, build(name)(IDS)
    for part in parts:
        model, twin = build(name), build(name)
        torch.manual_seed(1)
        if not ATTACHMENTS[attachment](model, part):
            continue
        torch.manual_seed(1)
        ATTACHMENTS[attachment](twin, part)
        model.eval()
        twin.eval()  # spectral_norm estimates anew in each forward pass of training
        count += not torch.equal(hold(model, twin), before)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("attachment", ATTACHMENTS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_everything_attached_to_any_part_of_any_model(name: str, attachment: str) -> None:
    attach_everywhere(name, attachment, leaves(build(name)))


ROLES: dict[str, list[tuple[str, str]]] = {}
"""Where a part of each role is, in every configuration that has one."""
for _name in CONFIGURATIONS:
    for _part in leaves(build(_name)):
        ROLES.setdefault(role(_part), []).append((_name, _part))


@pytest.mark.parametrize("attachment", ATTACHMENTS)
def test_everything_attached_to_a_part_of_each_role(attachment: str) -> None:
    """A covering choice of the whole: each role of a part with each attachment, in one configuration or another."""
    turn, count = list(ATTACHMENTS).index(attachment), 0
    for number, places in enumerate(ROLES.values()):
        name, part = places[(turn + number) % len(places)]
        count += attach_everywhere(name, attachment, [part])
    assert count or attachment in KEEPS_THE_LOGITS


def containers(model: DdlTransformer) -> list[str]:
    names = [name for name, _ in model.named_modules()]
    return [name for name in names if name.endswith(TAKEN_APART)] + [""]


@pytest.mark.parametrize("attach", [hooked, wrapped], ids=["a forward hook", "a wrapper"])
@pytest.mark.parametrize("name", ["baseline", "ddl-ec", "released", "hyper", "hybrid"])
def test_a_block_a_sublayer_a_mixer_and_a_stream(name: str, attach: Attachment) -> None:
    for part in containers(build(name)):
        if attach is wrapped and (part == "" or part.endswith(".stream")):
            continue  # a model is not its own part; a stream is asked for proposals too, see the test of its own
        model = build(name)
        attach(model, part)
        twin = build(name)
        plain = plain_model.logits(twin, IDS, {part: scaled})
        wanted = gradients(twin, plain)
        out = model(IDS)
        assert relative_error(out, plain) < 2e-5, part
        found = {key.replace(".inner", ""): grad for key, grad in gradients(model, out).items()}
        largest = max(gradient.abs().max().item() for gradient in wanted.values())
        for key, gradient in wanted.items():
            assert relative_error(found[key], gradient, least=0.01 * largest) < 1e-4, (part, key)
        with torch.no_grad():
            cache = model.new_cache(2)
            decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([3, 1, 4], 1)], 1)
        assert relative_error(decoded, plain) < 1e-4, part


@contextmanager
def hook_on_every_module(hook: Callable[..., Any]) -> Iterator[None]:
    handle = nn.modules.module.register_module_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["ddl-ec", "hyper", "hybrid"])
def test_a_hook_on_every_module_sees_every_module(name: str) -> None:
    model, seen = build(name), set()
    names = {module: one for one, module in model.named_modules()}
    with hook_on_every_module(lambda module, inputs, out: seen.add(names[module])):
        model(IDS)
    left_out = {one for one in names.values() if one not in seen}
    assert left_out == {"blocks"}  # a list is never called


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_frozen_parts_get_no_gradient_and_the_others_theirs(name: str) -> None:
    whole = build(name)
    wanted = gradients(whole, whole(IDS))
    parameters = list(wanted)
    for first in range(3):
        model, frozen = build(name), set(parameters[first::3])
        for one, parameter in model.named_parameters():
            parameter.requires_grad_(one not in frozen)
        found = gradients(model, model(IDS))
        assert found.keys() == wanted.keys() - frozen
        for one, gradient in found.items():
            assert relative_error(gradient, wanted[one], least=1e-3) < 1e-5, one


COMPILED = ["norm", "readout", "blocks.1", "blocks.0.mixer", "blocks.0.mixer.process", "blocks.0.mlp.process"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's, of any part's input
@pytest.mark.parametrize("in_place", [True, False], ids=["module.compile()", "torch.compile(module)"])
@pytest.mark.parametrize("name", ["ddl-ec", "hybrid"])
def test_any_part_may_be_compiled_by_itself(name: str, in_place: bool) -> None:
    torch.compiler.reset()
    expected = build(name)
    for part in COMPILED:
        model, graphs = build(name), []

        def backend(graph: Any, inputs: Any, graphs: list[Any] = graphs) -> Any:
            graphs.append(graph)
            return graph.forward

        if in_place:
            model.get_submodule(part).compile(backend=backend)
        else:
            put(model, part, torch.compile(model.get_submodule(part), backend=backend))
        assert relative_error(model(IDS), expected(IDS)) < 1e-5
        assert graphs, f"{part} was never compiled"


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_linear_layers_quantised_by_torch_are_called(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(build(name), {nn.Linear}, dtype=torch.qint8)
        assert torch.ao.nn.quantized.dynamic.Linear in {type(module) for module in model.modules()}
        with torch.no_grad():
            assert relative_error(model(IDS), plain_model.logits(model, IDS)) < 2e-2  # activations are rounded anew
            assert not torch.equal(model(IDS), build(name)(IDS))


@pytest.fixture(scope="module")
def torchao() -> Any:
    """Its import may warn about what is missing on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("torchao.quantization")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_weights_quantised_by_torchao_are_used_as_they_are(name: str, torchao: Any) -> None:
    """Linear layers stay in their places, and their weights become tensors of another kind."""
    model = build(name)
    before = model(IDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    with torch.no_grad():
        plain = plain_model.logits(model, IDS)
        assert relative_error(model(IDS), plain) < 1e-5
        cache = model.new_cache(2)
        decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([3, 1, 4], 1)], 1)
        assert relative_error(decoded, plain) < 1e-5
        loss = F.cross_entropy(plain.flatten(0, 1), IDS.flatten())
        assert relative_error(model(IDS, IDS), loss) < 1e-5
        assert relative_error(plain, before) > 1e-3


def test_what_cannot_take_effect_is_refused_by_name() -> None:
    model = build("ddl-ec")
    model.embedding = Scaled(model.embedding)
    with pytest.raises(ConfigError, match=r"tie_embeddings reads embedding.weight .* a Scaled has none"):
        model(IDS)
    model = build("ddl-ec")
    model.blocks[0].mixer.stream = Scaled(model.blocks[0].mixer.stream)
    with pytest.raises(ConfigError, match=r"a Scaled in the place of a residual stream .* has no propose"):
        model(IDS)
    model = build("rebuilt")
    hooked(model, "blocks.0")
    with pytest.raises(ConfigError, match=r"state_storage rebuilt .* something between changed it"):
        model(IDS)
    model = build("hyper")
    model.blocks[1].compress = nn.Identity()
    with pytest.raises(ConfigError, match=r"a Identity as a block's compress would never be asked"):
        model(IDS)


def test_a_replaced_mixer_may_take_less_than_ours_and_decodes_only_with_a_cache() -> None:
    model = build("ddl-ec")
    model.blocks[0].mixer.process = nn.Identity()
    assert model(IDS).isfinite().all()
    with pytest.raises(ConfigError, match="a token mixer was replaced by a Identity whose forward takes no cache"):
        model(IDS, cache=model.new_cache(2))
