"""Who may import whom: the arrows of docs/architecture.md, read from the source."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "deep_delta"
FILES = sorted(SOURCE.rglob("*.py"))

LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "paths": set(),
    "runs": set(),
    "ops": set(),
    "nn": {"ops"},
    "models": {"nn", "ops", "runs"},
    "data": {"runs"},
    "spectral": {"models", "nn", "ops", "runs"},
    "generation": {"models", "nn", "ops", "data"},
    "integrations": {"models", "nn", "ops", "runs"},
    "evaluation": {"models", "nn", "ops", "data", "generation", "spectral", "runs"},
    "interventions": {"models", "nn", "ops", "data", "generation", "spectral", "runs", "evaluation"},
    "training": {"models", "nn", "ops", "data", "generation", "spectral", "runs", "evaluation"},
    "benchmarks": {"ops", "nn", "models", "evaluation", "training", "runs"},
    "explore": {"runs", "spectral", "models", "evaluation", "benchmarks", "training"},  # only what has no torch
    "tui": {"explore", "runs", "spectral", "benchmarks"},  # records and names; what they hold comes from explore
    "report": {"explore", "runs", "models", "spectral"},
}
LAYERS["cli"] = set(LAYERS) | {"cli"}

FORBIDDEN_OUTSIDE: dict[str, set[str]] = {
    "errors": {"torch", "numpy", "pydantic", "rich", "safetensors", "tokenizers"},
    "paths": {"torch", "numpy", "pydantic", "rich", "safetensors", "tokenizers"},
    "runs": {"torch", "numpy", "rich", "safetensors", "tokenizers"},
    "data": {"torch"},
    "ops": {"numpy", "pydantic", "rich", "safetensors", "tokenizers"},
    "nn": {"numpy", "pydantic", "rich", "safetensors", "tokenizers"},
    "models": {"rich", "tokenizers"},
    "training": {"rich"},
    "evaluation": {"rich"},
    "benchmarks": {"rich"},
    "explore": {"torch", "rich", "tokenizers", "safetensors"},
    "interventions": {"rich"},
    "tui": {"torch", "pydantic", "tokenizers", "safetensors"},
    "report": {"torch", "rich", "tokenizers", "safetensors", "pydantic"},
}

HEAVY = {"torch", "numpy", "tokenizers", "safetensors", "pyarrow"}


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of what is imported; those under `if TYPE_CHECKING:` count too, but never for `top_level_only`."""
    found = set()
    nodes = list(ast.iter_child_nodes(tree)) if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
            if node.module == "deep_delta":
                found.update(f"deep_delta.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_import_climbs(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        return
    found = imports(ast.parse(path.read_text()))
    inside = {name.split(".")[1] for name in found if name.startswith("deep_delta.")} - {
        "errors",
        "paths",
        layer,
        "__version__",
    }
    assert inside <= LAYERS[layer], f"{layer} may not import {sorted(inside - LAYERS[layer])}"
    outside = {name.split(".")[0] for name in found}
    assert not outside & FORBIDDEN_OUTSIDE.get(layer, set())


@pytest.mark.parametrize("path", [p for p in FILES if layer_of(p) == "cli"], ids=lambda path: path.name)
def test_the_command_line_imports_what_is_heavy_inside_its_functions(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(ast.parse(path.read_text()), top_level_only=True)} & HEAVY


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_executes_data(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {name.split(".")[0] for name in imports(tree)}
    assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "torch.load", "np.load", "numpy.load"}, called


CATCH_EVERYTHING = (Path("cli/main.py"), Path("training/tracking.py"))
"""The top of the command line; and the thread in which a foreign tracker runs, which may not end a training."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_few_places_catch_everything(path: Path) -> None:
    broad = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and not (isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None)  # cleaning up is not catching
    ]
    assert len(broad) <= (path.relative_to(SOURCE) in CATCH_EVERYTHING)


def test_every_layer_is_drawn() -> None:
    assert {layer_of(path) for path in FILES} - {"__init__"} == set(LAYERS)


NEEDS_TRITON = {
    "deep_delta.ops.depth_update.triton",
    "deep_delta.ops.stream_step.triton",
    "deep_delta.ops.triton_direction",
}


def test_every_module_is_found_by_its_dotted_name() -> None:
    """`import a.b.c` and then `a.b.c`: no function hides the module that it lives in."""
    have_triton = importlib.util.find_spec("triton") is not None
    for path in FILES:
        parts = ["deep_delta", *path.relative_to(SOURCE).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] == "__main__" or (name in NEEDS_TRITON and not have_triton):
            continue
        module = importlib.import_module(name)
        found = sys.modules["deep_delta"]
        for part in name.split(".")[1:]:
            found = getattr(found, part)
        assert found is module, f"{name} is a {type(found).__name__}"
