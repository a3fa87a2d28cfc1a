"""Blocks and layers as others use them: checkpointed, shared, dropped, compiled one by one, exported, sharded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from deep_delta import VARIANTS, DdlConfig, DdlTransformer, variant_config
from deep_delta.errors import ConfigError, DataError
from tests.tolerances import relative_error

SIZES: dict[str, Any] = {"d_model": 16, "num_layers": 3, "num_heads": 2, "vocab_size": 19, "max_seq_len": 512}
CONFIGURATIONS: dict[str, DdlConfig] = {
    **{slug: variant_config(slug, **SIZES) for slug in VARIANTS},
    "rebuilt": variant_config("ddl-ec", **SIZES, state_storage="rebuilt"),
    "hyper": DdlConfig(**SIZES, residual="hyper", d_value=3),
    "deltanet": variant_config("ddl-cc-ec", **SIZES, mixer="deltanet", output_gate=True),
    "untied": variant_config("ddl-cc", **SIZES, tie_embeddings=False, compressor_factored=True),
}
FEW = ["baseline", "ddl-ec", "hyper", "deltanet"]
IDS = torch.randint(0, 19, (2, 9), generator=torch.Generator().manual_seed(1))
TARGETS = IDS.roll(-1, 1)


def build(name: str) -> DdlTransformer:
    torch.manual_seed(0)
    return DdlTransformer(CONFIGURATIONS[name])


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """Of the loss; of a wrapper under the names of what it wraps."""
    model.zero_grad()
    model(IDS, TARGETS).backward()
    named = {name.replace("module.", "").replace("inner.", ""): one for name, one in model.named_parameters()}
    return {
        name: one.grad.full_tensor() if hasattr(one.grad, "full_tensor") else one.grad for name, one in named.items()
    }


def hold(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        assert relative_error(found[name], gradient, least=0.01 * largest) <= tolerance, name


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module, **options: Any) -> None:
        super().__init__()
        self.inner, self.options = inner, options

    def forward(self, *args: Any) -> Any:
        return checkpoint(self.inner, *args, **self.options)


def keep_products(ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = op in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


CHECKPOINTS: dict[str, dict[str, Any]] = {
    "recomputed": {"use_reentrant": False},
    "reentrant": {"use_reentrant": True},
    "selective": {"use_reentrant": False, "context_fn": lambda: create_selective_checkpoint_contexts(keep_products)},
}


@pytest.mark.parametrize("options", CHECKPOINTS)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_checkpointed_block_gives_the_same_gradients(name: str, options: str) -> None:
    expected, model = gradients(build(name)), build(name)
    for place, block in enumerate(model.blocks):
        model.blocks[place] = Checkpointed(block, **CHECKPOINTS[options])
    hold(gradients(model), expected, 1e-4 if options == "selective" else 1e-5)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_model_recomputes_its_blocks_when_asked_to(name: str) -> None:
    def kept(model: DdlTransformer) -> int:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: sizes.append(one.numel()) or one, lambda one: one):
            model(IDS, TARGETS)
        return sum(sizes)

    plain, model = build(name), build(name)
    model.recompute = True
    hold(gradients(model), gradients(plain))
    assert kept(model) < 0.5 * kept(plain)


@pytest.mark.parametrize("part", ["mixer", "mlp"])
@pytest.mark.parametrize("options", ["recomputed", "reentrant"])
@pytest.mark.parametrize("name", FEW)
def test_a_checkpointed_sublayer_too(name: str, options: str, part: str) -> None:
    expected, model = gradients(build(name)), build(name)
    for block in model.blocks:
        setattr(block, part, Checkpointed(getattr(block, part), **CHECKPOINTS[options]))
    hold(gradients(model), expected)


@pytest.mark.parametrize("places", [(0, 0, 0), (2, 1, 0), (1,), (0, 1, 2, 2, 1, 0)], ids=str)
@pytest.mark.parametrize("name", FEW)
def test_blocks_may_be_shared_permuted_and_dropped(name: str, places: tuple[int, ...]) -> None:
    model = build(name).double()
    model.blocks = nn.ModuleList([model.blocks[place] for place in places])
    own = DdlTransformer(CONFIGURATIONS[name].model_copy(update={"num_layers": len(places)})).double()
    own.load_state_dict(model.state_dict())  # holds a shared block at each of its places
    with torch.no_grad():
        assert torch.equal(model(IDS), own(IDS))
        cache = model.new_cache(2)
        decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([4, 1, 4], 1)], 1)
    assert relative_error(decoded, own(IDS)) < 1e-6


def test_a_cache_of_another_number_of_blocks_is_refused() -> None:
    model = build("ddl")
    cache = model.new_cache(2)
    model.blocks = model.blocks[:2]
    with pytest.raises(ConfigError, match="the cache has 3 layers and the model 2"):
        model(IDS, cache=cache)


class Counting:
    """A backend that counts the graphs it is given."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's, of any part's input
