"""How many answers of a task a model gets right, at any length."""

# N sequences, T time

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from deep_delta.data.batches import IGNORED, Batch
from deep_delta.data.synthetic.task import Lengths, Task
from deep_delta.data.synthetic.tasks import parse_task
from deep_delta.errors import ConfigError, DataError, NumericsError
from deep_delta.evaluation.language_model import autocast
from deep_delta.models.modes import evaluation_mode
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Accuracy

_LOGITS_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Answers:
    """What was asked of N sequences of up to T tokens, and which answers were right.

    asked, right: bool [N, T], by the position whose token the answer follows; right only where asked. loss: nats per
    answer.
    """

    asked: np.ndarray
    right: np.ndarray
    loss: float

    @property
    def num_answers(self) -> int:
        return int(self.asked.sum())

    @property
    def overall(self) -> float:
        """Share of all answers."""
        return float(self.right.sum() / self.asked.sum())

    @cached_property
    def last(self) -> float:
        """Share of the last answer of each sequence."""
        last_N = self.asked.shape[1] - 1 - np.argmax(self.asked[:, ::-1], axis=1)
        return float(self.right[np.arange(len(last_N)), last_N].mean())

    @property
    def exact(self) -> float:
        """Share of the sequences that have no wrong answer."""
        return float((self.right == self.asked).all(axis=1).mean())

    @property
    def by_position(self) -> np.ndarray:
        """Share of right answers at each position, float64 [T]; NaN where nothing is asked."""
        asked_T = self.asked.sum(axis=0)
        return np.where(asked_T > 0, self.right.sum(axis=0) / np.maximum(asked_T, 1), np.nan)

    def summary(self, lengths: str) -> Accuracy:
        """What a saved evaluation keeps; `lengths` says which the sequences have."""
        return Accuracy(
            lengths=lengths,
            overall=self.overall,
            last=self.last,
            exact=self.exact,
            num_answers=self.num_answers,
            num_sequences=len(self.asked),
        )


def measure_accuracy(
    model: DdlTransformer,
    task: Task | str,
    length: int,
    num_sequences: int = 256,
    seed: int = 0,
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Answers:
    """Answers of a model to the first `num_sequences` test examples of one length and seed.

    task: also by name, as "synth:parity"; its own training and test lengths do not matter here.

        >>> from deep_delta import DdlTransformer, variant_config
        >>> sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 4, "max_seq_len": 64}
        >>> found = measure_accuracy(DdlTransformer(variant_config("ddl-cc", **sizes)), "synth:parity", 64)
        >>> found.right.shape
        (256, 64)

    Raises `ConfigError` when there is no such length, the model does not hold it or does not know all symbols, or
    `num_sequences` is below 1; `NumericsError` when a loss is not finite.
    """
    task = parse_task(task) if isinstance(task, str) else task
    if num_sequences < 1:
        raise ConfigError(f"num_sequences must be at least 1, got {num_sequences}")
    longest = task.rule.longest
    if length < 1 or (longest is not None and length > longest):
        most = "" if longest is None else f" and at most {longest}"
        raise ConfigError(f"{task.spec}: length must be at least 1{most}, got {length} {task.rule.unit}")
    require_room(model, task, length)
    batches = task.batches("test", seed, num_sequences, Lengths(length, length))
    return score_answers(model, batches, precision=precision)


def require_room(model: DdlTransformer, task: Task, length: int, name: str = "the model") -> None:
    """`ConfigError`, naming it, unless a model knows every symbol of the task and holds a sequence of this length."""
    if model.config.vocab_size < task.tokenizer.vocab_size:
        raise ConfigError(
            f"{name} knows {model.config.vocab_size} tokens and {task.spec} has {task.tokenizer.vocab_size}"
        )
    limit, tokens = model.config.context_limit, task.num_tokens(length)
    if limit is not None and limit < tokens:
        raise ConfigError(
            f"{task.spec}: {length} {task.rule.unit} are {tokens} tokens, and {name} holds max_seq_len {limit}; "
            "give shorter lengths"
        )


def score_answers(
    model: DdlTransformer, batches: Iterable[Batch], *, precision: Literal["fp32", "bf16"] = "fp32"
) -> Answers:
    """Score a model, in evaluation mode and without gradients, on the device where it is; its mode comes back.

    Raises `DataError` when nothing is asked and `NumericsError` when a loss is not finite.
    """
    device = next(model.parameters()).device
    asked, right, nats = [], [], []
    with torch.no_grad(), evaluation_mode(model):
        for index, (ids, targets_NT) in enumerate(_cut(batches, model.config.vocab_size)):
            asked_NT = targets_NT != IGNORED
            targets = torch.from_numpy(targets_NT[asked_NT]).to(device)
            with autocast(device, precision):
                logits = model(torch.from_numpy(ids).to(device))[torch.from_numpy(asked_NT).to(device)].float()
                nats.append(F.cross_entropy(logits, targets, reduction="sum").item())
            if not math.isfinite(nats[-1]):
                raise NumericsError(f"the loss of evaluation batch {index} is {nats[-1]}")
            right_NT = np.zeros_like(asked_NT)
            right_NT[asked_NT] = (logits.argmax(dim=-1) == targets).cpu().numpy()
            asked.append(asked_NT)
            right.append(right_NT)
    num_answers = sum(int(one.sum()) for one in asked)
    if not num_answers:
        raise DataError("nothing to evaluate: no answer is asked for")
    width = max(one.shape[1] for one in asked)
    asked_NT, right_NT = (
        np.concatenate([np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in parts]) for parts in (asked, right)
    )
    return Answers(asked_NT, right_NT, math.fsum(nats) / num_answers)


def _cut(batches: Iterable[Batch], vocab_size: int) -> Iterator[Batch]:
    """The same sequences, no more at once than leave the logits of all their positions at a bounded size."""
    for ids, targets in batches:
        rows = max(1, _LOGITS_AT_ONCE // (ids.shape[1] * vocab_size))
        for start in range(0, len(ids), rows):
            yield ids[start : start + rows], targets[start : start + rows]
