"""What is at the named places is what the model computes with, and what is put there is what it goes on from."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deep_delta import DdlConfig, DdlTransformer, delta_update, variant_config
from deep_delta.errors import ConfigError
from deep_delta.interventions import patched, place_names, run_with, with_places
from deep_delta.models.config import Residual
from tests.models import plain_model
from tests.models.test_parts_take_effect import CONFIGURATIONS, IDS, SIZES, LoRA, build, hooked, scaled
from tests.tolerances import relative_error

GATED = [name for name, config in CONFIGURATIONS.items() if config.residual in ("delta", "write_only")]
OVER_TIME = [name for name, config in CONFIGURATIONS.items() if "deltanet" in config.mixers]
SUBLAYERS = [
    (0, "mixer", "pre", "mid"),
    (0, "mlp", "mid", "post"),
    (1, "mixer", "pre", "mid"),
    (1, "mlp", "mid", "post"),
]


def build_double(name: str) -> DdlTransformer:
    return build(name).double()


def read_all(model: nn.Module, ids: Tensor = IDS) -> dict[str, Tensor]:
    with torch.no_grad():
        return with_places(model, ids, ["*"])


def test_every_kind_of_residual_is_here() -> None:
    kinds = {config.residual for config in CONFIGURATIONS.values()}
    assert kinds == set(Residual.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_state_and_increment_are_the_next_state(name: str) -> None:
    model, V = build_double(name), CONFIGURATIONS[name].d_value
    found = read_all(model)
    for layer, kind, here, after in SUBLAYERS:
        state, increment = found[f"blocks.{layer}.hook_resid_{here}"], found[f"blocks.{layer}.{kind}.hook_write"]
        assert state.shape == increment.shape == (2, 8, 16, V)
        assert relative_error(state + increment, found[f"blocks.{layer}.hook_resid_{after}"]) < 1e-13
        assert increment.abs().max() > 1e-3
    assert torch.equal(found["blocks.0.hook_resid_post"], found["blocks.1.hook_resid_pre"])


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_in_fp32_to_its_rounding(name: str) -> None:
    found = read_all(build(name))
    for layer, kind, here, after in SUBLAYERS:
        made = found[f"blocks.{layer}.hook_resid_{here}"] + found[f"blocks.{layer}.{kind}.hook_write"]
        assert relative_error(made, found[f"blocks.{layer}.hook_resid_{after}"]) < 5e-6


@pytest.mark.parametrize("name", GATED)
def test_the_increment_is_its_parts(name: str) -> None:
    """β k (v − kᵀX)ᵀ by hand, and the operator on the same parts; k has length 1."""
    config = CONFIGURATIONS[name]
    found = read_all(build_double(name))
    for layer, kind, here, after in SUBLAYERS:
        home, x = f"blocks.{layer}.{kind}", found[f"blocks.{layer}.hook_resid_{here}"]
        beta, k, v, read = (found[f"{home}.hook_{part}"] for part in ("beta", "k", "v", "read"))
        assert (beta.shape, k.shape, v.shape) == ((2, 8, 1), (2, 8, 16), (2, 8, config.d_value))
        assert relative_error(k.norm(dim=-1), torch.ones(2, 8, dtype=k.dtype)) < 1e-9
        assert relative_error(read, torch.einsum("btdv,btd->btv", x, k)) < 1e-13
        error = v - read if config.residual == "delta" else v
        by_hand = k.unsqueeze(-1) * (beta * error).unsqueeze(-2)
        assert relative_error(found[f"{home}.hook_write"], by_hand) < 1e-13
        if config.residual == "delta":
            updated = delta_update(x, k, v, beta, normalize=False)
            assert relative_error(updated, found[f"blocks.{layer}.hook_resid_{after}"]) < 1e-13


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_read_is_what_the_plain_model_has(name: str) -> None:
    model, states = build_double(name), {}
    found = read_all(model)

    def note(part: str) -> Any:
        def effect(out: Any) -> Any:
            states[part] = out[0].mT
            return out

        return effect

    parts = [f"blocks.{layer}.{kind}" for layer in (0, 1) for kind in ("mixer", "mlp")]
    plain_model.logits(model, IDS, {part: note(part) for part in parts})
    for layer, kind, here, _ in SUBLAYERS:
        name_there = f"hook_resid_{here}" if model.config.residual != "hyper" else f"{kind}.hook_mixed"
        expected = states[f"blocks.{layer}.{kind}"]
        assert relative_error(found[f"blocks.{layer}.{name_there}"], expected) < 1e-6, (
            layer,
            kind,
        )  # rotary tables are fp32


@pytest.mark.parametrize("mode", ["read", "hooks that replace nothing", "loss"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_nothing_replaced_is_bitwise_the_same(name: str, mode: str) -> None:
    model = build(name)
    with torch.no_grad():
        before = model(IDS) if mode != "loss" else model(IDS, IDS)
        if mode == "read":
            with_places(model, IDS, ["*"])
            after = model(IDS)
        else:
            after = run_with(model, IDS, {"*": lambda there: None}, IDS if mode == "loss" else None)
    assert torch.equal(before, after)
    assert all(not one._forward_pre_hooks for one in model.modules())


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_same_in_its_place_changes_nothing(name: str) -> None:
    """To rounding, at each place by itself: the way through a replaced place computes the same model."""
    model = build_double(name)
    with torch.no_grad():
        plain = model(IDS)
        for place in place_names(model):
            if name == "write-only" and place.endswith("hook_read"):
                continue
            assert relative_error(run_with(model, IDS, {place: torch.clone}), plain) < 1e-10, place


@pytest.mark.parametrize("name", ["baseline", "ddl-cc", "v_map", "write-only", "hyper", "hybrid"])
def test_each_place_takes_effect(name: str) -> None:
    """Also as a tensor; what comes before the place is as it was."""
    model = build_double(name)
    found, plain = read_all(model), model(IDS)
    for place, there in found.items():
        if name == "write-only" and place.endswith("hook_read"):
            continue
        other = there.roll(1, 1) * 0.7
        with torch.no_grad():
            as_tensor = run_with(model, IDS, {place: other})
        assert relative_error(as_tensor, plain) > 1e-9, place
        if place.endswith("hook_write") and ".time." not in place:
            layer, kind = place.split(".")[1:3]
            after = f"blocks.{layer}.hook_resid_{'mid' if kind == 'mixer' else 'post'}"
            state = found[f"blocks.{layer}.hook_resid_{'pre' if kind == 'mixer' else 'mid'}"]
            seen: list[Tensor] = []
            run_with(model, IDS, {place: other, after: lambda x, seen=seen: seen.append(x)})
            assert relative_error(seen[0], state + other) < 1e-13


@pytest.mark.parametrize("name", ["ddl", "ddl-ec", "released", "v_map", "hybrid"])
def test_known_invariants_of_the_update(name: str) -> None:
    model = build_double(name)
    found = read_all(model)
    for layer, kind, here, after in SUBLAYERS:
        home, state = f"blocks.{layer}.{kind}", found[f"blocks.{layer}.hook_resid_{here}"]
        k, read, v = (found[f"{home}.hook_{part}"] for part in ("k", "read", "v"))
        with torch.no_grad():
            no_gate = run_with(model, IDS, {f"{home}.hook_beta": torch.zeros_like})
            same_value = run_with(model, IDS, {f"{home}.hook_v": read})
            removed = run_with(model, IDS, {f"{home}.hook_write": torch.zeros_like})
        assert relative_error(same_value, no_gate) < 1e-12
        assert relative_error(removed, no_gate) < 1e-12
        made: list[Tensor] = []
        run_with(model, IDS, {f"{home}.hook_beta": torch.ones_like, f"blocks.{layer}.hook_resid_{after}": made.append})
        assert relative_error(torch.einsum("btdv,btd->btv", made[0], k), v) < 1e-9
        erased, written = list[Tensor](), list[Tensor]()
        run_with(model, IDS, [(f"{home}.hook_v", torch.zeros_like), (f"{home}.hook_write", erased.append)])
        run_with(model, IDS, [(f"{home}.hook_read", torch.zeros_like), (f"{home}.hook_write", written.append)])
        assert relative_error(erased[0] + written[0], found[f"{home}.hook_write"]) < 1e-12
        assert state.shape == written[0].shape


@pytest.mark.parametrize("name", OVER_TIME)
def test_a_memory_over_time(name: str) -> None:
    """S_t = S_{t−1} + increment, the increment is β k (v − kᵀS)ᵀ, and its gates at 0 leave the memory empty."""
    model = build_double(name)
    found = read_all(model)
    home = "blocks.0.mixer.time."
    beta, k, v, read, write, state = (
        found[home + f"hook_{part}"] for part in ("beta", "k", "v", "read", "write", "state")
    )
    assert (beta.shape, k.shape, state.shape) == ((2, 8, 2), (2, 8, 2, 8), (2, 8, 2, 8, 8))
    earlier = torch.cat((torch.zeros_like(state[:, :1]), state[:, :-1]), 1)
    assert relative_error(earlier + write, state) < 1e-13
    assert relative_error(read, torch.einsum("bthke,bthk->bthe", earlier, k)) < 1e-13
    assert relative_error(write, k.unsqueeze(-1) * (beta.unsqueeze(-1) * (v - read)).unsqueeze(-2)) < 1e-12
    with torch.no_grad():
        empty = run_with(model, IDS, {home + "hook_beta": torch.zeros_like})
        no_memory = run_with(model, IDS, {home + "hook_state": torch.zeros_like(state)})
        assert relative_error(empty, no_memory) < 1e-12
        forgotten = state.clone()
        forgotten[:, 3] = 0  # and every later state as it was: only what token 3 is answered changes
        patched_here = run_with(model, IDS, {home + "hook_state": forgotten})
    plain = model(IDS)
    assert relative_error(patched_here[:, :3], plain[:, :3]) < 1e-9
    assert relative_error(patched_here[:, 3], plain[:, 3]) > 1e-4
    with pytest.raises(ConfigError, match=r"time.hook_state has shape \(2, 8, 2, 8, 8\).*\(2, 7, 2, 8, 8\)"):
        run_with(model, IDS, {home + "hook_state": state[:, 1:]})


@pytest.mark.parametrize("name", ["baseline", "ddl-ec", "hyper", "write-only"])
def test_gradients_reach_what_is_put_at_a_place(name: str) -> None:
    """The gradient at a place is the slope of the loss there: what attribution patching needs."""
    model = build_double(name)
    for place, there in read_all(model).items():
        if ".time." in place or (name == "write-only" and place.endswith("hook_read")):
            continue
        given = there.clone().requires_grad_()
        loss = run_with(model, IDS, {place: given}, IDS)
        (slope,) = torch.autograd.grad(loss, given)
        step = 1e-5 * torch.randn_like(there)
        with torch.no_grad():
            up = run_with(model, IDS, {place: there + step}, IDS)
            down = run_with(model, IDS, {place: there - step}, IDS)
        torch.testing.assert_close((slope * step).sum() * 2, up - down, rtol=1e-4, atol=1e-11)


def test_all_gradients_with_everything_replaced_by_itself() -> None:
    """Through replaced places the parameters get the gradients that they get otherwise."""
    for name in ("rebuilt", "hyper"):
        model = build_double(name)
        model(IDS, IDS).backward()
        expected = {key: one.grad.clone() for key, one in model.named_parameters() if one.grad is not None}
        model.zero_grad()
        gate = "*hook_beta" if name != "hyper" else "*hook_v"
        run_with(model, IDS, {gate: torch.clone, "*.hook_resid_mid": torch.clone}, IDS).backward()
        for key, gradient in expected.items():
            found = model.get_parameter(key).grad
            assert found is not None
            assert relative_error(found, gradient, least=1e-6) < 1e-8, (name, key)


@pytest.mark.parametrize(
    ("name", "pattern", "message"),
    [
        ("ddl-cc", "blocks.0.mixer.hook_bta", r"'blocks.0.mixer.hook_bta'; blocks.0.mixer has hook_k, .*hook_beta"),
        ("ddl-cc", "blocks.0.hook_residmid", "blocks.0 has hook_resid_pre, hook_resid_mid, hook_resid_post"),
        ("ddl-cc", "block.0.hook_resid_mid", "near: blocks.0.hook_resid_mid"),
        ("ddl-cc", "blocks.2.hook_resid_pre", "near: blocks"),
        ("ddl-cc", "blocks.0.mixer.time.hook_beta", "no place"),
        ("ddl-cc", "", "no place"),
        ("baseline", "blocks.1.mlp.hook_beta", "blocks.1.mlp has hook_out, hook_write"),
        ("hyper", "blocks.1.mlp.hook_k", "blocks.1.mlp has hook_mixed, hook_out, hook_v, hook_write"),
    ],
)
def test_a_name_that_fits_nothing_names_what_is_near(name: str, pattern: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_places(build(name), IDS, [pattern])
    with pytest.raises(ConfigError, match=message):
        run_with(build(name), IDS, {pattern: torch.zeros_like})


def test_patterns() -> None:
    model = build("ddl-cc")
    assert list(with_places(model, IDS, ["blocks.*.mlp.hook_beta"])) == [f"blocks.{i}.mlp.hook_beta" for i in (0, 1)]
    assert list(with_places(model, IDS, [re.compile(r"blocks\.1\..*_(pre|mid)")])) == [
        "blocks.1.hook_resid_pre",
        "blocks.1.hook_resid_mid",
    ]
    assert list(with_places(model, IDS, "blocks.1.mlp.hook_k")) == ["blocks.1.mlp.hook_k"]  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused() -> None:
    model = build("ddl-cc")
    with pytest.raises(ConfigError, match=r"hook_k has shape \(2, 8, 16\), and what is to replace it \(2, 8, 15\)"):
        run_with(model, IDS, {"blocks.0.mlp.hook_k": torch.zeros(2, 8, 15)})
    with pytest.raises(ConfigError, match="write_only residual cannot be replaced"):
        run_with(build("write-only"), IDS, {"blocks.0.mlp.hook_read": torch.zeros_like})
    with pytest.raises(ConfigError, match="a Linear has no places"):
        with_places(nn.Linear(2, 2), IDS, ["*"])
    model.blocks[1] = nn.Identity()
    with pytest.raises(ConfigError, match=r"blocks\.1 is a Identity without a mixer and an MLP"):
        with_places(model, IDS, ["*"])
    assert all(not one._forward_pre_hooks for one in model.modules())


def test_a_part_that_is_never_called_is_named() -> None:
    model = build("ddl-cc")
    model.blocks[1].mlp.forward = lambda *flow: flow[:5]  # still called, as a module
    with_places(model, IDS, ["blocks.1.hook_resid_pre"])
    model.blocks[1].forward = lambda *flow: flow[:5]
    with pytest.raises(ConfigError, match=r"never called blocks\.1\.mixer"):
        with_places(model, IDS, ["blocks.1.hook_resid_pre"])


@pytest.mark.parametrize("name", ["ddl-ec", "hyper", "hybrid"])
def test_whatever_is_attached_to_parts_is_seen(name: str) -> None:
    """Hooks on containers and low-rank adapters: the places have their effect, and the identity holds."""
    model = build_double(name)
    before = read_all(model)
    hooked(model, "blocks.0")
    hooked(model, "blocks.1.mixer.process")
    adapter = LoRA(model.blocks[1].mlp.process.down).double()
    model.blocks[1].mlp.process.down = adapter
    found = read_all(model)
    twin = build_double(name)
    twin.blocks[1].mlp.process.down = adapter
    effects = {"blocks.0": scaled, "blocks.1.mixer.process": scaled}
    assert relative_error(model(IDS), plain_model.logits(twin, IDS, effects)) < 1e-6
    part = "hook_k" if name != "hyper" else "hook_out"
    assert relative_error(found[f"blocks.1.mlp.{part}"], before[f"blocks.1.mlp.{part}"]) > 1e-3
    state = found["blocks.1.hook_resid_mid"] + found["blocks.1.mlp.hook_write"]
    assert relative_error(state, found["blocks.1.hook_resid_post"]) < 1e-13


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's, of any part's input
def test_wrapped_compiled_shared_and_recomputed_models() -> None:
    model = build("ddl-ec")
    expected = read_all(model)
    compiled = torch.compile(build("ddl-ec"), backend="eager")
    compiled(IDS)
    assert relative_error(read_all(compiled)["blocks.1.mlp.hook_k"], expected["blocks.1.mlp.hook_k"]) < 1e-5
    by_part = build("ddl-ec")
    by_part.blocks[0].compile(backend="eager")
    by_part(IDS)
    changed = run_with(by_part, IDS, {"blocks.0.mlp.hook_beta": torch.zeros_like})
    assert relative_error(changed, run_with(model, IDS, {"blocks.0.mlp.hook_beta": torch.zeros_like})) < 1e-5
    model.recompute = True
    run_with(model, IDS, {"blocks.0.mlp.hook_beta": torch.zeros_like}, IDS).backward()
    gradient = model.embedding.weight.grad
    model.recompute = False
    model.zero_grad()
    run_with(model, IDS, {"blocks.0.mlp.hook_beta": torch.zeros_like}, IDS).backward()
    assert gradient is not None
    assert torch.equal(gradient, model.embedding.weight.grad)
    shared = build("ddl-ec")
    shared.blocks[1] = shared.blocks[0]
    copied = build("ddl-ec")
    copied.blocks[1] = copy.deepcopy(copied.blocks[0])
    change = {"blocks.1.mlp.hook_beta": torch.zeros_like}
    assert torch.equal(run_with(shared, IDS, change), run_with(copied, IDS, change))


def test_patches_hold_while_decoding() -> None:
    model = build("ddl-ec")
    change = {"blocks.0.mlp.hook_beta": lambda beta: beta * 0.3, "blocks.1.hook_resid_mid": lambda x: x * 1.1}
    with torch.no_grad(), patched(model, change):
        whole = model(IDS)
        cache = model.new_cache(2)
        pieces = torch.cat([model(part, cache=cache) for part in IDS.split([3, 1, 4], 1)], 1)
    assert relative_error(pieces, whole) < 1e-4
    assert relative_error(whole, model(IDS)) > 1e-4
    over_time = build("deltanet")
    with (
        patched(over_time, {"blocks.0.mixer.time.hook_beta": torch.zeros_like}),
        pytest.raises(ConfigError, match="cache"),
    ):
        over_time(IDS, cache=over_time.new_cache(2))
    assert over_time(IDS, cache=over_time.new_cache(2)).isfinite().all()


def test_one_token_one_layer_and_autocast() -> None:
    model = DdlTransformer(variant_config("ddl", **SIZES | {"num_layers": 1}))
    found = read_all(model, IDS[:1, :1])
    made = found["blocks.0.hook_resid_mid"] + found["blocks.0.mlp.hook_write"]
    assert relative_error(made, found["blocks.0.hook_resid_post"]) < 5e-6
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        narrow = build("ddl-ec")
        found = with_places(narrow, IDS, ["*"])
        assert torch.equal(run_with(narrow, IDS, {"*": lambda there: None}), narrow(IDS))
    assert found["blocks.1.hook_resid_mid"].dtype == torch.bfloat16
    made = found["blocks.1.hook_resid_mid"] + found["blocks.1.mlp.hook_write"]
    assert relative_error(made, found["blocks.1.hook_resid_post"]) < 1e-2


def test_names_come_in_the_order_of_the_model() -> None:
    names = place_names(DdlTransformer(DdlConfig(**SIZES, mixer="deltanet")))
    assert names[:2] == ["blocks.0.hook_resid_pre", "blocks.0.mixer.time.hook_k"]
    assert names.index("blocks.0.mixer.hook_write") < names.index("blocks.0.hook_resid_mid")
    assert names[-1] == "blocks.1.hook_resid_post"
