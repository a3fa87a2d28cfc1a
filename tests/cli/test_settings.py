import pytest

from deep_delta.cli import settings
from deep_delta.cli.settings import CONFIGS, NAMED, RECORDS, Settings, named, variants
from deep_delta.errors import ConfigError
from deep_delta.models.variants import VARIANTS


@pytest.fixture
def toml(tmp_path):
    def write(text):
        file = tmp_path / "mine.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def loaded(*files):
    made = Settings()
    for file in files:
        made.update(file)
    return made


@pytest.mark.parametrize("kind", NAMED)
def test_the_named_files_are_those_that_are_shipped(kind):
    assert sorted(file.stem for file in (CONFIGS / kind).iterdir()) == sorted(NAMED[kind])


@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 7.2), ("small", 17.6), ("100m", 106.8), ("124m", 123.6), ("353m", 353.5)]
)
def test_a_size_has_the_parameters_of_its_name(size, millions):
    made = loaded(named("sizes", size))
    model = made.model("baseline", made.training(), shared=False, vocab_size=50304)
    matrices = 4 * model.d_model * model.num_heads * model.head_dim + 3 * model.d_model * model.mlp_hidden
    assert round((model.vocab_size * model.d_model + model.num_layers * matrices) / 1e6, 1) == millions


def test_the_paper_recipe_is_the_papers():
    training = loaded(named("recipes", "paper")).training()
    assert training.max_steps == 100_000
    assert training.batch_size * training.accumulation_steps == 480
    assert (training.seq_len, training.learning_rate, training.warmup_steps) == (1024, 1e-3, 2000)


@pytest.mark.parametrize("recipe", NAMED["recipes"])
@pytest.mark.parametrize("slug", VARIANTS)
def test_every_recipe_trains_every_variant(recipe, slug):
    made = loaded(named("recipes", recipe))
    made.model(slug, made.training(), shared=False)


def test_later_settings_win(toml):
    made = loaded(named("sizes", "small"), toml("[model]\nd_model = 64\n[train]\nmax_steps = 7"))
    training = made.training()
    model = made.model("ddl-cc", training, shared=False)
    assert (model.d_model, model.num_layers, training.max_steps) == (64, 6, 7)


def test_the_model_is_built_for_the_sequences_it_is_trained_on(toml):
    made = loaded(toml("[train]\nseq_len = 300"))
    assert made.model("ddl", made.training(), shared=False).max_seq_len == 300


def test_sequences_longer_than_the_model_are_refused(toml):
    made = loaded(toml("[train]\nseq_len = 300\n[model]\nmax_seq_len = 200"))
    with pytest.raises(ConfigError, match=r"train\.seq_len 300 is longer than model\.max_seq_len 200"):
        made.model("ddl", made.training(), shared=False)


def test_the_baseline_stays_itself_beside_write_only_variants(toml):
    made = loaded(toml('[model]\nresidual = "write_only"'))
    kinds = {slug: made.model(slug, made.training(), shared=True).residual for slug in VARIANTS}
    assert kinds == {slug: "additive" if slug == "baseline" else "write_only" for slug in VARIANTS}
    with pytest.raises(ConfigError, match="baseline has residual additive"):
        made.model("baseline", made.training(), shared=False)


def test_every_variant_but_the_baseline_becomes_hyper_connections(toml):
    made = loaded(toml('[model]\nresidual = "hyper"'))
    configs = {slug: made.model(slug, made.training(), shared=True) for slug in VARIANTS}
    assert {slug: (config.residual, config.d_value) for slug, config in configs.items()} == {
        slug: ("additive", 1) if slug == "baseline" else ("hyper", 1 if slug == "ddl" else 4) for slug in VARIANTS
    }


def test_d_value_goes_to_the_variants_that_have_value_channels(toml):
    made = loaded(toml("[model]\nd_value = 2"))
    sizes = {slug: made.model(slug, made.training(), shared=True).d_value for slug in VARIANTS}
    assert sizes == {slug: 1 if slug in ("baseline", "ddl") else 2 for slug in VARIANTS}
    with pytest.raises(ConfigError, match="ddl has d_value 1"):
        made.model("ddl", made.training(), shared=False)


def test_the_vocabulary_is_the_tokenizers_unless_a_larger_one_was_set(toml):
    made = loaded(toml("[model]\nvocab_size = 300"))
    training = made.training()
    assert loaded().model("ddl", training, shared=False, vocab_size=257).vocab_size == 257
    assert made.model("ddl", training, shared=False, vocab_size=257).vocab_size == 300
    with pytest.raises(ConfigError, match="300, but the tokenizer has 301"):
        made.model("ddl", training, shared=False, vocab_size=301)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[modle]\nd_model = 64", r"unknown table \[modle\] \(did you mean 'model'\?\)"),
        ("[model]\nd_modle = 64", r"unknown key 'd_modle' in \[model\] \(did you mean 'd_model'\?\)"),
        ("model = 3", "model must be a table"),
        ("[model", "not a TOML file"),
        (b"\xff\xfe", "not a TOML file"),
        ("[train]\nmax_steps = 1\nmax_steps = 2", "not a TOML file"),
        ("[train]\nmax_steps = 1.5", r"train\.max_steps: .* got 1.5"),
        ("[train]\nmax_steps = true", r"train\.max_steps: .* got True"),
        ("[train]\nlearning_rate = nan", r"train\.learning_rate: .*finite.* got nan"),
        ("[train]\nlearning_rate = 2024-01-01", r"train\.learning_rate: "),
    ],
)
def test_a_bad_file_is_one_line(toml, text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        loaded(toml(text)).training()
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.toml: No such file"):
        loaded(tmp_path / "nothing.toml")


def test_a_model_error_names_the_users_table(toml):
    made = loaded(toml("[model]\nd_model = 100\nnum_heads = 3"))
    with pytest.raises(ConfigError, match=r"^model\.d_model must be divisible by num_heads, got 100 and 3$"):
        made.model("ddl", made.training(), shared=False)


def test_names_and_own_files():
    assert named("sizes", "tiny").is_file()
    assert str(named("sizes", "my/own.toml")) == "my/own.toml"
    with pytest.raises(ConfigError, match=r"unknown recipe 'papr' \(did you mean 'paper'\?\)"):
        named("recipes", "papr")


def test_variants():
    assert variants("all") == list(VARIANTS)
    assert variants("ddl-cc, baseline") == ["ddl-cc", "baseline"]


@pytest.mark.parametrize(
    ("text", "says"), [("ddl,dll-cc", r"'dll-cc' \(did you mean 'ddl-cc'\?\)"), ("", "''"), ("ddl,ddl", "twice")]
)
def test_bad_variants(text, says):
    with pytest.raises(ConfigError, match=says):
        variants(text)


def test_every_default_that_help_shows_belongs_to_a_field():
    assert set(settings.model_defaults()) <= set(RECORDS["model"].model_fields)
