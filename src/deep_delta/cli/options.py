"""Options from the configuration records: `--model.d-model 256`, `--size`, `--recipe`, `--config FILE`; no torch.

Whatever is given later on the command line wins, a file counting as all its fields in its place.
"""

from __future__ import annotations

import argparse
import textwrap
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from deep_delta.cli.settings import NAMED, RECORDS, TABLES, Settings, model_defaults, named
from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import ConfigError
from deep_delta.runs.duration import Duration


class Parser(argparse.ArgumentParser):
    """An argument parser whose help begins with examples and whose errors are `ConfigError`s with a suggestion."""

    def __init__(self, usage: str, description: str, examples: str) -> None:
        """usage: "train [options]", say."""
        super().__init__(
            prog=f"ddl {usage.split()[0]}",
            usage=f"ddl {usage}",
            description=f"{textwrap.fill(description.strip(), 80)}\n\nexamples:\n{examples.strip(chr(10))}",
            formatter_class=_Help,
            allow_abbrev=False,
        )

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            word = unknown[0].split("=", 1)[0]
            hint = did_you_mean(word, self._option_string_actions) if word.startswith("-") else ""
            kind = "option" if word.startswith("-") else "argument"
            raise ConfigError(f"unknown {kind} {word!r}{hint}; see `{self.prog} --help`")
        return options

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}; see `{self.prog} --help`")

    def add_device(self) -> None:
        self.add_argument(
            "--device", default="auto", metavar="NAME", help="auto (a GPU if there is one), cpu, cuda, cuda:1, …"
        )

    def add_data(self) -> None:
        self.add_argument(
            "--data",
            metavar="DATA",
            help="a text, jsonl (its field text) or parquet file, a folder or a glob [Python's own source]; text and "
            "jsonl may be compressed (.gz, .bz2, .xz, .zst); "
            "or a task, as synth:parity or synth:recall:pairs=16",
        )

    def add_tokenizer(self) -> None:
        self.add_argument(
            "--tokenizer",
            metavar="NAME",
            help="byte; bpe or bpe:SIZE, trained on the data [4096]; or a tokenizer.json [byte]",
        )

    def add_configs(self) -> None:
        """--size, --recipe, --config and one option for every field of the records, kept in `settings`."""
        self.set_defaults(settings=Settings())
        files = self.add_argument_group("sizes and recipes (later options win over earlier ones)")
        own = "or a TOML file of your own"
        files.add_argument(
            "--size", action=_File, kind="sizes", metavar="NAME", help=f"{', '.join(NAMED['sizes'])} {own}"
        )
        files.add_argument(
            "--recipe", action=_File, kind="recipes", metavar="NAME", help=f"{', '.join(NAMED['recipes'])} {own}"
        )
        files.add_argument("--config", action=_File, metavar="FILE", help=f"a TOML file with tables {TABLES}")
        unset = {"model": model_defaults(), "train": {}}
        for table, record in RECORDS.items():
            group = self.add_argument_group(f"{table} options")
            for name, field in record.model_fields.items():
                parse, metavar = _value(field.annotation)
                switch: dict[str, Any] = {"nargs": "?", "const": True} if field.annotation is bool else {}
                default = unset[table].get(name, "" if field.is_required() or field.default is None else field.default)
                shown = f" [{str(default).lower() if isinstance(default, bool) else default}]" if default != "" else ""
                group.add_argument(
                    f"--{table}.{name.replace('_', '-')}",
                    action=_Field,
                    field=(table, name),
                    type=parse,
                    metavar=metavar,
                    help=f"{field.description}{shown}".replace("%", "%%"),
                    **switch,
                )


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)


class _Field(argparse.Action):
    def __init__(self, *, field: tuple[str, str], **rest: Any) -> None:
        super().__init__(**{**rest, "default": argparse.SUPPRESS, "dest": argparse.SUPPRESS})
        self.field = field

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        table, name = self.field
        namespace.settings.tables[table][name] = values


class _File(argparse.Action):
    def __init__(self, *, kind: str | None = None, **rest: Any) -> None:
        super().__init__(**{**rest, "default": argparse.SUPPRESS, "dest": argparse.SUPPRESS})
        self.kind = kind

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        namespace.settings.update(Path(values) if self.kind is None else named(self.kind, values))


def _value(annotation: Any) -> tuple[Callable[[str], Any], str]:
    """How a field of this type is read from the command line, and what stands for it in --help."""
    if get_origin(annotation) in (Union, types.UnionType):
        parse, metavar = _value(next(option for option in get_args(annotation) if option is not type(None)))
        return lambda text: None if text == "none" else parse(text), f"{metavar}|none"
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return _reader(
            lambda text: {choice: choice for choice in choices}[text], f"one of {', '.join(choices)}"
        ), "|".join(choices)
    if annotation == Duration:
        return str, "TIME"
    if get_origin(annotation) is Annotated:
        return _value(get_args(annotation)[0])
    if annotation is bool:
        return _reader(lambda text: {"true": True, "false": False}[text], "true or false"), "true|false"
    if annotation is int:
        return whole, "INT"
    assert annotation is float, annotation
    return number, "FLOAT"


def _reader(parse: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, KeyError):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text[:60]!r}") from None

    return read


whole = _reader(int, "a whole number")
number = _reader(float, "a number")
