"""What an operator accepts, checked before any kernel reads memory by it."""

from __future__ import annotations

from torch import Tensor


def check_tensor(name: str, tensor: Tensor | None, first_name: str, first: Tensor) -> None:
    """A floating-point tensor on the device of `first`. Raises `TypeError`, or `ValueError` naming the devices."""
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")
    if not (tensor.is_cpu and first.is_cpu) and tensor.device != first.device:
        raise ValueError(
            f"tensors must be on one device, got {first_name} on {first.device} and {name} on {tensor.device}"
        )


def check_tensors(**tensors: Tensor | None) -> None:
    """Each as `check_tensor` wants it, beside the first; None passes."""
    first: tuple[str, Tensor] | None = None
    for name, tensor in tensors.items():
        if tensor is not None:
            first = first or (name, tensor)
            check_tensor(name, tensor, *first)


def check_operands(**operands: tuple[Tensor | None, str]) -> None:
    """Hold every tensor against its axes: one character an axis. A digit is its size; equal letters have equal sizes.
    None passes.

    Raises `ValueError` naming the first whose shape or device does not fit, `TypeError` for what is not floating point.
    """
    sizes = {"2": 2, "3": 3}
    first: tuple[str, Tensor] | None = None
    for name, (tensor, axes) in operands.items():
        if tensor is None:
            continue
        first = first or (name, tensor)
        check_tensor(name, tensor, *first)
        shape = tensor.shape
        if len(shape) != len(axes) or [sizes.setdefault(*one) for one in zip(axes, shape, strict=True)] != list(shape):
            known = ", ".join(f"{axis} = {sizes[axis]}" for axis in axes if axis in sizes)
            raise ValueError(f"{name} must be [{', '.join(axes)}] with {known or 'any sizes'}, got {tuple(shape)}")
