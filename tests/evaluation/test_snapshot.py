from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deep_delta.evaluation.snapshot import snapshot
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS, variant_config
from deep_delta.spectral import collect

IDS = np.random.default_rng(0).integers(20, size=(2, 8))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_snapshot_is_what_collect_returns_as_json(variant: str):
    model = DdlTransformer(variant_config(variant, d_model=16, num_layers=2, num_heads=2, vocab_size=20, max_seq_len=8))
    found = snapshot(model, IDS)
    assert json.loads(json.dumps(found, allow_nan=False)) == list(found)
    if variant == "baseline":
        assert found == ()
    else:
        expected = collect(model, torch.from_numpy(IDS))
        assert [one["beta_mean"] for one in found] == [one.beta_mean for one in expected]
