"""Tasks of lm-evaluation-harness, through its own model class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import ConfigError, DataError, DeepDeltaError
from deep_delta.evaluation.suites.examinee import Examinee
from deep_delta.generation.engine import generate
from deep_delta.generation.sampling import Sampling
from deep_delta.models.modes import evaluation_mode
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.suites import HarnessResult

WINDOW = 2048
"""Tokens that a model without a context limit is given at most."""


_OPTIONS: dict[str, Any] = {
    "bootstrap_iters": 1000,
    "log_samples": False,
    "random_seed": 0,
    "numpy_random_seed": 0,
    "torch_random_seed": 0,
}


def harness_model(model: DdlTransformer, tokenizer: Tokenizer) -> Any:
    """An `lm_eval.api.model.TemplateLM` around a model. ConfigError, naming the extra, where lm-eval is missing."""
    try:
        from lm_eval.api.model import TemplateLM
    except ImportError:
        raise ConfigError(
            "--tasks needs lm-eval, which is not installed: pip install 'deep-delta-learning[eval]'"
        ) from None

    class HarnessModel(TemplateLM):
        """Log-likelihoods and greedy continuations."""

        @property
        def eot_token_id(self) -> int:
            return tokenizer.end_of_text

        def tok_encode(self, string: str, **_: Any) -> list[int]:
            return list(tokenizer.encode(string))

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            """Apart where both together have no token of the answer alone, which would make it certain."""
            together: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return together if together[1] else (self.tok_encode(context), self.tok_encode(continuation))

        def _loglikelihood_tokens(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            return [score_continuation(model, context, answer) for _, context, answer in requests]

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            return [rolling(model, tokenizer, request.args[0]) for request in requests]

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            return [_continue(model, tokenizer, *request.args) for request in requests]

    return HarnessModel()


def score_continuation(model: DdlTransformer, context: Sequence[int], answer: Sequence[int]) -> tuple[float, bool]:
    """Nats of the answer after the context, and whether greedy decoding would give it; the context's oldest tokens are
    left out where the model cannot hold all. DataError for an answer that is longer than that."""
    window = model.config.context_limit or WINDOW
    if not answer:
        return 0.0, True
    if len(answer) > window:
        raise DataError(f"an answer has {len(answer)} tokens, and the model holds {window}")
    ids = [*context, *answer][-(window + 1) :]
    device = next(model.parameters()).device
    with torch.no_grad(), evaluation_mode(model):
        logits = model(torch.tensor([ids[:-1]], device=device))[0, -len(answer) :].float()
    targets = torch.tensor(answer, device=device)
    scores = F.log_softmax(logits, dim=-1).gather(-1, targets[:, None])
    return float(scores.double().sum()), bool((logits.argmax(-1) == targets).all())


def rolling(model: DdlTransformer, tokenizer: Tokenizer, text: str) -> float:
    """Nats of a whole text after an end-of-text token, in windows that the model holds, each token once."""
    window = model.config.context_limit or WINDOW
    ids = [tokenizer.end_of_text, *tokenizer.encode(text)]
    parts = [
        score_continuation(model, ids[start : start + 1], ids[start + 1 : start + 1 + window])[0]
        for start in range(0, len(ids) - 1, window)
    ]
    return math.fsum(parts)


def _continue(model: DdlTransformer, tokenizer: Tokenizer, prompt: str, options: dict[str, Any]) -> str:
    until = options.get("until") or []
    stop = [until] if isinstance(until, str) else list(until)
    greedy = Sampling(temperature=0.0)
    pieces = generate(
        model, tokenizer, prompt, max_new_tokens=int(options.get("max_gen_toks", 128)), sampling=greedy, stop=stop
    )
    return "".join(pieces)


def run_tasks(
    examinees: Sequence[Examinee], tasks: Sequence[str], *, include: Path | None = None, limit: int | None = None
) -> list[HarnessResult]:
    """Every measure of these tasks for every model. include: a folder with task files of one's own.

    ConfigError for an unknown task, and where lm-eval is not installed; DataError where a task's data fail.
    """
    results = []
    for examinee in examinees:
        wrapped = harness_model(examinee.load(), examinee.tokenizer)
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=None if include is None else str(include))
        unknown = [task for task in tasks if task not in manager.all_tasks]
        if unknown:
            raise ConfigError(
                f"lm-eval has no task {unknown[0]!r}; `lm-eval ls tasks` lists them; --include-path adds yours"
            )
        with _as_one_line(tasks):
            found = simple_evaluate(model=wrapped, tasks=list(tasks), task_manager=manager, limit=limit, **_OPTIONS)
        results += _results(examinee.name, found)
    return results


@contextmanager
def _as_one_line(tasks: Sequence[str]) -> Iterator[None]:
    """What task files and their data can cause, as `DataError`."""
    from datasets.exceptions import DatasetsError
    from jinja2 import TemplateError

    try:
        yield
    except DeepDeltaError:
        raise
    except (OSError, ValueError, LookupError, StopIteration, DatasetsError, TemplateError) as error:
        said = " ".join(str(error).split())[:300] or "no data"
        raise DataError(f"lm-eval cannot run {', '.join(tasks)}: {type(error).__name__}: {said}") from error


def _results(name: str, found: dict[str, Any]) -> list[HarnessResult]:
    rows = []
    for task, measures in found["results"].items():
        samples = found["n-samples"].get(task, {}).get("effective", 0)
        for key, value in measures.items():
            metric, _, filter_name = key.partition(",")
            if not isinstance(value, (int, float, np.floating)) or metric.endswith("_stderr") or metric == "sample_len":
                continue
            error = measures.get(f"{metric}_stderr,{filter_name}")
            rows.append(
                HarnessResult(
                    model=name, task=task, metric=metric, value=float(value),
                    error=float(error) if isinstance(error, (int, float, np.floating)) else None, samples=int(samples),
                )
            )  # fmt: skip
    return rows
