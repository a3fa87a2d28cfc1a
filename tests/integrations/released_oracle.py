"""What the released code computes, written a second time: straight from its description, in its own names and layouts.

Slow and plain on purpose, sharing nothing with the library. It is itself held to the
golden values first; then it judges the models of which there are none.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Parameters = dict[str, Tensor]

BASE: dict[str, Any] = {
    "vocab_size": 23,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 20,
    "head_dim": 8,
    "block_size": 11,
    "intermediate_size": 31,
    "use_qk_rmsnorm": True,
    "rope_ratio": 1.0,
    "ddl_value_channels": 3,
    "ddl_state_shortconv_kernel_size": 3,
    "input_embed_shortconv_kernel_size": 2,
    "ddl_k_eps": 1e-5,
    "ddl_beta_hidden_size": 9,
    "ddl_beta_single_linear": True,
    "ddl_v_sigmoid": True,
    "ddl_v_sigmoid_scale": 4.0,
    "ddl_beta_init": 0.0,
}

WIDTHS: dict[str, Any] = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 9}
THEIRS: dict[str, Any] = {"value_source": "state", "value_bias": True, "mlp_hidden": 42}


def draw_parameters(config: dict[str, Any], kind: str, seed: int) -> Parameters:
    """Random weights of every released shape; kind is baseline, scalar, tc, tc-ec, cc or cc-ec."""
    generator = torch.Generator().manual_seed(seed)
    D, V = config["hidden_size"], 1 if kind == "scalar" else config["ddl_value_channels"]
    heads, F_ = config["num_attention_heads"] * config["head_dim"], config["intermediate_size"]
    K = config["ddl_state_shortconv_kernel_size"]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.3

    p = {"transformer.wte.weight": draw(config["vocab_size"], D), "ln_f.weight": 1 + draw(D)}

    def compressor(name: str) -> None:
        if kind.startswith("tc"):
            p[f"{name}.shortconv.weight"] = draw(D * V, K)
        if kind.startswith("cc"):
            p[f"{name}.weight"] = draw(D, K)
        if kind.startswith(("tc", "cc")):
            p[f"{name}.read"] = draw(V)

    compressor("readout")
    if kind.endswith("ec"):
        p["input_embed.conv.weight"] = draw(D * V, 1, config["input_embed_shortconv_kernel_size"])
    for layer in range(config["num_hidden_layers"]):
        h = f"transformer.h.{layer}"
        compressor(f"{h}.compress")
        for name in ("c_q", "c_k", "c_v"):
            p[f"{h}.attn.{name}.weight"] = draw(heads, D)
        p[f"{h}.attn.c_proj.weight"] = draw(D, heads)
        if config["use_qk_rmsnorm"]:
            p[f"{h}.attn.q_rms.weight"] = 1 + draw(config["head_dim"])
            p[f"{h}.attn.k_rms.weight"] = 1 + draw(config["head_dim"])
        p[f"{h}.ln_1.weight"], p[f"{h}.ln_2.weight"] = 1 + draw(D), 1 + draw(D)
        p[f"{h}.mlp.c_fc1.weight"], p[f"{h}.mlp.c_fc2.weight"] = draw(F_, D), draw(F_, D)
        p[f"{h}.mlp.c_proj.weight"] = draw(D, F_)
        for ddl in (f"{h}.ddl_attn", f"{h}.ddl_mlp") if kind != "baseline" else ():
            p[f"{ddl}.v_proj.weight"], p[f"{ddl}.v_proj.bias"] = draw(V, D), draw(V)
            if config["ddl_beta_single_linear"]:
                p[f"{ddl}.beta.weight"], p[f"{ddl}.beta.bias"] = draw(1, D), draw(1)
            else:
                hidden = config["ddl_beta_hidden_size"]
                p[f"{ddl}.beta_in.weight"] = draw(hidden, D)
                p[f"{ddl}.beta_out.weight"], p[f"{ddl}.beta_out.bias"] = draw(1, hidden), draw(1)
    return p


def released_logits(config: dict[str, Any], p: Parameters, ids: Tensor, *, accelerated: bool = False) -> Tensor:
    """Logits [B, T, vocab] with the state kept as [B, T, D, V] ([B, T, D] where V = 1).

    `accelerated`: as the file with the GPU kernels, which has the same parameters and options.
    """
    causal = accelerated and config.get("ddl_state_dv_shortconv_causal", False)
    rewrite = _accelerated_rewrite if accelerated else _rewrite
    is_delta = "transformer.h.0.ddl_attn.v_proj.weight" in p
    eps = 1e-5 if is_delta else config.get("rms_norm_eps", 1e-5)
    x = p["transformer.wte.weight"][ids]
    if "input_embed.conv.weight" in p:
        x = _causal_conv(x, p["input_embed.conv.weight"].squeeze(1), repeat=config["ddl_value_channels"])
        x = x.unflatten(-1, (config["hidden_size"], -1))
    elif "readout.read" in p:
        x = x.unsqueeze(-1).repeat(1, 1, 1, config["ddl_value_channels"])
    for layer in range(config["num_hidden_layers"]):
        h = f"transformer.h.{layer}"
        for norm, process, ddl in (("ln_1", _attention, "ddl_attn"), ("ln_2", _mlp, "ddl_mlp")):
            x_in = _compress(p, f"{h}.compress", x, causal)
            c = _rms_norm(x_in, p[f"{h}.{norm}.weight"], eps)
            branch = process(config, p, h, c)
            x = rewrite(config, p, f"{h}.{ddl}", x, x_in, c, branch) if is_delta else x + branch
    x = _rms_norm(_compress(p, "readout", x, causal), p["ln_f.weight"], eps)
    return x @ p["transformer.wte.weight"].T


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def _causal_conv(x_BTC: Tensor, weight_CK: Tensor, repeat: int = 1) -> Tensor:
    """Depthwise over time; with `repeat`, each input channel feeds that many consecutive outputs."""
    groups, taps = x_BTC.shape[-1], weight_CK.shape[-1]
    assert weight_CK.shape[0] == groups * repeat
    padded = F.pad(x_BTC.transpose(1, 2), (taps - 1, 0))
    return F.conv1d(padded, weight_CK.unsqueeze(1), groups=groups).transpose(1, 2)


def _compress(p: Parameters, name: str, x: Tensor, causal: bool) -> Tensor:
    if f"{name}.read" not in p:
        return x
    D, V = x.shape[-2:]
    if f"{name}.shortconv.weight" in p:
        return _causal_conv(x.flatten(-2), p[f"{name}.shortconv.weight"]).unflatten(-1, (D, V)) @ p[f"{name}.read"]
    weight = p[f"{name}.weight"]
    left = weight.shape[-1] - 1 if causal else (weight.shape[-1] - 1) // 2
    padded = F.pad(x.flatten(0, 1), (left, weight.shape[-1] - 1 - left))
    return F.conv1d(padded, weight.unsqueeze(1), groups=D).unflatten(0, x.shape[:2]) @ p[f"{name}.read"]


def _attention(config: dict[str, Any], p: Parameters, h: str, c: Tensor) -> Tensor:
    H, K = config["num_attention_heads"], config["head_dim"]
    q, k, v = (
        (c @ p[f"{h}.attn.{name}.weight"].T).unflatten(-1, (H, K)).transpose(1, 2) for name in ("c_q", "c_k", "c_v")
    )
    q, k = _rotate(config, q), _rotate(config, k)
    if config["use_qk_rmsnorm"]:
        q, k = _rms_norm(q, p[f"{h}.attn.q_rms.weight"], 1e-5), _rms_norm(k, p[f"{h}.attn.k_rms.weight"], 1e-5)
    scores = q @ k.mT / math.sqrt(K)
    scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2) @ p[f"{h}.attn.c_proj.weight"].T


def _rotate(config: dict[str, Any], x: Tensor) -> Tensor:
    R = int(x.shape[-1] * config["rope_ratio"]) // 2 * 2
    if R == 0:
        return x
    frequency = config.get("rope_base", 10000.0) ** (-torch.arange(0, R, 2).float() / R)
    angle = torch.outer(torch.arange(x.shape[-2]).float(), frequency)
    turned = torch.view_as_complex(torch.stack((x[..., : R // 2], x[..., R // 2 : R]), -1)) * torch.polar(
        torch.ones_like(angle), angle
    )
    return torch.cat((turned.real, turned.imag, x[..., R:]), -1)


def _mlp(config: dict[str, Any], p: Parameters, h: str, c: Tensor) -> Tensor:
    gate, up = c @ p[f"{h}.mlp.c_fc1.weight"].T, c @ p[f"{h}.mlp.c_fc2.weight"].T
    return (gate * gate.sigmoid() * up) @ p[f"{h}.mlp.c_proj.weight"].T


def _rewrite(config: dict[str, Any], p: Parameters, ddl: str, x: Tensor, x_in: Tensor, c: Tensor, h: Tensor) -> Tensor:
    k = h / (h.pow(2).sum(-1, keepdim=True) + config["ddl_k_eps"] ** 2).sqrt()
    beta = _gate(config, p, ddl, c)
    v = x_in @ p[f"{ddl}.v_proj.weight"].T + p[f"{ddl}.v_proj.bias"]
    constant = "ddl_v_constant" if x.ndim == 4 else "ddl_v_dim1_constant"
    if config.get(constant):
        v = torch.full_like(v, config[f"{constant}_value"])
    elif config["ddl_v_sigmoid"]:
        v = config["ddl_v_sigmoid_scale"] * v.sigmoid()
    if x.ndim == 3:
        return x + beta * k * (v - (k * x).sum(-1, keepdim=True))
    error = v - torch.einsum("btd,btdv->btv", k, x)
    return x + beta.unsqueeze(-1) * torch.einsum("btd,btv->btdv", k, error)


def _accelerated_rewrite(
    config: dict[str, Any], p: Parameters, ddl: str, x: Tensor, x_in: Tensor, c: Tensor, h: Tensor
) -> Tensor:
    eps = config["ddl_k_eps"] * math.sqrt(h.shape[-1])
    k = h * (h.square().sum(-1, keepdim=True) + eps * eps).rsqrt()
    logit = x_in @ p[f"{ddl}.v_proj.weight"].T + p[f"{ddl}.v_proj.bias"]
    error = config["ddl_v_sigmoid_scale"] / (1 + torch.exp(-logit)) - (k.unsqueeze(-1) * x).sum(-2)
    return x + (_gate(config, p, ddl, c) * k).unsqueeze(-1) * error.unsqueeze(-2)


def _gate(config: dict[str, Any], p: Parameters, ddl: str, c: Tensor) -> Tensor:
    if config["ddl_beta_single_linear"]:
        logit = c @ p[f"{ddl}.beta.weight"].T + p[f"{ddl}.beta.bias"]
    else:
        logit = torch.tanh(c @ p[f"{ddl}.beta_in.weight"].T) @ p[f"{ddl}.beta_out.weight"].T + p[f"{ddl}.beta_out.bias"]
    return 2 * logit.sigmoid()