@pytest.mark.parametrize("name", ["ddl-ec", "hyper", "deltanet"])
def test_twelve_blocks_compiled_one_by_one_share_their_graphs(name: str) -> None:
    torch.compiler.reset()
    torch.manual_seed(0)
    model = DdlTransformer(CONFIGURATIONS[name].model_copy(update={"num_layers": 12})).double()
    expected, count = [model(IDS), model(IDS[:, :5])], Counting()
    for block in model.blocks:
        block.compile(backend=count)
    assert relative_error(model(IDS), expected[0]) < 1e-5
    assert count.graphs == 2  # the first has nothing to write
    assert relative_error(model(IDS[:, :5]), expected[1]) < 1e-5
    assert count.graphs <= 4  # for any length from now on
    model(IDS[:, :7])
    assert count.graphs <= 4


@pytest.mark.parametrize("name", ["ddl-ec", "deltanet"])
@torch.no_grad()
def test_a_compiled_model_decodes_in_a_few_graphs(name: str) -> None:
    torch.compiler.reset()
    model, count = build(name), Counting()
    compiled, cache = torch.compile(model, backend=count, fullgraph=True), model.new_cache(2)
    ids = torch.randint(0, 19, (2, 60), generator=torch.Generator().manual_seed(2))
    pieces = [compiled(ids[:, :9], cache=cache)]
    pieces += [compiled(token.clone(), cache=cache) for token in ids[:, 9:].split(1, 1)]
    assert relative_error(torch.cat(pieces, 1), model(ids)) < 1e-5
    assert count.graphs < torch._dynamo.config.recompile_limit  # 5, and 7 with PyTorch 2.10; at the limit it gives up


def test_the_loss_is_the_model_s_forward_whoever_wraps_it() -> None:
    torch.compiler.reset()
    model, count, calls = build("ddl-ec"), Counting(), []
    model.register_forward_hook(lambda module, inputs, out: calls.append(out.shape))
    model.loss(IDS, TARGETS)
    assert calls == [torch.Size([])]
    model = build("ddl-ec")
    expected = model(IDS, TARGETS)
    assert relative_error(torch.compile(model, backend=count)(IDS, TARGETS), expected) < 1e-5
    assert count.graphs == 1
    torch.compiler.reset()
    model.compile(backend=count)
    assert relative_error(model.loss(IDS, TARGETS), expected) < 1e-5
    assert count.graphs == 2


@pytest.mark.parametrize("name", CONFIGURATIONS)
@torch.no_grad()
def test_an_exported_model_takes_any_batch_and_any_length(name: str) -> None:
    model = build(name).double().eval()
    sizes = {0: torch.export.Dim("B", min=1, max=64), 1: torch.export.Dim("T", min=1, max=512)}
    exported = torch.export.export(model, (IDS,), dynamic_shapes=(sizes,)).module()
    for shape in ((1, 1), (3, 2), (2, 3), (1, 5), (2, 70), (1, 300), (1, 512)):
        ids = torch.randint(0, 19, shape)
        assert relative_error(exported(ids), model(ids)) < 1e-6, shape


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    """One process on gloo."""
    with tempfile.NamedTemporaryFile() as file:
        dist.init_process_group("gloo", init_method=f"file://{file.name}", rank=0, world_size=1)
        yield init_device_mesh("cpu", (1,))
        dist.destroy_process_group()


FSDP_SAYS = pytest.mark.filterwarnings(
    "ignore:FSDP2-wrapped module:UserWarning", "ignore:DTensor random operators may not:UserWarning"
)


