"""`ddl import`: make a checkpoint of a model that other code has trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deep_delta.cli.options import Parser, whole
from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from deep_delta.data.tokenizer import Tokenizer

_DESCRIPTION = """
Make a checkpoint of a model of the paper authors' released code, which `ddl compare`, `ddl generate` and
`load_checkpoint` take; it computes what theirs computes. DIR holds config.json and model.safetensors (or its shards
and their index), as transformers saves them, and perhaps tokenizer.json. A pickle (pytorch_model.bin) is never opened.
Training cannot resume from the checkpoint, which holds weights only.
"""

_EXAMPLES = """
  ddl import released their-model --out checkpoints/their-model
  ddl import released their-model --out theirs --tokenizer gpt2/tokenizer.json
  ddl import released their-model --out theirs --code accelerated
"""

_SOURCES = ("released",)


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    if options.source not in _SOURCES:
        hint = did_you_mean(options.source, _SOURCES)
        raise ConfigError(f"unknown source {options.source!r}{hint}; there is released, the paper authors' code")
    if options.max_seq_len is not None and options.max_seq_len < 1:
        raise ConfigError(f"--max-seq-len must be at least 1, got {options.max_seq_len}")
    folder, out = Path(options.folder), Path(options.out)
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; give the one that holds config.json and model.safetensors")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; choose another --out")
    tokenizer = _tokenizer(folder, options.tokenizer)

    from deep_delta.integrations.released_code import load_released
    from deep_delta.models.variants import variant_of
    from deep_delta.runs.manifest import DataIdentity
    from deep_delta.training.checkpoint import save_model

    code = None if options.code == "auto" else options.code
    model = load_released(folder, code=code, max_seq_len=options.max_seq_len)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"the model knows {model.config.vocab_size} tokens and the tokenizer has {tokenizer.vocab_size}; "
            "give the one that it was trained with as --tokenizer FILE"
        )
    variant = variant_of(model.config)
    name = f"released {folder.resolve().name}"
    data = DataIdentity(
        name=name,
        sha256=hashlib.sha256(name.encode()).hexdigest(),  # of no text: what it was trained on is not known
        tokenizer=tokenizer.name,
        tokenizer_sha256=tokenizer.sha256,
    )
    save_model(out, variant=variant, model=model, tokenizer=tokenizer, data=data)
    print(f"{out}: {variant}, {model.num_parameters():,} parameters, tokenizer {tokenizer.name}")


def _tokenizer(folder: Path, given: str | None) -> Tokenizer:
    """The one that was named, or the folder's own. ConfigError when there is neither, DataError when it is damaged."""
    from deep_delta.data.tokenizer import Tokenizer, byte_tokenizer

    if given == "byte":
        return byte_tokenizer()
    own = folder / "tokenizer.json"
    if given is None and not own.exists():
        raise ConfigError(
            f"{folder} has no tokenizer.json; give the one that the model was trained with as --tokenizer FILE"
        )
    return Tokenizer.load(own if given is None else given)


def _parser() -> Parser:
    parser = Parser("import released DIR --out CHECKPOINT [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("source", metavar="released", help="whose code trained the model: the paper authors'")
    parser.add_argument("folder", metavar="DIR", help="the folder of the model")
    parser.add_argument("--out", required=True, metavar="CHECKPOINT", help="the folder to write, which must be new")
    parser.add_argument("--tokenizer", metavar="FILE", help="a tokenizer.json, or byte [DIR/tokenizer.json]")
    parser.add_argument(
        "--code",
        choices=("auto", "plain", "accelerated"),
        default="auto",
        help="which of their two files for channel compression trained it [auto: what auto_map names, else plain]",
    )
    parser.add_argument("--max-seq-len", type=whole, metavar="INT", help="tokens of context [their block_size]")
    return parser
