from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from deep_delta.errors import CheckpointError
from deep_delta.runs.manifest import FileEntry, Manifest, read_manifest
from tests.runs.faults import manifest_of

ENTRY = {"size": 1, "sha256": "a" * 64}


def example() -> Manifest:
    return manifest_of(7, files={"model.safetensors": FileEntry(**ENTRY)}, best_validation=FileEntry(**ENTRY))


def test_it_is_read_as_it_was_written() -> None:
    content = example().to_bytes()
    read = Manifest.from_bytes(content, where="m")
    assert read.to_bytes() == content
    assert read.model_copy(update={"digest": ""}) == example()
    kinds = {name: type(value) for name, value in read.model.items()}
    assert kinds == {"d_model": int, "k_eps": float, "head": type(None), "tied": bool, "residual": str, "theta": float}


def test_every_flipped_bit_of_it_is_detected() -> None:
    content = example().to_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CheckpointError):
            Manifest.from_bytes(bytes(flipped), where="m")


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(example().to_bytes()) | fields)


def replaced(old: str, new: str) -> str:
    text = example().to_bytes().decode()
    assert old in text
    return text.replace(old, new, 1)


ATTACKS = {
    "another version": (changed(format_version=2), r"reads checkpoints of format version 1.*got 2"),
    "true for 1": (replaced('"format_version": 1', '"format_version": true'), "format_version"),
    "1.0 for 1": (replaced('"format_version": 1', '"format_version": 1.0'), "format_version"),
    "text for a number": (changed(step="7"), "step"),
    "true for a step": (changed(step=True), "step"),
    "a negative step": (changed(step=-1), "step"),
    "unknown field": (changed(comment="x"), "unknown field 'comment'"),
    "missing field": (replaced('"variant": "ddl",', ""), "variant is required"),
    "NaN": (replaced("0.001", "NaN"), "NaN"),
    "Infinity": (replaced("0.001", "-Infinity"), "Infinity"),
    "1e400": (replaced("0.001", "1e400"), "1e400"),
    "a huge whole number": (replaced("0.001", "9" * 5000), "digits"),
    "duplicate keys": (replaced('"step": 7', '"step": 7, "step": 7'), "duplicate key 'step'"),
    "deep nesting": (replaced("0.001", "[" * 100_000 + "]" * 100_000), "too deeply nested"),
    "a list for a value": (replaced("0.001", "[1]"), "learning_rate"),
    "not JSON": ("nonsense", "Expecting value"),
    "a list": ("[]", "m: "),
    "nothing": ("", "m: "),
    "no digest": (replaced(',\n  "digest": "', ',\n  "variant2": "'), "variant2"),
    "a changed value": (replaced("0.001", "0.002"), "digest does not fit"),
    "a kind that is none": (changed(kind="model"), "kind"),
    "a bad sha256": (changed(files={"model": ENTRY | {"sha256": "A" * 64}}), "sha256"),
    "a negative size": (changed(files={"model": ENTRY | {"size": -1}}), "size"),
    "itself": (changed(files={"manifest.json": ENTRY}), "may not list itself"),
}
ATTACKS |= {
    f"the file {name!r}": (changed(files={name: ENTRY}), "files")
    for name in (
        "../x",
        "/etc/passwd",
        "a/b",
        "..",
        ".",
        "",
        ".hidden",
        "a\\b",
        "a\0",
        "a\n",
        "C:x",
        "~",
        "x" * 101,
        "é",
    )
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_unusual_manifest_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    text, problem = ATTACKS[name]
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=problem.replace("m: ", "manifest.json: ")) as caught:
        read_manifest(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/manifest.json")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 4


def test_a_manifest_sealed_anew_still_cannot_name_files_elsewhere() -> None:
    body, seal, _ = example().to_bytes().replace(b"model.safetensors", b"../x").rpartition(b'  "digest": "')
    content = body + seal + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'
    with pytest.raises(CheckpointError, match="files"):
        Manifest.from_bytes(content, where="m")


def test_bytes_that_are_not_text_are_refused() -> None:
    for content in (b"\xff\xfe", b"\x80", example().to_bytes().decode().encode("utf-16")):
        with pytest.raises(CheckpointError):
            Manifest.from_bytes(content, where="m")


def test_only_a_plain_file_of_sane_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(CheckpointError, match="No such file"):
        read_manifest(tmp_path)
    (tmp_path / "real").write_bytes(example().to_bytes())
    path.symlink_to(tmp_path / "real")
    with pytest.raises(CheckpointError, match="symbolic link"):
        read_manifest(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="pipe"):
        read_manifest(tmp_path)
    path.unlink()
    path.write_bytes(b" " * (1 << 21))
    with pytest.raises(CheckpointError, match="longer than"):
        read_manifest(tmp_path)
