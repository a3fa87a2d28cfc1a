from __future__ import annotations

import torch

from deep_delta.benchmarks.training_step import measure_step_times
from tests.training.tiny import tiny_config, tiny_training


def test_every_model_is_timed_against_the_first_and_no_random_numbers_are_used_up():
    generator = torch.get_rng_state()
    configs = {name: tiny_config(name) for name in ("baseline", "ddl", "ddl-ec")}
    times = measure_step_times(configs, tiny_training(), rounds=2)
    assert list(times) == ["baseline", "ddl", "ddl-ec"]
    assert times["baseline"].relative == 1.0
    assert all(0 < one.lower <= one.median <= one.upper for one in times.values())
    assert torch.equal(torch.get_rng_state(), generator)
