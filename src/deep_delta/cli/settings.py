"""What the user has set: TOML files and options, table by table, and the configurations that come of it; no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import ConfigError
from deep_delta.models.config import DdlConfig
from deep_delta.models.variants import VARIANTS, variant_config
from deep_delta.runs.record import Record
from deep_delta.training.config import TrainingConfig

CONFIGS = Path(__file__).parent.parent / "configs"
NAMED = {"sizes": ("tiny", "small", "100m", "124m", "353m"), "recipes": ("quick", "paper")}
RECORDS: Mapping[str, type[Record]] = {"model": DdlConfig, "train": TrainingConfig}
TABLES = " and ".join(f"[{table}]" for table in RECORDS)
_ANY_VOCABULARY = 2**16  # stands in for the tokenizer's size until there is one


class Settings:
    """What the user has set, table by table: `{"model": {"d_model": 256}, "train": {}}`. Later settings win."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {table: {} for table in RECORDS}
        self._context = 1

    def follow(self, seq_len: int, context: int) -> None:
        """Take the data's own `seq_len` where the user has set none, and build models that hold `context` tokens."""
        self.tables["train"].setdefault("seq_len", seq_len)
        self._context = context

    def update(self, file: Path) -> None:
        """Take every field of a TOML file; `ConfigError` for a bad one, an unknown table or an unknown field."""
        tables = _read_toml(file)
        for table, fields in tables.items():
            if table not in RECORDS:
                raise ConfigError(
                    f"{file}: unknown table [{table}]{did_you_mean(table, RECORDS)}; it may have {TABLES}"
                )
            if not isinstance(fields, dict):
                raise ConfigError(f"{file}: {table} must be a table, written [{table}]")
            for name in fields:
                if name not in RECORDS[table].model_fields:
                    hint = did_you_mean(name, RECORDS[table].model_fields)
                    raise ConfigError(f"{file}: unknown key {name!r} in [{table}]{hint}")
            self.tables[table].update(fields)

    def training(self) -> TrainingConfig:
        return _build("train", lambda: TrainingConfig(**self.tables["train"]))

    def model(self, slug: str, training: TrainingConfig, *, shared: bool, vocab_size: int | None = None) -> DdlConfig:
        """The model of one variant. What was not set comes from size `tiny`, and `max_seq_len` from training and data.

        shared: the settings are for several variants, so that `d_value` goes to those that have value channels and
        `residual` to all but the baseline.
        vocab_size: the tokenizer's, once known; a larger one that was set stays.
        """
        fields = {
            "max_seq_len": max(training.seq_len, self._context),
            **_read_toml(named("sizes", "tiny"))["model"],
            **self.tables["model"],
        }
        if shared and slug in ("baseline", "ddl"):
            fields.pop("d_value", None)
        if shared and slug == "baseline":
            fields.pop("residual", None)
        fields.setdefault("vocab_size", vocab_size or _ANY_VOCABULARY)
        config = _build("model", lambda: variant_config(slug, **fields))
        if vocab_size is not None and config.vocab_size < vocab_size:
            raise ConfigError(f"model.vocab_size is {config.vocab_size}, but the tokenizer has {vocab_size} tokens")
        limit = config.context_limit
        for what, needed in (
            (f"train.seq_len {training.seq_len}", training.seq_len),
            (f"a test sequence of {self._context} tokens", self._context),
        ):
            if limit is not None and limit < needed:
                raise ConfigError(
                    f"{what} is longer than model.max_seq_len {limit}; leave --model.max-seq-len out and it follows"
                )
        return config


def _build(table: str, make: Callable[[], Any]) -> Any:
    """Name the user's table, not our class, in what is wrong with a record."""
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{RECORDS[table].__name__}: ", f"{table}.")) from None


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{file}: not a TOML file: {error}") from None


def named(kind: str, name: str) -> Path:
    """The file of a named size or recipe; a path ending in .toml is a user's own."""
    if name in NAMED[kind]:
        return CONFIGS / kind / f"{name}.toml"
    if name.endswith(".toml"):
        return Path(name)
    raise ConfigError(
        f"unknown {kind.removesuffix('s')} {name!r}{did_you_mean(name, NAMED[kind])}; "
        f"there are {', '.join(NAMED[kind])}, and your own file, whose name ends in .toml"
    )


def comma_list(text: str) -> list[str]:
    """The names of a list as a, b,c."""
    return [name.strip() for name in text.split(",")]


def variants(text: str) -> list[str]:
    """`all` or a comma list of slugs, each once; `ConfigError` otherwise."""
    if text == "all":
        return list(VARIANTS)
    slugs = comma_list(text)
    for slug in slugs:
        if slug not in VARIANTS:
            hint = did_you_mean(slug, VARIANTS)
            raise ConfigError(f"unknown variant {slug!r}{hint}; there are {', '.join(VARIANTS)}, and all")
    if len(set(slugs)) != len(slugs):
        raise ConfigError(f"a variant is named twice in {text!r}")
    return slugs


def model_defaults() -> dict[str, Any]:
    """What a model is when nothing is said: size `tiny`, and what the data and the training decide."""
    return {
        **_read_toml(named("sizes", "tiny"))["model"],
        "vocab_size": "the tokenizer's",
        "max_seq_len": "train.seq_len, or what a task is tested at",
        "d_value": "4; 1 for baseline and ddl",
        "residual": "the variant's",
        "compression": "the variant's",
        "embed_conv": "the variant's",
    }
