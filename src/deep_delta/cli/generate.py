"""`ddl generate`: continue a prompt, text as it comes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, number, whole
from deep_delta.errors import ConfigError, DataError
from deep_delta.generation.sampling import Sampling
from deep_delta.generation.stopping import StopStrings
from deep_delta.runs.layout import resolve_checkpoint

_DESCRIPTION = """
Continue a prompt with a trained model. The text is printed as it comes, the prompt before it; the same options and
seed give the same text. Sequences longer than the model's max_seq_len slide: the model then sees the last part of
the text only, at least half of max_seq_len.
"""

_EXAMPLES = """
  ddl generate runs/book/ddl-cc/checkpoints/LATEST --prompt "Once upon a time"
  ddl generate runs/book/ddl-cc --prompt "def " --temperature 0 --stop "def "
  ddl generate runs/book/ddl-cc --prompt-file prompt.txt --top-p 0.9 --seed 7
"""


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    check_device_name(options.device)
    sampling = Sampling(
        repetition_penalty=options.repetition_penalty,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
    )
    StopStrings(options.stop)
    if not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed must be from 0 to 2**63 - 1, got {options.seed}")
    if options.max_new_tokens < 0:
        raise ConfigError(f"--max-new-tokens must not be negative, got {options.max_new_tokens}")
    checkpoint = resolve_checkpoint(options.checkpoint)
    prompt = _read_prompt(options.prompt, options.prompt_file)

    from deep_delta.generation.engine import generate
    from deep_delta.training.checkpoint import load_checkpoint

    model, tokenizer, _ = load_checkpoint(checkpoint, resolve_device(options.device))
    pieces = generate(
        model,
        tokenizer,
        prompt,
        max_new_tokens=options.max_new_tokens,
        sampling=sampling,
        seed=options.seed,
        stop=options.stop,
    )
    try:
        sys.stdout.write("" if options.no_echo else prompt)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:
        sys.stdout.write("\n")


def _parser() -> Parser:
    parser = Parser("generate CHECKPOINT [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a step-N folder, a LATEST file or a variant's folder")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the text to continue [none: a new document]")
    parser.add_argument("--prompt-file", metavar="FILE", help="read the prompt from a file; - is stdin")
    parser.add_argument("--max-new-tokens", type=whole, default=200, metavar="INT", help="at most so many [200]")
    parser.add_argument("--temperature", type=number, default=0.8, metavar="FLOAT", help="0: the likeliest token [0.8]")
    parser.add_argument("--top-k", type=whole, metavar="INT", help="draw among the k likeliest tokens [all]")
    parser.add_argument(
        "--top-p", type=number, default=1.0, metavar="FLOAT", help="among the likeliest that reach p [1]"
    )
    parser.add_argument(
        "--min-p", type=number, default=0.0, metavar="FLOAT", help="at least p times as likely as the likeliest [0]"
    )
    parser.add_argument(
        "--repetition-penalty", type=number, default=1.0, metavar="FLOAT",
        help="above 1: tokens that the text holds already become less likely [1]",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole, default=0, metavar="INT", help="another seed, another text [0]")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    parser.add_argument("--no-echo", action="store_true", help="print the continuation without the prompt")
    parser.add_device()
    return parser


def _read_prompt(given: str, file: str | None) -> str:
    """The prompt of the command line or of a file. `DataError` where it cannot be read or is not UTF-8."""
    if given and file:
        raise ConfigError("--prompt and --prompt-file are two prompts; give one")
    try:
        if file is None:
            given.encode("utf-8")
            return given
        return (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode("utf-8")
    except OSError as error:
        raise DataError(f"prompt file {file}: {error.strerror}") from None
    except UnicodeError as error:
        raise DataError(f"the prompt is not UTF-8: {error}") from None
