"""What the options of `ddl inspect` mean."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from deep_delta.cli.settings import comma_list
from deep_delta.cli.suggest import did_you_mean
from deep_delta.errors import ConfigError, DataError
from deep_delta.runs.inspection import CHANGES, Change, Intervention
from deep_delta.runs.manifest import DataIdentity, Manifest
from deep_delta.runs.record import strict_json

if TYPE_CHECKING:
    from deep_delta.data.tokenizer import Tokenizer
    from deep_delta.interventions import Documents
    from deep_delta.models.transformer import DdlTransformer


def parse_changes(given: str | None) -> list[Change]:
    """The changes of "gate_0,erase_only", none without an option. ConfigError for a name that is none."""
    names = [] if given is None else comma_list(given)
    for name in names:
        if name not in CHANGES:
            raise ConfigError(f"--only: unknown change {name!r}{did_you_mean(name, CHANGES)}; use {', '.join(CHANGES)}")
    return cast("list[Change]", names)


def read_interventions(files: Sequence[str]) -> list[Intervention]:
    """The interventions of some files."""
    found = []
    for file in files:
        try:
            content = strict_json(Path(file).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file} is no JSON: {error}") from None
        for one in content if isinstance(content, list) else [content]:
            found.append(Intervention.from_json(json.dumps(one), error=ConfigError, where=file))
        if not content:
            raise ConfigError(f"{file} has no intervention in it")
    return found


def parse_layers(given: str | None, num_layers: int) -> list[int]:
    """The layers of "0,2-3". ConfigError for others than the model has."""
    if given is None:
        return list(range(num_layers))
    found: set[int] = set()
    for part in given.split(","):
        first, _, last = part.partition("-")
        if not (first.strip().isdecimal() and (last or first).strip().isdecimal()) or int(last or first) < int(first):
            raise ConfigError(f"--layers must be numbers and ranges, as 0,2-3, got {given!r}")
        if int(last or first) >= num_layers:
            raise ConfigError(f"--layers {given}: the model has the layers 0 to {num_layers - 1}")
        found.update(range(int(first), int(last or first) + 1))
    return sorted(found)


def open_documents(
    options: argparse.Namespace, model: DdlTransformer, tokenizer: Tokenizer, manifest: Manifest, tokens: int
) -> tuple[Documents, DataIdentity, str]:
    """What the model is looked at on; without --data, the task that it was trained on, or Python's own source."""
    from deep_delta.data.corpus import open_corpus
    from deep_delta.data.synthetic.tasks import is_task, parse_task
    from deep_delta.evaluation.accuracy import require_room
    from deep_delta.evaluation.compare import Part
    from deep_delta.interventions import task_documents, text_documents
    from deep_delta.training.config import TrainingConfig

    def identity(name: str, sha256: str) -> DataIdentity:
        return DataIdentity(
            name=name, sha256=sha256, tokenizer=tokenizer.name, tokenizer_sha256=tokenizer.sha256, layout=1
        )

    spec = options.data or (manifest.data.name if is_task(manifest.data.name) else None)
    if spec is not None and is_task(spec):
        if options.split is not None:
            raise ConfigError("--split is not for a task; leave it out")
        task = parse_task(spec)
        if tokenizer.sha256 != task.tokenizer.sha256:
            raise DataError(
                f"the model does not know the symbols of {task.spec} (its tokenizer is {tokenizer.name}); "
                "look at it on the data that it was trained on"
            )
        require_room(model, task, task.train.last)
        return task_documents(task, tokens=tokens), identity(task.spec, task.sha256), "test"
    corpus = open_corpus(spec)
    split: Part = options.split or ("validation" if corpus.sha256 == manifest.data.sha256 else "all")
    seq_len = TrainingConfig.model_validate(manifest.training).seq_len
    documents = text_documents(corpus, split, tokenizer, seq_len=seq_len, tokens=tokens)
    return documents, identity(corpus.name, corpus.sha256), split
