"""Every global random generator as JSON values, and back: torch (CPU and CUDA), numpy and Python's `random`."""

from __future__ import annotations

import base64
import binascii
import random
import struct
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import AfterValidator, Field

from deep_delta.runs.record import Record

_MERSENNE_WORDS = 624


def _is_base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("must be base64") from None
    return text


Base64 = Annotated[str, AfterValidator(_is_base64)]
MersenneKey = Annotated[Base64, Field(min_length=3328, max_length=3328)]
"""624 words of 32 bits, little-endian."""


class Mersenne(Record):
    """A Mersenne twister: its words, the position in them, and the second normal deviate if one is waiting."""

    key: MersenneKey
    position: int = Field(ge=0, le=_MERSENNE_WORDS)
    waiting: float | None


class RngState(Record):
    """The state of each generator. `torch_cuda` has one entry a device."""

    torch_cpu: Base64
    torch_cuda: list[Base64]
    numpy: Mersenne
    python: Mersenne


def capture_rng() -> RngState:
    """The generators as they stand; draws nothing."""
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 (the global generator is what is saved)
    _, key, position, has_gauss, gauss = legacy
    _, words, waiting = random.getstate()
    return RngState(
        torch_cpu=_encode(torch.get_rng_state()),
        torch_cuda=[_encode(state) for state in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
        numpy=Mersenne(key=_pack(key), position=int(position), waiting=float(gauss) if has_gauss else None),
        python=Mersenne(key=_pack(words[:-1]), position=words[-1], waiting=waiting),
    )


def restore_rng(state: RngState) -> None:
    """Put every generator back; CUDA devices as far as there are both states and devices.

    ValueError when torch refuses a state.
    """
    numpy, python = state.numpy, state.python
    try:
        torch.set_rng_state(_decode(state.torch_cpu))
        if torch.cuda.is_available():
            for device, saved in enumerate(state.torch_cuda[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(_decode(saved), device)
    except RuntimeError as error:
        raise ValueError(f"rng: {str(error).splitlines()[0]}") from None
    key = np.array(_unpack(numpy.key), dtype=np.uint32)
    np.random.set_state(("MT19937", key, numpy.position, int(numpy.waiting is not None), numpy.waiting or 0.0))  # noqa: NPY002
    random.setstate((3, (*_unpack(python.key), python.position), python.waiting))


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _decode(text: str) -> torch.Tensor:
    return torch.tensor(list(base64.b64decode(text)), dtype=torch.uint8, device="cpu")


def _pack(words: np.ndarray | tuple[int, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{_MERSENNE_WORDS}I", *words)).decode()


def _unpack(key: str) -> tuple[int, ...]:
    return struct.unpack(f"<{_MERSENNE_WORDS}I", base64.b64decode(key))
