"""What the tokens of a byte-level tokenizer.json stand for, in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Names of the token that ends a document, the first that a vocabulary has counts.
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<EOS>", "[SEP]")


def _byte_characters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte: itself where it is printable, else 256 + n."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = [byte for byte in range(256) if byte not in printable]
    return [chr(byte if byte in printable else 256 + unprintable.index(byte)) for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()
_BYTE_OF = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def is_byte_level(content: Mapping[str, Any]) -> bool:
    """Whether tokens are written in `BYTE_CHARACTERS`. content: a parsed tokenizer.json."""
    return "ByteLevel" in _kinds(content["decoder"])


def token_pieces(content: Mapping[str, Any], vocabulary: Mapping[str, int]) -> list[bytes]:
    """The bytes of each id of a byte-level tokenizer; b"" for special tokens, unknown text and ids without a token."""
    added = {token["id"]: token for token in content["added_tokens"]}
    unknown = content["model"].get("unk_token")
    pieces = [b""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        if index in added:
            pieces[index] = b"" if added[index]["special"] else token.encode()
        elif token == unknown:
            pieces[index] = b""
        else:
            pieces[index] = _from_characters(token)
    return pieces


def _from_characters(token: str) -> bytes:
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode()


def _kinds(decoder: Mapping[str, Any] | None) -> set[str]:
    """The types of a decoder and of those that it is made of."""
    if decoder is None:
        return set()
    return {decoder["type"]}.union(*(_kinds(part) for part in decoder.get("decoders", ())))
