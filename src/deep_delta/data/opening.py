"""What `--data` means, as training data: a task or a text."""

from __future__ import annotations

from deep_delta.data.batches import TrainingData
from deep_delta.data.synthetic.task_data import TaskData
from deep_delta.data.synthetic.tasks import is_task, parse_task
from deep_delta.data.tokenizer import Tokenizer
from deep_delta.data.tokens import prepare
from deep_delta.errors import ConfigError


def open_data(spec: str | None = None, tokenizer: str | None = None, *, fixed: Tokenizer | None = None) -> TrainingData:
    """`synth:TASK` as `TaskData`, anything else through `prepare`.

    fixed: the tokenizer of a run that is resumed. ConfigError when a tokenizer is asked for a task, which has its own.
    """
    if spec is None or not is_task(spec):
        return prepare(spec, tokenizer, fixed=fixed)
    if tokenizer is not None:
        raise ConfigError(f"{spec[:60]} has a tokenizer of its own symbols; leave --tokenizer out")
    return TaskData(parse_task(spec))
