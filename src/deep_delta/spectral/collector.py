"""Measures of every delta update of a transformer, from one forward pass that leaves no trace."""

# B batch, T time, V value channels, D width

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from deep_delta.errors import ConfigError, NumericsError
from deep_delta.models.modes import evaluation_mode
from deep_delta.models.transformer import DdlTransformer
from deep_delta.nn.residual import Rewrite
from deep_delta.spectral.measures import measure
from deep_delta.spectral.records import SublayerSpectrum

SUBLAYERS: tuple[Literal["mixer", "mlp"], ...] = ("mixer", "mlp")


class NothingToCollectError(ConfigError):
    """The model has no delta updates."""


def collect(model: nn.Module, ids: Tensor) -> list[SublayerSpectrum]:
    """One record per sublayer, in the order of the model, measured on the tokens `ids` [B, T] (int64).

    Runs the model once more, in evaluation mode and without gradients; parameters, training modes, the grad mode and
    the random number generators are afterwards as they were. Autocast stays as the caller set it; the measures
    themselves are taken in fp32 at least.

    Raises `NothingToCollectError` for a model without gates (the additive baseline, or no `DdlTransformer` at all), and
    `NumericsError` naming layer and sublayer where a measure is not finite.
    """
    if not isinstance(model, DdlTransformer):
        raise NothingToCollectError(f"nothing to collect: {type(model).__name__} is not a DdlTransformer")
    config = model.config
    spectra: list[SublayerSpectrum] = []
    previous_k: Tensor | None = None

    def observe(index: int, state_BTVD: Tensor, rewrite: Rewrite) -> None:
        nonlocal previous_k
        if rewrite.value is None or rewrite.beta is None:
            raise NothingToCollectError(f"nothing to collect: residual {config.residual} has no gates")
        layer, sublayer = index // len(SUBLAYERS), SUBLAYERS[index % len(SUBLAYERS)]
        try:
            spectrum = measure(
                state_BTVD.transpose(-1, -2),
                rewrite.direction,
                rewrite.value,
                rewrite.beta,
                eps=config.k_eps,
                erases=config.residual == "delta",
                previous_k=previous_k,
            )
        except NumericsError as error:
            raise NumericsError(f"layer {layer} {sublayer}: {error}") from None
        spectra.append(SublayerSpectrum(layer=layer, sublayer=sublayer, **spectrum.model_dump()))
        previous_k = rewrite.direction

    cuda_devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    with torch.random.fork_rng(cuda_devices), torch.no_grad(), evaluation_mode(model):
        model(ids, observe=observe)
    return spectra
