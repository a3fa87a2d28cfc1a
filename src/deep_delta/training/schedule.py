"""The learning rate, a function of the step alone: linear warm-up, then the way down to the floor."""

from __future__ import annotations

import math

from deep_delta.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The rate of the step with this index (from 0).

    Warm-up: peak · (step + 1) / warmup_steps. Then floor + (peak − floor) · share, the share being of

        cosine     (1 + cos πp) / 2, with p = (step − warmup_steps) / (max_steps − warmup_steps)
        linear     1 − p
        wsd        1, and over the last decay_steps 1 − q, with q the part of them that is behind
        constant   1

    The floor itself belongs to `max_steps`, which is never taken.
    """
    peak, floor = config.learning_rate, config.min_learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    return floor + (peak - floor) * _share(step, config)


def _share(step: int, config: TrainingConfig) -> float:
    match config.schedule:
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * _behind(step, config.warmup_steps, config)))
        case "linear":
            return 1.0 - _behind(step, config.warmup_steps, config)
        case "wsd":
            decay_steps = config.decay_steps or math.ceil(config.max_steps / 5)
            return 1.0 - _behind(step, max(config.warmup_steps, config.max_steps - decay_steps), config)
        case "constant":
            return 1.0


def _behind(step: int, start: int, config: TrainingConfig) -> float:
    """How much of the way from `start` to the last step is behind, from 0 to 1."""
    return min(1.0, max(0.0, (step - start) / max(1, config.max_steps - start)))
