"""DeltaNet language models: the one transformer with an additive residual and DeltaNet as its token mixer."""

# B batch, T time, D width

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from deep_delta.errors import ConfigError
from deep_delta.models.build import build_output_stream, initialize
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import Block, DdlTransformer
from deep_delta.nn.residual import Rewrite


class DeltaNetBlock(nn.Module):
    """x + DeltaNet(norm x), then x + SwiGLU(norm x); [B, T, dim] → [B, T, dim]  (arXiv 2406.06484).

    A block of `DdlTransformer` by itself. SwiGLU's hidden width is dim · mlp_ratio; `fields` are any others of
    `DdlConfig` (`neg_eigval`, `output_gate`, `head_dim`, …).

        >>> import torch
        >>> from deep_delta import DeltaNetBlock
        >>> DeltaNetBlock(dim=128, num_heads=4, mlp_ratio=4.0)(torch.randn(2, 64, 128)).shape
        torch.Size([2, 64, 128])
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, **fields: Any) -> None:
        super().__init__()
        config = _config(vocab_size=1, dim=dim, depth=1, num_heads=num_heads, mlp_ratio=mlp_ratio, **fields)
        if config.d_value != 1:
            raise ConfigError(f"a block from x [B, T, dim] to the like has d_value 1, got {config.d_value}")
        if config.mixers != ("deltanet",):
            raise ConfigError("a DeltaNetBlock mixes by DeltaNet; leave mixer and attention_every out")
        if config.state_storage != "stored":
            raise ConfigError("a block by itself has no last state to rebuild others from; leave state_storage out")
        self.dim = dim
        self.block = Block(config, layer=0)
        self.stream = build_output_stream(config)
        initialize(self, config)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """`ValueError` when x is not [B, T, dim] with at least one token."""
        if x_BTD.ndim != 3 or x_BTD.shape[2] != self.dim or 0 in x_BTD.shape:
            raise ValueError(f"x must be [B, T, {self.dim}] with B and T ≥ 1, got {tuple(x_BTD.shape)}")
        state_BTVD, *rewrite = self.block(x_BTD.unsqueeze(2))
        return self.stream.write(state_BTVD, Rewrite(*rewrite)).squeeze(2)


class DeltaNetModel(DdlTransformer):
    """A DeltaNet language model: ids [B, T] → logits [B, T, vocab_size], T of any length  (arXiv 2406.06484).

    `depth` blocks of width `dim`; `fields` are any others of `DdlConfig`: `residual="delta"` rewrites over depth as
    well as over time, `attention_every=4` makes a hybrid. `model.new_cache(batch_size)` decodes in constant memory.

        >>> import torch
        >>> from deep_delta import DeltaNetModel
        >>> model = DeltaNetModel(vocab_size=1000, dim=128, depth=2, num_heads=4)
        >>> model(torch.randint(0, 1000, (2, 64))).shape
        torch.Size([2, 64, 1000])
    """

    def __init__(
        self, vocab_size: int, dim: int, depth: int, num_heads: int, mlp_ratio: float = 4.0, **fields: Any
    ) -> None:
        super().__init__(
            _config(vocab_size=vocab_size, dim=dim, depth=depth, num_heads=num_heads, mlp_ratio=mlp_ratio, **fields)
        )


def _config(vocab_size: int, dim: int, depth: int, num_heads: int, mlp_ratio: float, **fields: Any) -> DdlConfig:
    if not 0 < mlp_ratio <= 1e6:
        raise ConfigError(f"mlp_ratio must be above 0 and at most 1e6, got {mlp_ratio}")
    preset = {"residual": "additive", "mixer": "deltanet", "mlp_hidden": int(round(dim * mlp_ratio, 6))}
    sizes = {"vocab_size": vocab_size, "d_model": dim, "num_layers": depth, "num_heads": num_heads}
    return DdlConfig(**{**preset, **sizes, **fields})
