"""The learning rate, a function of the step alone: linear warm-up, then a cosine down to the floor."""

from __future__ import annotations

import math

from deep_delta.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The rate of the step with this index (from 0).

    Warm-up: peak · (step + 1) / warmup_steps. Then, with p = (step − warmup_steps) / (max_steps − warmup_steps),
    floor + (peak − floor) · (1 + cos πp) / 2; the floor itself belongs to `max_steps`, which is never taken.
    """
    peak, floor = config.learning_rate, config.min_learning_rate
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps))
    return floor + (peak - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
