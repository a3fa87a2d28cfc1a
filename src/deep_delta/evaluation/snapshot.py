"""A spectral snapshot of any model, as JSON values."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch

from deep_delta.evaluation.language_model import autocast
from deep_delta.models.transformer import DdlTransformer
from deep_delta.spectral import NothingToCollectError, collect


def snapshot(
    model: DdlTransformer, ids: np.ndarray, *, precision: Literal["fp32", "bf16"] = "fp32"
) -> tuple[dict[str, Any], ...]:
    """The fields of what `spectral.collect` returns for tokens `ids` [B, T]; empty for a model without gates.

    Raises `NumericsError` naming the sublayer where a measure is not finite.
    """
    device = next(model.parameters()).device
    try:
        with autocast(device, precision):
            spectra = collect(model, torch.from_numpy(ids).to(device))
    except NothingToCollectError:
        return ()
    return tuple(spectrum.model_dump(mode="json") for spectrum in spectra)
