"""How likely a model finds sentences, and which of two it prefers."""

# B sentences, T tokens

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from deep_delta.data.tokenizer import Tokenizer
from deep_delta.errors import ConfigError, NumericsError
from deep_delta.models.modes import evaluation_mode
from deep_delta.models.transformer import DdlTransformer

BATCH_SIZE = 64


def log_likelihoods(
    model: DdlTransformer, tokenizer: Tokenizer, sentences: Sequence[str], *, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Nats of each sentence after an end-of-text token, float64 [N]: the sum of its tokens' log-probabilities, which
    are taken in fp32.

    Sentences of equal length are read together and none is padded, so that the batch changes rounding at most.
    `ConfigError` for a sentence beyond the model's context, `NumericsError` where a score is not finite.
    """
    tokens = [ids.tolist() for ids in tokenizer.encode_batch(sentences)]
    limit = model.config.context_limit
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, ids in enumerate(tokens):
        by_length[len(ids)].append(index)
        if limit is not None and len(ids) > limit:
            raise ConfigError(f"a sentence has {len(ids)} tokens, and the model holds max_seq_len {limit}")
    device = next(model.parameters()).device
    scores = np.zeros(len(sentences))
    with torch.no_grad(), evaluation_mode(model):
        for length, indices in by_length.items():
            for start in range(0, len(indices) if length else 0, batch_size):
                chosen = indices[start : start + batch_size]
                targets_BT = torch.tensor([tokens[index] for index in chosen], device=device)
                starts = targets_BT.new_full((len(chosen), 1), tokenizer.end_of_text)
                logits_BTV = model(torch.cat((starts, targets_BT[:, :-1]), dim=1)).float()
                found = F.log_softmax(logits_BTV, dim=-1).gather(-1, targets_BT[..., None]).squeeze(-1)
                scores[chosen] = found.double().sum(-1).cpu().numpy()
    if not np.isfinite(scores).all():
        raise NumericsError(f"the score of {sentences[int(np.argmin(np.isfinite(scores)))]!r} is not finite")
    return scores


def preferences(good: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """1 where the good sentence is likelier, 0 where the bad one is, 0.5 for a tie; float64."""
    return np.where(good == bad, 0.5, (good > bad).astype(float))


def both_right(scores: np.ndarray, groups: np.ndarray) -> float | None:
    """Share of the crossed groups of two whose pairs are both right; None where no group is whole."""
    numbers, counts = np.unique(groups, return_counts=True)
    sums = np.bincount(np.searchsorted(numbers, groups), weights=scores)
    whole = sums[counts == 2]
    return float((whole == 2).mean()) if len(whole) else None