@FSDP_SAYS
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_sharded_model_has_its_loss_its_gradients_and_its_cache(name: str, mesh: DeviceMesh) -> None:
    plain, model = build(name), build(name)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    hold(gradients(model), gradients(plain))
    assert torch.equal(model.loss(IDS, TARGETS), plain.loss(IDS, TARGETS))
    with torch.no_grad():
        assert relative_error(model.next_logits(IDS), plain(IDS)[:, -1]) < 1e-5
        cache = model.new_cache(2)
        decoded = torch.cat([model(piece, cache=cache) for piece in IDS.split([4, 1, 4], 1)], 1)
    assert relative_error(decoded, plain(IDS)) < 1e-5


@FSDP_SAYS
@pytest.mark.parametrize("name", ["ddl-ec", "hyper", "deltanet"])
def test_parts_sharded_by_themselves_too_and_a_start_on_meta(name: str, mesh: DeviceMesh) -> None:
    plain, model = build(name), build(name)
    for block in model.blocks:
        for part in (block.mixer.norm, block.mixer.process, block.mixer, block.mlp):
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
    hold(gradients(model), gradients(plain), 1e-4)
    with torch.device("meta"):
        model = DdlTransformer(CONFIGURATIONS[name])
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    model.init_weights()
    assert all(parameter.full_tensor().isfinite().all() for parameter in model.parameters())
    for one, usual in zip(model.parameters(), plain.parameters(), strict=True):
        if usual.unique().numel() < 4:
            assert torch.equal(one.full_tensor(), usual)


def test_mixed_precision_of_shards_leaves_positions_in_fp32(mesh: DeviceMesh) -> None:
    model, seen = build("baseline"), []
    model.blocks[0].mixer.process.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for part in (*model.blocks, model):
        fully_shard(part, mesh=mesh, mp_policy=policy)
    model(IDS)
    x, rotary, _ = seen[0]
    assert (x.dtype, rotary.cos.dtype, rotary.sin.dtype) == (torch.bfloat16, torch.float32, torch.float32)


def test_mixed_precision_of_shards_leaves_gates_in_fp32_where_inputs_are_not_cast(mesh: DeviceMesh) -> None:
    for cast, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        model, seen = build("ddl"), []
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, cast_forward_inputs=cast)
        for block in model.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        model.blocks[1].mixer.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[3].dtype))
        model(IDS, TARGETS).backward()
        assert seen == [dtype]


@pytest.mark.parametrize("name", FEW)
def test_data_parallel_training_calls_the_loss(name: str, mesh: DeviceMesh) -> None:
    hold(gradients(DistributedDataParallel(build(name))), gradients(build(name)))


def test_targets_are_checked() -> None:
    model = build("ddl")
    for targets, message in (
        (IDS[:1], r"targets must be \(2, 9\) like ids, got shape \(1, 9\)"),
        (IDS[:1, :1], r"like ids, got shape \(1, 1\)"),
        (IDS.T, r"like ids, got shape \(9, 2\)"),
        (IDS.float(), "targets must be int64 or int32, got torch.float32"),
        (torch.full_like(IDS, -1), r"target -1 at \[0, 0\] is not in the vocabulary of 19 tokens"),
        (IDS.where(IDS[1, 3] != IDS, 119), r"target 119 at \[\d, \d\] is not in the vocabulary"),
    ):
        with pytest.raises(DataError, match=message):
            model(IDS, targets)
    with pytest.raises(DataError, match=r"id -1 at \[0, 0\] is not in the vocabulary"):
        model(torch.full_like(IDS, -1))
    assert torch.equal(model(IDS.int(), IDS.int()), model(IDS, IDS))


def test_a_loss_without_any_target_is_zero_and_so_are_its_gradients() -> None:
    for reduction in ("mean", "sum"):
        model = build("ddl-ec")
        loss = model(IDS, torch.full_like(IDS, -100), reduction=reduction)
        loss.backward()
        assert loss.item() == 0
        assert not any(parameter.grad.any() for parameter in model.parameters())


def test_a_summed_loss_is_the_mean_times_the_targets_that_count() -> None:
    model, targets = build("ddl-ec"), TARGETS.clone()
    targets[0, :4] = -100
    assert relative_error(model(IDS, targets, reduction="sum"), 14 * model(IDS, targets)) < 1e-6
