from itertools import islice

import pytest
import torch

from deep_delta.errors import ConfigError, NumericsError
from deep_delta.generation.engine import generate, generate_batch
from deep_delta.generation.reader import Reader
from deep_delta.generation.sampling import Sampling
from deep_delta.models.variants import VARIANTS
from tests.generation.small import LONGEST, Endless, Letters, make_model


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return make_model(request.param)


def write(model, prompt="the cat", **options):
    return "".join(generate(model, Endless(), prompt, **{"max_new_tokens": 40, **options}))


def test_the_text_is_the_same_with_and_without_a_cache(model):
    text = write(model, seed=5)
    assert text == write(model, seed=5, cached=False)
    assert len(text) == 40


def test_a_prompt_that_is_too_long_loses_its_beginning():
    model = make_model("ddl-cc-ec")
    prompt = "abcdefghijklmnopqrstuvwxyz"
    assert write(model, prompt) == write(model, prompt[-LONGEST:])


def test_a_window_of_one_token_still_generates():
    assert write(make_model("ddl-ec", max_seq_len=1), "a", max_new_tokens=5, sampling=Sampling(top_k=3))


def test_a_prompt_is_read_in_chunks_of_any_size(model):
    assert len({write(model, "a long prompt", seed=3, prefill_chunk=chunk) for chunk in (1, 2, 5, 1024)}) == 1


def test_a_repetition_penalty_counts_the_prompt_and_what_was_drawn():
    model = make_model("ddl")
    greedy = write(model, "the cat", sampling=Sampling(temperature=0.0))
    assert len(set(greedy)) < 15
    strong = Sampling(temperature=0.0, repetition_penalty=1e6)
    fresh = write(model, "the cat", sampling=strong, max_new_tokens=20)
    assert len(set("the cat" + fresh)) == len(set("the cat")) + 20


@pytest.fixture(scope="module")
def penalised():
    """A model, what it writes, and how."""
    model, options = make_model("ddl-cc-ec"), {"sampling": Sampling(repetition_penalty=1.5, top_p=0.9)}
    return model, write(model, **options), options


@pytest.mark.usefixtures("others_defaults")
def test_the_default_dtype_and_device_of_a_program_change_nothing(penalised):
    model, expected, options = penalised
    assert write(model, **options) == expected


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
    likeliest = int(Reader(model).read([[Letters.end_of_text]])[0, : Endless.vocab_size].argmax())
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


PROMPTS = ["the cat", "", "a", "zebra zebra zebra", "the dog", "xyz", "a long way to go"]


def write_all(model, prompts=PROMPTS, tokenizer=None, **options):
    texts = [""] * len(prompts)
    options = {"max_new_tokens": 40, **options}
    for row, piece in generate_batch(model, tokenizer or Endless(), prompts, **options):
        texts[row] += piece
    return texts


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("cached", [True, False])
def test_many_prompts_together_give_what_each_gives_alone(model, temperature, cached):
    """Long enough for every row to slide several times, each at a time of its own."""
    options = {"seed": 4, "sampling": Sampling(temperature=temperature)}
    alone = [write(model, prompt, **options) for prompt in PROMPTS]
    assert write_all(model, cached=cached, **options) == alone
    assert len(set(alone)) > 1


def test_rows_end_each_in_its_own_way():
    model = make_model("ddl-ec", d_model=32)
    options = {"seed": 2, "stop": ["z", "qu"], "sampling": Sampling(repetition_penalty=1.3, top_p=0.9)}
    alone = ["".join(generate(model, Letters(), prompt, max_new_tokens=60, **options)) for prompt in PROMPTS]
    assert write_all(model, tokenizer=Letters(), max_new_tokens=60, **options) == alone
    assert len({len(text) for text in alone}) > 3


def test_pieces_of_a_batch_come_a_token_of_each_row_at_a_time():
    rows = [
        row for row, _ in islice(generate_batch(make_model("ddl"), Endless(), ["a", "bc"], max_new_tokens=10**9), 6)
    ]
    assert rows == [0, 1] * 3


def test_no_prompts_are_no_text_and_the_same_prompt_twice_is_the_same_text():
    model = make_model("ddl-cc")
    assert list(generate_batch(model, Endless(), [])) == []
    assert list(generate_batch(model, Endless(), ["a", "b"], max_new_tokens=0)) == []
    one, two = write_all(model, ["the cat", "the cat"], seed=3)
    assert one == two == write(model, seed=3)


def test_a_batch_refuses_what_a_single_prompt_refuses():
    with pytest.raises(ConfigError, match="max_new_tokens"):
        generate_batch(make_model("ddl"), Letters(), ["a"], max_new_tokens=-1)
    with pytest.raises(ConfigError, match="prefill_chunk must be at least 1, got 0"):
        generate(make_model("ddl"), Letters(), "a", prefill_chunk=0)
