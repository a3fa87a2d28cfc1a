from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deep_delta.benchmarks import suites
from deep_delta.benchmarks.case import Setting
from deep_delta.benchmarks.correctness import judge_case
from deep_delta.benchmarks.suites import block, compressor, normalization, peers
from deep_delta.benchmarks.suites.decode import decode_case
from deep_delta.benchmarks.suites.model import model_case
from deep_delta.benchmarks.suites.operator import DELTA_RULE, DELTA_UPDATE, STREAM_STEP
from deep_delta.models.variants import VARIANTS, variant_config
from deep_delta.ops import delta_update
from deep_delta.ops.dispatch import Backend
from deep_delta.runs.benchmark import SUITES
from tests.benchmarks.conftest import CPU

WHOLE = Setting(CPU, ("fp32", "bf16"), compile=True)
QUICK = replace(WHOLE, quick=True, compile=False)
TINY = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32, "max_seq_len": 8}


def cases(plan):
    return [case for group in plan.groups for case in group.cases]


def names(plan):
    return [case.row(phase) for case in cases(plan) for phase in case.phases]


def test_every_suite_that_is_documented_has_a_plan():
    assert list(suites.PLANS) == list(SUITES)


@pytest.mark.parametrize("suite", SUITES)
def test_rows_are_named_after_their_suite_once_and_quick_ones_are_among_them(suite):
    whole, quick = names(suites.PLANS[suite](WHOLE)), names(suites.PLANS[suite](QUICK))
    assert all(name.startswith(f"{suite}/") for name in whole)
    assert len(set(whole)) == len(whole)
    assert set(quick) <= set(whole)
    assert len(quick) < len(whole)


@pytest.mark.parametrize("suite", SUITES)
def test_ratios_are_to_a_case_of_the_same_group(suite):
    for group in suites.PLANS[suite](WHOLE).groups:
        assert group.relative_to in (None, *(case.name for case in group.cases))
        assert len({case.precision for case in group.cases}) == 1


def test_models_and_blocks_in_bf16_are_skipped_with_the_reason_where_it_does_not_pay():
    setting = replace(WHOLE, skipped={"bf16": "no instructions"})
    for suite in ("model", "block"):
        plan = suites.PLANS[suite](setting)
        assert dict(plan.skipped) == {f"{suite}/*/bf16": "no instructions"}
        assert {case.precision for case in cases(plan)} == {"fp32"}
    assert {case.precision for case in cases(suites.PLANS["operator"](setting))} == {"fp32", "bf16"}


def test_models_that_rebuild_their_state_have_rows_of_their_own():
    found = {case.name.split("/")[1] for case in cases(suites.PLANS["model"](WHOLE))}
    assert {"ddl-cc-ec", "ddl-cc-ec-rebuilt"} <= found
    assert "baseline-rebuilt" not in found


def test_a_new_backend_appears_by_itself_and_an_unavailable_one_says_why():
    added = Backend("novel", delta_update, unavailable=lambda tensor: f"not for {tensor.dtype} on {tensor.device}")
    operator = replace(DELTA_UPDATE, backends=(*DELTA_UPDATE.backends, added))
    (group,) = [one for one in operator.groups(replace(QUICK, precisions=("bf16",))) if "V4" in one.cases[0].name]
    assert [case.name.split("/")[2] for case in group.cases] == [*(one.name for one in DELTA_UPDATE.backends), "novel"]
    assert group.relative_to == group.cases[0].name
    assert "/reference/" in group.relative_to
    assert group.cases[-1].unavailable(CPU) == "not for torch.bfloat16 on cpu"
    assert group.cases[0].unavailable(CPU) is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_operators_and_parts_are_right_at_a_small_size(precision):
    sizes = {"B": 1, "T": 6, "D": 8, "V": 3}
    flat = {letter: sizes[letter] for letter in "BTD"}
    groups = [
        DELTA_UPDATE.group("operator", precision, sizes),
        STREAM_STEP.group("operator", precision, {**sizes, "S": 2}),
        STREAM_STEP.group("operator", precision, {**sizes, "V": 1, "S": 1}),
        DELTA_RULE.group("operator", precision, {"B": 1, "H": 2, "T": 37, "K": 4}),
        compressor._group(precision, sizes),
        normalization._rms_norm(precision, flat),
        normalization._direction(precision, flat),
    ]
    available = [case for group in groups for case in group.cases if case.unavailable(CPU) is None]
    available = [case for case in available if "/compiled/" not in case.name]  # seconds a shape
    for case in available:
        assert judge_case(case, CPU).is_right, case.name


@pytest.mark.parametrize("slug", VARIANTS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_models_and_their_blocks_are_right_at_a_small_size(slug, precision):
    whole = model_case(f"model/{slug}", variant_config(slug, **TINY), 2, precision, phases=("forward", "step"))
    workload = whole.build(CPU)
    assert judge_case(whole, CPU).is_right
    before = [parameter.clone() for parameter in workload.parameters]
    workload.step()
    assert not all(map(torch.equal, before, workload.parameters))
    part = block._block(f"block/{slug}/eager", slug, TINY, 2, precision)
    assert judge_case(part, CPU).is_right


@pytest.mark.parametrize("mixer", ["attention", "deltanet"])
@pytest.mark.parametrize("slug", VARIANTS)
def test_a_decoded_token_is_right_and_every_run_is_the_same_one(slug, mixer):
    case = decode_case(f"decode/{slug}", variant_config(slug, **TINY, mixer=mixer), 20)
    assert judge_case(case, CPU).is_right
    assert judge_case(replace(case, build_checked=None), CPU).is_right
    workload = case.build(CPU)
    (one,), (other,) = workload.forward(), workload.forward()
    assert torch.equal(one, other)


def test_decoding_is_in_fp32_only():
    plan = suites.PLANS["decode"](replace(WHOLE, precisions=("bf16",)))
    assert (plan.groups, dict(plan.skipped)) == ((), {"decode/*": "tokens are decoded in fp32"})


def test_attention_is_held_against_attention():
    sizes = {"B": 1, "H": 2, "T": 5, "K": 4}
    case = peers._case("sdpa", peers.sdpa, peers.attention, "fp32", sizes)
    assert judge_case(case, CPU).is_right
