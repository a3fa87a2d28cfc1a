"""The six variants, as data: each is a few fields of `DdlConfig`."""

from __future__ import annotations

from typing import Any

from deep_delta.errors import ConfigError
from deep_delta.models.config import DdlConfig

_MATRIX = {"residual": "delta", "d_value": 4}

_FIELDS: dict[str, dict[str, Any]] = {
    "baseline": {"residual": "additive", "d_value": 1},
    "ddl": {"residual": "delta", "d_value": 1},
    "ddl-tokenconv": {**_MATRIX, "compression": "token_conv"},
    "ddl-ec": {**_MATRIX, "compression": "token_conv", "embed_conv": True},
    "ddl-cc": {**_MATRIX, "compression": "channel_conv"},
    "ddl-cc-ec": {**_MATRIX, "compression": "channel_conv", "embed_conv": True},
}

PAPER_NAMES: dict[str, str] = {
    "baseline": "Baseline (additive)",
    "ddl": "DDL (d_v = 1)",
    "ddl-tokenconv": "DDL-TC w/o EC",
    "ddl-ec": "DDL-TC",
    "ddl-cc": "DDL-CC w/o EC",
    "ddl-cc-ec": "DDL-CC",
}

VARIANTS: tuple[str, ...] = tuple(_FIELDS)
"""The slugs, in the order of the paper's table."""


def variant_of(config: DdlConfig) -> str:
    """The variant that a configuration is, by what makes the variants differ."""
    if config.residual == "additive":
        return "baseline"
    if config.d_value == 1:
        return "ddl"
    marks = {name: getattr(config, name) for name in ("compression", "embed_conv")}
    return next(slug for slug, fields in _FIELDS.items() if {"embed_conv": False, **fields}.items() >= marks.items())


def variant_config(slug: str, **fields: Any) -> DdlConfig:
    """The configuration of one variant: its own fields, then yours.

    Raises `ConfigError` for an unknown slug, and where a field contradicts what makes the variant (`ddl` with another
    `d_value` than 1, say).

        >>> variant_config("ddl-cc", d_model=64, num_layers=2, num_heads=4, vocab_size=256).d_value
        4
    """
    if slug not in _FIELDS:
        raise ConfigError(f"unknown variant {slug!r}; the variants are {', '.join(VARIANTS)}")
    preset = _FIELDS[slug]
    if slug in ("baseline", "ddl") and fields.get("d_value", 1) != 1:
        raise ConfigError(f"variant {slug} has d_value 1, got {fields['d_value']!r}")
    if slug not in ("baseline", "ddl") and fields.get("d_value") == 1:
        raise ConfigError(f"variant {slug} needs d_value > 1, got 1; with one value channel it is `ddl`")
    if (fields.get("residual", preset["residual"]) == "additive") != (slug == "baseline"):
        rule = "has residual additive" if slug == "baseline" else "rewrites its state, so its residual is not additive"
        raise ConfigError(f"variant {slug} {rule}, got {fields['residual']!r}")
    for name in ("compression", "embed_conv"):
        if name in fields and name in preset and fields[name] != preset[name]:
            raise ConfigError(f"variant {slug} has {name} {preset[name]}, got {fields[name]!r}")
    return DdlConfig(**{**preset, **fields})
