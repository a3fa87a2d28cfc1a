"""Gates by token class and position, alike directions, and effective ranks, against counts by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from deep_delta.data.batches import IGNORED
from deep_delta.data.corpus import open_corpus
from deep_delta.data.synthetic.tasks import parse_task
from deep_delta.data.tokenizer import byte_tokenizer, train_bpe
from deep_delta.errors import DataError
from deep_delta.interventions import (
    Subject,
    effective_ranks,
    gate_rows,
    inspect_model,
    measure_states,
    task_documents,
    text_documents,
    with_places,
)
from deep_delta.interventions.documents import TEXT_CLASSES, text_codes
from deep_delta.interventions.gates import position_bins
from deep_delta.interventions.subject import mean_abs_cosine
from tests.interventions.test_measuring import documents, subject
from tests.models.test_parts_take_effect import CONFIGURATIONS


@pytest.mark.parametrize("name", ["ddl-ec", "hybrid", "write-only"])
def test_gates_are_counted_where_they_act(name: str) -> None:
    found = subject(name)
    gates = found.gates()
    beta = with_places(found.model, torch.from_numpy(documents().ids), ["blocks.1.mlp.hook_beta"])
    assert torch.allclose(gates[1, "mlp"], beta["blocks.1.mlp.hook_beta"].squeeze(-1).detach())
    rows = [row for row in gate_rows(found, gates) if (row.layer, row.sublayer) == (1, "mlp")]
    real, mine = documents().real, gates[1, "mlp"].numpy()
    assert real.sum() == 4 * 8 + 3
    by_name = {row.name: row for row in rows}
    assert by_name["all"].tokens == real.sum()
    assert by_name["all"].beta_mean == pytest.approx(mine[real].mean())
    high = real & (documents().codes == 1)
    assert (by_name["high"].tokens, by_name["low"].tokens) == (high.sum(), (real & ~high).sum())
    assert by_name["high"].beta_std == pytest.approx(mine[high].std())
    assert by_name["1-3"].tokens == 4 * 3 + 2
    assert by_name["all"].share_above_1 == pytest.approx((mine[real] > 1).mean())
    assert sum(row.tokens for row in rows if row.group == "position") == real.sum()


@pytest.mark.parametrize(("length", "bins"), [(1, ["0-0"]), (3, ["0-0", "1-2"]), (17, ["0-0", "1-3", "4-15", "16-16"])])
def test_position_bins(length: int, bins: list[str]) -> None:
    assert [f"{first}-{last}" for first, last in position_bins(length)] == bins


def test_reuse_of_directions() -> None:
    found = subject("ddl-ec")
    reuse, _ = measure_states(found)
    assert reuse is not None
    places = with_places(found.model, torch.from_numpy(documents().ids), ["*.hook_k"])
    real = torch.from_numpy(documents().real.copy())
    for (one, a), (other, b) in itertools.product(enumerate(places.values()), repeat=2):
        expected = (a * b).sum(-1).abs()[real].mean().item()
        assert reuse.cosines[one][other] == pytest.approx(expected, abs=1e-8)
    assert [reuse.cosines[i][i] for i in range(4)] == pytest.approx([1.0] * 4)
    torch.manual_seed(0)
    k = torch.nn.functional.normalize(torch.randn(2, 40_000, 16), dim=-1)
    assert reuse.random == pytest.approx((k[0] * k[1]).sum(-1).abs().mean().item(), rel=0.02)
    assert mean_abs_cosine(1) == pytest.approx(1.0)


def test_effective_ranks() -> None:
    """V equal channels along V directions count V; one direction counts 1; zeros count 0; two of three by hand."""
    states = torch.zeros(4, 5, 3)
    states[0, :3, :3] = torch.eye(3)
    states[1, 0] = torch.tensor([1.0, -2.0, 5.0])
    states[3, 0, 0], states[3, 1, 1] = 2.0, 1.0  # p = 4/5, 1/5
    participation, entropy = effective_ranks(states)
    assert participation.tolist() == pytest.approx([3, 1, 0, 1 / (16 / 25 + 1 / 25)], abs=1e-9)
    by_hand = float(np.exp(-(0.8 * np.log(0.8) + 0.2 * np.log(0.2))))
    assert entropy.tolist() == pytest.approx([3, 1, 0, by_hand], abs=1e-6)


def test_ranks_of_every_state() -> None:
    found = subject("ddl-ec")
    _, rows = measure_states(found)
    assert [(row.layer, row.place) for row in rows] == [(0, "pre"), (0, "mid"), (1, "pre"), (1, "mid"), (1, "post")]
    assert all(1 <= row.participation <= row.entropy + 1e-9 <= row.d_value + 1e-6 for row in rows)
    assert measure_states(subject("ddl"))[1] == []
    reuse, ranks = measure_states(subject("hyper"))
    assert reuse is None
    assert len(ranks) == 5


@pytest.mark.parametrize("name", ["baseline", "hyper"])
def test_a_model_without_gates_says_so(name: str) -> None:
    found = inspect_model(subject(name), [])
    assert found.gates == []
    assert found.directions is None
    assert found.note is not None
    assert f"residual {CONFIGURATIONS[name].residual} has no gates" in found.note


def test_classes_of_bytes_and_of_longer_tokens() -> None:
    text = "if x_1 == 42:\n\tfür (a)"
    found = text_codes(byte_tokenizer(), np.array([byte_tokenizer().encode(text)]))[0]
    names = [TEXT_CLASSES[code] for code in found]
    assert names[:8] == ["initial", "inside", "space", "initial", "inside", "digit", "space", "punctuation"]
    assert names[names.index("newline") + 1] == "space"  # the tab
    assert names.count("other") == 2  # the two bytes of ü
    bpe = train_bpe(["the cat the cat the cat " * 20], 300)
    ids = bpe.encode("the cat 7the")
    classes = [TEXT_CLASSES[code] for code in text_codes(bpe, np.array([[*ids, bpe.end_of_text]]))[0]]
    assert classes[0] == "initial"
    assert classes[-1] == "other"
    assert "digit" in classes


def test_documents_of_a_text(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "book.txt"
    file.write_text("".join(f"Line {number} of a book.\n" for number in range(5000)))
    tokenizer, corpus = byte_tokenizer(), open_corpus(str(file))
    found = text_documents(corpus, "all", tokenizer, seq_len=32, tokens=320)
    assert found.ids.shape == (9, 32)  # every third of the 25 excerpts, the fewest that leave about as much
    assert found.num_documents == 9
    assert len({bytes(row.astype(np.uint8)) for row in found.ids}) == 9
    more = text_documents(corpus, "all", tokenizer, seq_len=32, tokens=64 * 32 * 3)
    assert more.num_documents == len(set(more.document)) > 20
    assert len(more.ids) > 2 * more.num_documents
    assert (found.targets[:, :-1] == found.ids[:, 1:])[found.targets[:, :-1] != IGNORED].all()
    file.write_text("Hm")
    short = text_documents(open_corpus(str(file)), "all", tokenizer, seq_len=32, tokens=320)
    assert (short.ids.shape, int(short.asked.sum()), int(short.real.sum())) == ((1, 32), 2, 2)
    with pytest.raises(DataError, match="no text in its validation split"):
        text_documents(open_corpus(str(file)), "validation", tokenizer, seq_len=32, tokens=320)


def test_documents_of_a_task() -> None:
    task = parse_task("synth:parity")
    found = task_documents(task, tokens=500)
    assert found.classes == ("asked", "given")
    assert (found.codes == 0).sum() == found.asked.sum() > 0
    assert found.num_documents == len(found.ids) > 1


def test_every_part_of_the_text_is_a_window_once() -> None:
    model = subject("ddl-ec")
    assert isinstance(model, Subject)
    assert sum(int(window.asked.sum()) for window in model.windows()) == documents().asked.sum()
