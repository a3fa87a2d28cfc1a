"""`ddl data`: prepare a corpus or look at a task, and see what would be trained on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from deep_delta.cli.options import Parser, whole
from deep_delta.errors import ConfigError

_DESCRIPTION = """
Prepare a text for training and look at it: how it is split, what is held out for validation, what the tokenizer makes
of it, and the hashes by which results are compared. Tokens and trained tokenizers go to a cache (DEEP_DELTA_CACHE,
else ~/.cache/deep_delta), so that training starts at once; `ddl train` prepares what is missing by itself. DATA is a
text, jsonl or parquet file, a folder or a glob; without it, the source of Python's own standard library. Text and jsonl
may be compressed (.gz, .bz2, .xz, .zst). Of jsonl and parquet the field text is read, a document from each line or row.
DATA may also be a task, whose every answer is known: synth:NAME or synth:NAME:OPTION=VALUE,…
"""

_EXAMPLES = """
  ddl data
  ddl data book.txt --sample 500
  ddl data synth:recall:pairs=8,keys=32 --sample 24
  ddl data 'texts/*.jsonl' --tokenizer bpe:8192 --save-tokenizer tokens.json
"""

_SYMBOLS = 8


def run(arguments: Sequence[str]) -> None:
    options = _parser().parse(arguments)
    if options.sample < 0:
        raise ConfigError(f"--sample must not be negative, got {options.sample}")

    from deep_delta.data.synthetic.tasks import is_task

    if is_task(options.data):
        _show_task(options)
    else:
        _show_text(options)


def _show_text(options: argparse.Namespace) -> None:
    from deep_delta.cli.console import notes, out, show_table
    from deep_delta.data.tokens import prepare

    with notes.status("reading, tokenizing and writing to the cache"):
        data = prepare(options.data, options.tokenizer)
        facts = data.facts()
    rows = [
        [
            name,
            f"{split.documents:,}",
            f"{split.num_bytes:,}",
            f"{split.tokens:,}",
            "–" if split.bytes_per_token is None else f"{split.bytes_per_token:.2f}",
        ]
        for name, split in (("train", facts.train), ("validation", facts.validation))
    ]
    note = f"tokenizer {facts.tokenizer} of {facts.vocab_size:,} tokens\nsha256 {facts.sha256}"
    show_table(facts.corpus, ["<split", "documents", "bytes", "tokens", "bytes/token"], rows, note)
    tokens = data.sample(num_tokens=options.sample)
    if tokens:
        out.print(f"[bold]The first {len(tokens)} tokens[/]")
        out.print(("" if facts.tokenizer == "byte" else "|").join(tokens), markup=False, soft_wrap=True)
    if options.save_tokenizer:
        data.tokenizer.save(Path(options.save_tokenizer))
        notes.print(f"use it with --tokenizer {options.save_tokenizer}", soft_wrap=True)


def _show_task(options: argparse.Namespace) -> None:
    from deep_delta.cli.console import notes, out, show_table
    from deep_delta.data.synthetic.tasks import parse_task

    if options.tokenizer is not None:
        raise ConfigError("a task has a tokenizer of its own symbols; leave --tokenizer out")
    task = parse_task(options.data)
    rows = [
        [name, f"{lengths} {task.rule.unit}", f"{task.num_tokens(lengths.first)}–{task.num_tokens(lengths.last)}"]
        for name, lengths in (("train", task.train), ("test", task.test))
    ]
    symbols = task.rule.symbols
    shown = " ".join(symbols if len(symbols) <= 2 * _SYMBOLS else [*symbols[:_SYMBOLS], "…", *symbols[-_SYMBOLS:]])
    note = f"{len(symbols)} symbols: {shown}\na guess gets {task.rule.chance:.2g} of the answers\nsha256 {task.sha256}"
    show_table(task.spec, ["<split", "<lengths", "tokens"], rows, note)
    for number, (line, answers) in enumerate(task.samples(options.sample)):
        out.print(f"[bold]Example {number}[/], and what is asked for after each symbol")
        out.print(line, markup=False, soft_wrap=True)
        out.print(answers, markup=False, soft_wrap=True)
    if options.save_tokenizer:
        task.tokenizer.save(Path(options.save_tokenizer))
        notes.print(f"the tokenizer is in {options.save_tokenizer}", soft_wrap=True)


def _parser() -> Parser:
    from deep_delta.data.synthetic.tasks import TASKS, parse_task

    parser = Parser("data [DATA] [options]", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("data", nargs="?", metavar="DATA", help="the text or the task [Python's own source]")
    parser.add_tokenizer()
    parser.add_argument("--sample", type=whole, default=200, metavar="INT", help="show so many tokens [200]")
    parser.add_argument("--save-tokenizer", metavar="FILE", help="write the tokenizer to a file of your own")
    tasks = (f"{parse_task(f'synth:{name}').spec}\n    {kind.summary}" for name, kind in TASKS.items())
    parser.add_argument_group("tasks, with the defaults of all their options", "\n".join(tasks))
    return parser
