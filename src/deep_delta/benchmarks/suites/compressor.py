"""What reads the state before a sublayer: over the channels of the token, or over a few tokens too."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deep_delta.benchmarks.case import Case, Counted, Group, Plan, Setting, Workload, module_workload
from deep_delta.benchmarks.ceilings import DTYPES
from deep_delta.benchmarks.suites.tensors import OPERATION, Sizes, normal, shape_name
from deep_delta.nn.compress import ChannelConv, TokenConv
from deep_delta.runs.benchmark import Precision

_TAPS = {"channel_conv": 1, "token_conv": 4}


def plan(setting: Setting) -> Plan:
    large = {"B": 8, "T": 1024, "D": 768} if setting.device.type == "cuda" else {"B": 4, "T": 256, "D": 256}
    shapes = [{**large, "V": channels} for channels in ((4,) if setting.quick else (2, 4, 8))]
    return Plan(tuple(_group(precision, sizes) for precision in setting.precisions for sizes in shapes))


def _group(precision: Precision, sizes: Sizes) -> Group:
    tokens, cells = sizes["B"] * sizes["T"], sizes["D"] * sizes["V"]
    size = DTYPES[precision].itemsize

    def build(kind: str, device: torch.device) -> Workload:
        D, V = sizes["D"], sizes["V"]
        module: nn.Module = ChannelConv(D, V) if kind == "channel_conv" else TokenConv(D, V, _TAPS[kind])
        with torch.no_grad():
            for seed, parameter in enumerate(module.parameters()):
                parameter.copy_(normal(*parameter.shape, seed=seed))
        state = normal(sizes["B"], sizes["T"], V, D, precision=precision, device=device, seed=9)
        return module_workload(module.to(device), {"state_BTVD": state}, definition=_read)

    cases = tuple(
        Case(
            name=f"compressor/{kind}/{precision}/{shape_name(sizes)}",
            precision=precision,
            build=partial(build, kind),
            tolerance=OPERATION[precision],
            tokens=tokens,
            counted=Counted(
                flops=2 * tokens * cells * taps,
                bytes_moved=tokens * (cells + sizes["D"]) * size,
                training_flops=6 * tokens * cells * taps,
                training_bytes=tokens * (3 * cells + 2 * sizes["D"]) * size,
            ),
        )
        for kind, taps in _TAPS.items()
    )
    return Group(cases, cases[0].name)


def _read(module: nn.Module, state_BTVD: Tensor) -> Tensor:
    """The definition, tap by tap on the whole state, as it is written."""
    if isinstance(module, ChannelConv):
        return torch.einsum("btvd,vd->btd", state_BTVD, module.weight)
    assert isinstance(module, TokenConv)
    taps, T = module.kernel.shape[0], state_BTVD.shape[1]
    padded = F.pad(state_BTVD, (0, 0, 0, 0, taps - 1, 0))
    return sum(
        torch.einsum("btvd,v,vd->btd", padded[:, tap : tap + T], module.read, module.kernel[tap]) for tap in range(taps)
    )  # type: ignore[return-value]
