"""Memory for results names its precision and its device: PyTorch's defaults are the user's to set."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import deep_delta.ops

ALLOCATE = frozenset(
    ("arange", "empty", "empty_strided", "eye", "from_numpy", "full", "linspace", "logspace", "ones", "rand", "randint",
     "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros")
)  # fmt: skip
"""Functions of `torch` that ask the defaults; `new_empty`, `zeros_like` and their kind ask a tensor."""
SOURCES = sorted(Path(deep_delta.ops.__file__).parent.rglob("*.py"))


def unnamed(source: str) -> Iterator[str]:
    """The calls that leave dtype or device to the defaults, as line and text."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        where = node.func.value
        if isinstance(where, ast.Name) and where.id == "torch" and node.func.attr in ALLOCATE:
            named = {keyword.arg for keyword in node.keywords}
            if not {"dtype", "device"} <= named:
                yield f"{node.lineno}: {ast.unparse(node)}"


def test_every_allocation_names_both() -> None:
    found = {str(source): calls for source in SOURCES if (calls := list(unnamed(source.read_text())))}
    assert len(SOURCES) > 30
    assert not found


def test_what_leaves_one_to_the_defaults_is_found() -> None:
    assert len(list(unnamed("torch.empty(3)\ntorch.zeros(3, dtype=d)\ntorch.tensor(1.0, device='cpu')"))) == 3
    assert not list(unnamed("x.new_empty(3)\ntorch.zeros_like(x)\ntorch.eye(3, dtype=d, device=x.device)"))
