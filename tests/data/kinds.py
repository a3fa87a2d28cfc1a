"""Small tokenizers of every kind that a tokenizer.json may be of, trained on the same lines."""

from __future__ import annotations

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from deep_delta.data.tokenizer import Tokenizer, byte_tokenizer, train_bpe

LINES = [
    "the old barn and the new door stood by the road. It's late,\n  she said; and so it was.\r\n",
    "东方红，太阳升，中国出了个毛泽东。字字字\n",
    "naïve café, ﬁne Ａ – 12 o'clock 🙂\n",
]
SPECIAL = ["<unk>", "</s>"]


def _made(model, pre_tokenizer, decoder, normalizer=None, post_processor=None) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        backend.decoder = decoder
    if normalizer is not None:
        backend.normalizer = normalizer
    if post_processor is not None:
        backend.post_processor = post_processor
    return backend


def _trained(backend: tokenizers.Tokenizer, trainer) -> Tokenizer:
    backend.train_from_iterator(LINES * 8, trainer)
    return Tokenizer(backend)


def _byte_level_with_prefix() -> Tokenizer:
    """Changes the text: a blank before it, and compatible characters become one."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trimmed = processors.ByteLevel(trim_offsets=True)
    backend = _made(models.BPE(), level, decoders.ByteLevel(), normalizers.NFKC(), trimmed)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
    )
    return _trained(backend, trainer)


def _wordpiece() -> Tokenizer:
    backend = _made(
        models.WordPiece(unk_token="<unk>"),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(),
        normalizers.BertNormalizer(),
    )
    return _trained(backend, trainers.WordPieceTrainer(vocab_size=160, special_tokens=SPECIAL, show_progress=False))


def _unigram() -> Tokenizer:
    metaspace = pre_tokenizers.Metaspace()
    backend = _made(models.Unigram(), metaspace, decoders.Metaspace(), normalizers.NFKC())
    return _trained(
        backend,
        trainers.UnigramTrainer(vocab_size=140, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False),
    )


def _sentencepiece() -> Tokenizer:
    """Byte fallback, and a decoder in parts."""
    pieces = [*SPECIAL, "▁", "▁the", "▁old", "▁barn", "s", "a", "e", "t", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    model = models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True)
    return Tokenizer(_made(model, pre_tokenizers.Metaspace(), decoders.Sequence(parts)))


def _words() -> Tokenizer:
    backend = _made(models.WordLevel(unk_token="<unk>"), pre_tokenizers.Whitespace(), None)
    return _trained(backend, trainers.WordLevelTrainer(vocab_size=60, special_tokens=SPECIAL, show_progress=False))


def _suffixes() -> Tokenizer:
    model = models.BPE(unk_token="<unk>", end_of_word_suffix="</w>")
    backend = _made(model, pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder(suffix="</w>"))
    trainer = trainers.BpeTrainer(
        vocab_size=160, special_tokens=SPECIAL, end_of_word_suffix="</w>", show_progress=False
    )
    return _trained(backend, trainer)


BYTE_LEVEL = {"byte": byte_tokenizer(), "bpe": train_bpe(LINES * 8, 300), "bpe-prefix": _byte_level_with_prefix()}
OF_WORDS = {
    "wordpiece": _wordpiece(),
    "unigram": _unigram(),
    "sentencepiece": _sentencepiece(),
    "words": _words(),
    "suffixes": _suffixes(),
}
KINDS = {**BYTE_LEVEL, **OF_WORDS}
