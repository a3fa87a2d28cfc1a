from itertools import islice

import pytest
import torch

from deep_delta.errors import ConfigError, NumericsError
from deep_delta.generation.engine import Reader, generate
from deep_delta.generation.sampling import Sampling
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import VARIANTS, variant_config

LONGEST = 12


class Letters:
    """A tokenizer of a…z, space and end of text; its stream is the plain concatenation."""

    ALPHABET = "abcdefghijklmnopqrstuvwxyz "
    vocab_size = len(ALPHABET) + 1
    end_of_text = len(ALPHABET)

    def encode(self, text):
        return [self.ALPHABET.index(letter) for letter in text]

    def stream(self):
        return self

    def push(self, token):
        return self.ALPHABET[token]

    def flush(self):
        return ""


class Endless(Letters):
    """Its end of text is beyond what may be drawn, so that the text has the length asked for."""

    vocab_size = len(Letters.ALPHABET)


def make_model(slug, **fields):
    torch.manual_seed(0)
    fields = {"d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 28, "max_seq_len": LONGEST, **fields}
    model = DdlTransformer(variant_config(slug, **fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from the start, where logits are nearly uniform
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return make_model(request.param)


def write(model, prompt="the cat", **options):
    return "".join(generate(model, Endless(), prompt, **{"max_new_tokens": 40, **options}))


def test_cached_and_uncached_reading_agree_through_every_slide(model):
    generator = torch.Generator().manual_seed(3)
    with_cache, without = Reader(model), Reader(model, cached=False)
    for length in [3, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, LONGEST + 5, 1, 1, 9, 9]:
        tokens = torch.randint(0, 28, (length,), generator=generator).tolist()
        torch.testing.assert_close(with_cache.read(tokens), without.read(tokens), atol=1e-5, rtol=1e-5)
        assert with_cache.window == without.window


def test_the_text_is_the_same_with_and_without_a_cache(model):
    text = write(model, seed=5)
    assert text == write(model, seed=5, cached=False)
    assert len(text) == 40


def test_the_first_logits_are_those_of_the_whole_forward(model):
    ids = [1, 2, 3, 4]
    with torch.no_grad():
        torch.testing.assert_close(Reader(model).read(ids), model(torch.tensor([ids]))[0, -1], atol=1e-5, rtol=1e-5)


def test_a_full_window_slides_to_its_last_half():
    reader = Reader(make_model("ddl"))
    reader.read(list(range(LONGEST)))
    reader.read([20])
    assert reader.window == [*range(LONGEST - LONGEST // 2 + 1, LONGEST), 20]


def test_a_prompt_that_is_too_long_loses_its_beginning():
    model = make_model("ddl-cc-ec")
    prompt = "abcdefghijklmnopqrstuvwxyz"
    assert write(model, prompt) == write(model, prompt[-LONGEST:])


def test_a_window_of_one_token_still_generates():
    assert write(make_model("ddl-ec", max_seq_len=1), "a", max_new_tokens=5, sampling=Sampling(top_k=3))


def test_the_seed_decides():
    model = make_model("ddl-cc")
    assert write(model, seed=1) == write(model, seed=1)
    assert len({write(model, seed=seed) for seed in range(4)}) > 1


def test_greedy_text_needs_no_seed():
    model = make_model("ddl-cc")
    greedy = Sampling(temperature=0.0)
    assert write(model, seed=1, sampling=greedy) == write(model, seed=2, sampling=greedy)


def test_an_empty_prompt_begins_a_document():
    model, greedy = make_model("ddl"), Sampling(temperature=0.0)
    likeliest = int(Reader(model).read([Letters.end_of_text])[: Endless.vocab_size].argmax())
    assert next(generate(model, Endless(), "", sampling=greedy)) == Letters.ALPHABET[likeliest]


def test_it_ends_at_the_end_of_text():
    model = make_model("ddl", tie_embeddings=False)
    with torch.no_grad():
        model.norm.weight.zero_()  # every token equally likely, and the first of them is the end of text below
        model.head.weight.zero_()

    class EndsFirst(Endless):
        end_of_text = 0

    assert write(model, sampling=Sampling(temperature=0.0)) == "a" * 40
    assert "".join(generate(model, EndsFirst(), "the cat", sampling=Sampling(temperature=0.0))) == ""


def test_stop_strings_end_the_text_and_are_not_shown():
    model = make_model("ddl-ec")
    text = write(model, seed=2)
    stop = text[5:8]
    assert write(model, seed=2, stop=[stop]) == text[: text.index(stop)]
    assert write(model, seed=2, stop=["?"]) == text


def test_what_was_held_back_for_a_stop_string_is_shown_at_the_end():
    model = make_model("ddl-ec")
    text = write(model, seed=2)
    assert write(model, seed=2, stop=[text[-1] + "?"]) == text


def test_tokens_that_the_tokenizer_does_not_know_are_never_drawn():
    write(make_model("ddl", vocab_size=100), max_new_tokens=60, sampling=Sampling(temperature=50.0))


def test_no_new_tokens_is_no_text():
    assert write(make_model("ddl"), max_new_tokens=0) == ""


def test_text_comes_piece_by_piece():
    pieces = list(islice(generate(make_model("ddl"), Endless(), "a", max_new_tokens=10**9), 3))
    assert [len(piece) for piece in pieces] == [1, 1, 1]


def test_a_model_with_too_small_a_vocabulary_is_refused():
    with pytest.raises(ConfigError, match="27 tokens and the tokenizer 28"):
        generate(make_model("ddl", vocab_size=27), Letters(), "a")


def test_a_negative_number_of_tokens_is_refused():
    with pytest.raises(ConfigError, match="max_new_tokens"):
        generate(make_model("ddl"), Letters(), "a", max_new_tokens=-1)


def test_a_model_that_has_diverged_says_so():
    model = make_model("ddl")
    with torch.no_grad():
        model.embedding.weight.fill_(torch.nan)
    with pytest.raises(NumericsError, match="diverged"):
        write(model)


def test_training_mode_and_gradients_of_the_caller_are_left_alone():
    model = make_model("ddl").train()
    pieces = generate(model, Endless(), "a", max_new_tokens=3)
    next(pieces)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    list(pieces)
    assert model.training
