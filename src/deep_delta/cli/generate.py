"""`ddl generate`: continue a prompt, text as it comes; or many prompts together."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from deep_delta.cli.device import check_device_name, resolve_device
from deep_delta.cli.options import Parser, number, whole
from deep_delta.errors import ConfigError, DataError
from deep_delta.generation.sampling import Sampling
from deep_delta.generation.stopping import StopStrings
from deep_delta.runs.layout import resolve_checkpoint

_DESCRIPTION = """
Continue a prompt with a trained model. The text is printed as it comes, the prompt before it; the same options and
seed give the same text. Several prompts are continued together, which takes less time than one after the other, and
each as it would be alone: every prompt draws with the same seed. Where a model attends, sequences longer than its
max_seq_len slide: it then sees the last part of the text only, at least half of max_seq_len. A draw applies, in this
order, the repetition penalty, the temperature, top-k, top-p and min-p.
"""

_EXAMPLES = """
  ddl generate runs/book/ddl-cc/checkpoints/LATEST --prompt "Once upon a time"
  ddl generate runs/book/ddl-cc --prompt "def " --temperature 0 --stop "def "
  ddl generate runs/book/ddl-cc --prompt-file p.txt --min-p 0.1 --seed 7
  ddl generate runs/book/ddl-cc --prompt "He said" --prompt "She said"
  ddl generate runs/book/ddl-cc --prompt-lines p.jsonl --json > texts.jsonl
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
    if options.batch_size < 1:
        raise ConfigError(f"--batch-size must be at least 1, got {options.batch_size}")
    checkpoint = resolve_checkpoint(options.checkpoint)
    prompts = _prompts(options)

    from deep_delta.data.synthetic.tasks import is_task
    from deep_delta.generation.engine import generate_batch
    from deep_delta.training.checkpoint import load_checkpoint

    model, tokenizer, manifest = load_checkpoint(checkpoint, resolve_device(options.device))
    if is_task(manifest.data.name) and not all(map(tokenizer.encode, prompts)):
        raise ConfigError(
            f"{checkpoint} was trained on a task, whose sequences begin with any symbol; give the first ones, "
            f"as --prompt {json.dumps(tokenizer.decode([0]).strip())}"
        )
    pieces = partial(
        generate_batch,
        model,
        tokenizer,
        max_new_tokens=options.max_new_tokens,
        sampling=sampling,
        seed=options.seed,
        stop=options.stop,
    )
    if len(prompts) == 1 and not options.json:
        continuation = pieces(prompts)  # a prompt that cannot be read is refused before it is shown
        try:
            sys.stdout.write("" if options.no_echo else prompts[0])
            for _, piece in continuation:
                sys.stdout.write(piece)
                sys.stdout.flush()
        finally:
            sys.stdout.write("\n")
        return
    for prompt in prompts:
        tokenizer.encode(prompt)  # one that cannot be read is refused before the first text is shown
    for first in range(0, len(prompts), options.batch_size):
        batch = prompts[first : first + options.batch_size]
        texts = [""] * len(batch)
        for row, piece in pieces(batch):
            texts[row] += piece
        for place, (prompt, text) in enumerate(zip(batch, texts, strict=True), start=first + 1):
            _show(options, prompt, text, f"--- prompt {place} of {len(prompts)}")
        sys.stdout.flush()


def _show(options: argparse.Namespace, prompt: str, text: str, title: str) -> None:
    if options.json:
        content = {"text": text} if options.no_echo else {"prompt": prompt, "text": text}
        is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"  # JSON has escapes for any other
        sys.stdout.write(json.dumps(content, ensure_ascii=not is_utf8) + "\n")
    else:
        sys.stdout.write(f"{title}\n{'' if options.no_echo else prompt}{text}\n")


def _parser() -> Parser:
    parser = Parser("generate CHECKPOINT [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a step-N folder, a LATEST file or a variant's folder")
    parser.add_argument(
        "--prompt", action="append", metavar="TEXT", help="the text to continue; repeatable [none: a new document]"
    )
    parser.add_argument("--prompt-file", metavar="FILE", help="read the prompt from a file; - is stdin")
    parser.add_argument("--prompt-lines", metavar="FILE", help="prompts from a file, a JSON string a line; - is stdin")
    parser.add_argument("--batch-size", type=whole, default=16, metavar="INT", help="prompts continued together [16]")
    parser.add_argument("--max-new-tokens", type=whole, default=200, metavar="INT", help="at most so many [200]")
    parser.add_argument("--temperature", type=number, default=0.8, metavar="FLOAT", help="0: the likeliest token [0.8]")
    parser.add_argument("--top-k", type=whole, metavar="INT", help="draw among the k likeliest tokens [all]")
    parser.add_argument(
        "--top-p", type=number, default=1.0, metavar="FLOAT", help="among the likeliest that reach p [1]"
    )
    parser.add_argument(
        "--min-p",
        type=number,
        default=0.1,
        metavar="FLOAT",
        help="at least p times as likely as the likeliest, 0 for all [0.1]",
    )
    parser.add_argument(
        "--repetition-penalty", type=number, default=1.0, metavar="FLOAT",
        help="above 1: tokens that the text holds already become less likely [1]",
    )  # fmt: skip
    parser.add_argument("--seed", type=whole, default=0, metavar="INT", help="another seed, another text [0]")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    parser.add_argument("--json", action="store_true", help='a line a prompt, {"prompt": …, "text": …}')
    parser.add_argument("--no-echo", action="store_true", help="print the continuation without the prompt")
    parser.add_device()
    return parser


def _prompts(options: argparse.Namespace) -> list[str]:
    """The prompts of the command line or of a file. `DataError` where they cannot be read or are not UTF-8."""
    given = [one for one in (options.prompt, options.prompt_file, options.prompt_lines) if one is not None]
    if len(given) > 1:
        raise ConfigError("--prompt, --prompt-file and --prompt-lines are different prompts; give one of them")
    if not given:
        return [""]
    file = given[0]
    try:
        if options.prompt is not None:
            for prompt in options.prompt:
                prompt.encode("utf-8")
            return options.prompt
        text = (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode("utf-8")
    except OSError as error:
        raise DataError(f"prompt file {file}: {error.strerror}") from None
    except UnicodeError as error:
        raise DataError(f"the prompt is not UTF-8: {error}") from None
    return [text] if options.prompt_file is not None else _parse_lines(text, file)


def _parse_lines(text: str, file: str) -> list[str]:
    prompts = []
    for place, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            prompt = json.loads(line)
            prompt.encode("utf-8")
        except (ValueError, AttributeError, RecursionError):
            raise DataError(f'{file}, line {place} is not a prompt; write a JSON string, as "Once upon"') from None
        prompts.append(prompt)
    if not prompts:
        raise DataError(f"{file} holds no prompt; write one a line, each a JSON string")
    return prompts
