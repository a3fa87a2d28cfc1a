import pytest
import torch

from deep_delta.errors import ConfigError
from deep_delta.generation.reader import Reader
from deep_delta.models.config import DdlConfig
from deep_delta.models.variants import VARIANTS
from tests.generation.small import LONGEST, make_model

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return make_model(request.param)


def draw_ids(length, generator):
    return torch.randint(0, 28, (length,), generator=generator).tolist()


def test_cached_and_uncached_reading_agree_through_every_slide(model):
    generator = torch.Generator().manual_seed(3)
    with_cache, without = Reader(model), Reader(model, cached=False)
    for length in [3, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, LONGEST + 5, 1, 1, 9, 9]:
        tokens = [draw_ids(length, generator)]
        torch.testing.assert_close(with_cache.read(tokens), without.read(tokens), **CLOSE)
        assert with_cache.windows == without.windows


@pytest.mark.parametrize("cached", [True, False])
def test_rows_read_together_read_what_each_reads_alone(model, cached):
    """Rows of any length that grow by any length, slide when they are full, and drop out."""
    generator = torch.Generator().manual_seed(5)
    rows = [0, 1, 2, 3, 4]
    together, alone = Reader(model, len(rows), cached=cached), [Reader(model) for _ in rows]
    for step in range(30):
        if step == 7:
            kept = [4, 0, 2]
            together.select(kept)
            rows = [rows[place] for place in kept]
        lengths = torch.randint(1, 4 if step % 5 == 0 else 2, (len(rows),), generator=generator).tolist()
        if step == 0:
            lengths = [2, 1, LONGEST + 3, 7, 2]
        tokens = [draw_ids(length, generator) for length in lengths]
        expected = torch.cat([alone[row].read([new]) for row, new in zip(rows, tokens, strict=True)])
        torch.testing.assert_close(together.read(tokens), expected, **CLOSE)


def test_the_first_logits_are_those_of_the_whole_forward(model):
    ids = [1, 2, 3, 4]
    with torch.no_grad():
        torch.testing.assert_close(Reader(model).read([ids])[0], model(torch.tensor([ids]))[0, -1], **CLOSE)


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_a_long_text_read_in_chunks_is_the_text(model, chunk):
    ids = draw_ids(LONGEST, torch.Generator().manual_seed(1))
    expected = Reader(model, cached=False).read([ids])
    torch.testing.assert_close(Reader(model, prefill_chunk=chunk).read([ids]), expected, **CLOSE)
    both = Reader(model, 2, prefill_chunk=chunk).read([ids, ids])
    torch.testing.assert_close(both, expected.expand(2, -1), **CLOSE)


def test_no_more_tokens_than_a_chunk_are_read_at_a_time():
    model, read = make_model("ddl-ec", max_seq_len=40), []
    model.register_forward_pre_hook(lambda module, inputs: read.append(tuple(inputs[0].shape)))
    Reader(model, 3, prefill_chunk=12).read([[1] * 10, [2] * 10, [3] * 25])
    assert read == [(2, 6), (2, 4), (1, 12), (1, 12), (1, 1)]


def test_a_full_window_slides_to_its_last_half():
    reader = Reader(make_model("ddl"))
    reader.read([list(range(LONGEST))])
    reader.read([[20]])
    assert reader.windows == [[*range(LONGEST - LONGEST // 2 + 1, LONGEST), 20]]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_model_without_a_context_limit_never_slides_and_keeps_no_tokens(monkeypatch, rows):
    model = make_model("ddl-cc-ec", max_seq_len=200)
    ids = [draw_ids(100, torch.Generator().manual_seed(row)) for row in range(rows)]
    expected = Reader(model, rows, cached=False).read(ids)
    short = make_model("ddl-cc-ec")
    monkeypatch.setattr(DdlConfig, "context_limit", None)
    reader = Reader(short, rows, prefill_chunk=16)
    reader.read([row[:50] for row in ids])
    for step in range(50, 100):
        logits = reader.read([[row[step]] for row in ids])
        assert reader.windows == [[]] * rows
    torch.testing.assert_close(logits, expected, **CLOSE)
    torch.testing.assert_close(Reader(short, rows, cached=False).read(ids), expected, **CLOSE)


def test_a_chunk_without_a_token_is_refused():
    with pytest.raises(ConfigError, match="prefill_chunk must be at least 1, got 0"):
        Reader(make_model("ddl"), prefill_chunk=0)
