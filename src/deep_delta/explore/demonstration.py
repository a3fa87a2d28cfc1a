"""A made-up run and benchmark, written at once, for who looks before training. Nothing of it was measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from deep_delta.evaluation.ranking import rank_runs
from deep_delta.models.config import DdlConfig
from deep_delta.models.variants import variant_config
from deep_delta.runs.benchmark import Benchmark, BenchmarkRow, Ceiling, StepTime
from deep_delta.runs.comparison import Evaluation, Origin, Ranking, TrainedVariant, TrainingComparison
from deep_delta.runs.layout import RunFolder
from deep_delta.runs.manifest import DataIdentity
from deep_delta.spectral.regimes import BOUNDARIES, REGIMES
from deep_delta.training.config import TrainingConfig

STEPS, INTERVAL, TOKENS = 400, 20, 1024
SEEDS = (0, 1)
_GATES = 256
_QUANTILES = {"beta_q05": 0.05, "beta_q25": 0.25, "beta_median": 0.5, "beta_q75": 0.75, "beta_q95": 0.95}
_SHAPES = {
    "baseline": (2.62, 0.0, 821_800), "ddl": (2.47, 0.30, 823_800), "ddl-tokenconv": (2.41, 0.42, 837_100),
    "ddl-ec": (2.39, 0.40, 839_200), "ddl-cc": (2.44, 0.36, 829_400), "ddl-cc-ec": (2.43, 0.38, 831_500),
}  # fmt: skip
"""Of each variant: where its loss ends, the gates' mean, parameters."""

_TRAINING: dict[str, Any] = {"max_steps": STEPS, "eval_interval": INTERVAL, "batch_size": 8, "seq_len": 128}
_NOTHING = "made up by ddl tui, to look at; nothing was trained or measured"
_ORIGIN = Origin(versions={"deep_delta": "demonstration"}, commit=None, hardware={"processor": _NOTHING})
_DATA = DataIdentity(name="made up", sha256="0" * 64, tokenizer="byte", tokenizer_sha256="0" * 64)


def demonstration(folder: Path) -> list[Path]:
    """Write two seeds of six variants and a benchmark into a folder; what to open."""
    for seed in SEEDS:
        _write_run(folder / "demonstration" / f"seed-{seed}", seed)
    benchmark = folder / "demonstration" / "benchmark.json"
    benchmark.write_text(_benchmark().to_json())
    return [folder / "demonstration"]


def _write_run(path: Path, seed: int) -> None:
    training = TrainingConfig(**_TRAINING).model_copy(update={"seed": seed})
    trained = []
    for number, slug in enumerate(_SHAPES):
        config = variant_config(slug, d_model=128, num_layers=4, num_heads=4, vocab_size=257)
        rng = np.random.default_rng([seed, number])
        events = _events(slug, config, seed, rng)
        log = RunFolder(path).variant(slug).events.path
        log.parent.mkdir(parents=True)
        log.write_text("".join(json.dumps(event) + "\n" for event in events))
        trained.append(_summary(slug, config, seed, events))
    empty = Ranking(measure="", rule="", standings=())
    unranked = TrainingComparison(
        training=training.model_dump(), data=_DATA, data_spec=None, origin=_ORIGIN, runs=tuple(trained), ranking=empty
    )
    ranked = unranked.model_copy(update={"ranking": rank_runs([unranked])})
    RunFolder(path).comparison.write_text(ranked.to_json())


def _events(slug: str, config: DdlConfig, seed: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    end, gate, parameters = _SHAPES[slug]
    events: list[dict[str, Any]] = [
        {
            "kind": "started", "step": 0, "seed": seed, "parameters": parameters, "flops_per_token": 6 * parameters,
            "max_steps": STEPS, "time": "2026-01-01T00:00:00Z", "command": None, "commit": None,
        }
    ]  # fmt: skip
    steps = np.arange(1, STEPS + 1)
    luck = rng.normal(scale=0.012)
    trend = end + luck + (5.55 - end) * np.exp(-steps / 55) + 0.25 * np.exp(-steps / 260)
    losses = trend + rng.normal(scale=0.05, size=STEPS)
    losses[211] += 0.8 if slug == "ddl" else 0.0
    rates = 1e-3 * np.minimum(steps / 20, 0.5 * (1 + np.cos(math.pi * steps / STEPS)))
    norms = 0.6 + 1.8 * np.exp(-steps / 30) + np.abs(rng.normal(scale=0.12, size=STEPS))
    seconds = rng.gamma(200, (0.042 if slug == "baseline" else 0.048) / 200, size=STEPS)
    gates = [] if slug == "baseline" else _spectra(config, gate, rng)
    for index, step in enumerate(steps.tolist()):
        events.append(
            {
                "kind": "step", "step": step, "loss": float(losses[index]), "learning_rate": float(rates[index]),
                "grad_norm": float(norms[index]), "tokens": TOKENS, "seconds": float(seconds[index]),
            }
        )  # fmt: skip
        if step % INTERVAL == 0:
            spectra = gates[step // INTERVAL - 1] if gates else []
            loss = float(trend[index] + 0.06 + rng.normal(scale=0.006))
            events.append(
                {
                    "kind": "evaluation", "best": True, "step": step, "loss": loss, "bits_per_byte": loss / math.log(2),
                    "tokens": 8192, "num_bytes": 8192, "reason": None, "accuracies": [], "spectra": spectra,
                }
            )  # fmt: skip
    events.append({"kind": "finished", "step": STEPS, "time": "2026-01-01T00:00:20Z"})
    return events


def _spectra(config: DdlConfig, gate: float, rng: np.random.Generator) -> list[list[dict[str, Any]]]:
    """One list for each evaluation: gates that move from one half to where the variant's end, deeper ones further."""
    # S evaluations, L sublayers, G gates
    done_S = np.arange(INTERVAL, STEPS + 1, INTERVAL) / STEPS
    depth_L = np.arange(config.num_sublayers) / (config.num_sublayers - 1)
    centre_SL = 0.5 + done_S[:, None] * (gate * (0.5 + 2.6 * depth_L**2) - 0.5 + 0.15 * (np.arange(len(depth_L)) % 2))
    spread_SL = 0.08 + 0.35 * done_S[:, None] * depth_L
    noise_SLG = rng.normal(size=(*centre_SL.shape, _GATES))
    beta_SLG = np.sort(np.clip(centre_SL[..., None] + spread_SL[..., None] * noise_SLG, 0.01, 1.99), axis=-1)
    mean_SL = beta_SLG.mean(-1)
    before_SL = 2.0 - done_S[:, None] * (1 - 0.4 * depth_L)
    below = np.stack([(beta_SLG < bound).mean(-1) for bound in BOUNDARIES], axis=-1)
    numbers = {
        "beta_mean": mean_SL,
        "beta_std": beta_SLG.std(-1),
        **{name: beta_SLG[..., int(share * _GATES)] for name, share in _QUANTILES.items()},
        "k_eigenvalue": 1 - mean_SL,
        "determinant": 1 - mean_SL,
        "lifted_determinant": ((1 - beta_SLG) ** config.d_value).mean(-1),
        "direction_norm": 1.0 + depth_L + 0 * mean_SL,
        "k_norm": 1.0 + 0 * mean_SL,
        "discrepancy_before": before_SL,
        "discrepancy_after": np.abs(1 - mean_SL) * before_SL,
        "alignment": 0.1 + 0.5 * done_S[:, None] * depth_L,
        "state_norm": 1.0 + 3 * depth_L + 0 * mean_SL,
    }
    lists = {name: found.tolist() for name, found in numbers.items()}
    shares = np.diff(below, prepend=0, append=1).tolist()
    return [
        [_spectrum(index, {name: found[snapshot][index] for name, found in lists.items()}, shares[snapshot][index])
         for index in range(config.num_sublayers)]
        for snapshot in range(len(done_S))
    ]  # fmt: skip


def _spectrum(index: int, numbers: dict[str, Any], shares: list[float]) -> dict[str, Any]:
    if index == 0:
        numbers["alignment"] = None
    place = {"layer": index // 2, "sublayer": ("mixer", "mlp")[index % 2], "tokens": _GATES}
    return {**place, **numbers, "regime_share": dict(zip(REGIMES, shares, strict=True))}


def _summary(slug: str, config: DdlConfig, seed: int, events: list[dict[str, Any]]) -> TrainedVariant:
    evaluations = tuple(
        Evaluation(**{name: event[name] for name in Evaluation.model_fields if name not in ("accuracies", "spectra")})
        for event in events
        if event["kind"] == "evaluation"
    )
    steps = [event for event in events if event["kind"] == "step"]
    best = min(evaluations, key=lambda one: one.loss or math.inf)
    return TrainedVariant(
        variant=slug, seed=seed, status="finished", model=config.model_dump(), parameters=_SHAPES[slug][2], step=STEPS,
        best_loss=best.loss, best_step=best.step, tokens_per_second=TOKENS / steps[0]["seconds"],
        curve=(),
        evaluations=evaluations,
    )  # fmt: skip


def _benchmark() -> Benchmark:
    rng = np.random.default_rng(7)
    reference = "model/baseline/fp32/small/step"
    rows = []
    for slug, ratio in zip(_SHAPES, (1.0, 1.02, 1.15, 1.14, 1.08, 1.07), strict=True):
        median = 0.140 * ratio
        spread = float(rng.uniform(0.01, 0.03))
        rows.append(
            BenchmarkRow(
                name=f"model/{slug}/fp32/small/step", suite="model", phase="step", precision="fp32",
                seconds=StepTime(
                    median=median, lower=median * (1 - spread), upper=median * (1 + spread), relative=ratio,
                    relative_lower=ratio * 0.99, relative_upper=ratio * 1.01, rounds=12,
                ),
                relative_to=reference, error=1e-6, tolerance=1e-4, tokens=1024, peak_bytes=int(3e8 * ratio),
                saved_bytes=int(1.6e8 * ratio**2),
            )
        )  # fmt: skip
    ceiling = Ceiling(kind="gemm", precision="fp32", per_second=4.5e11, by=_NOTHING)
    return Benchmark(
        origin=_ORIGIN, date="2026-01-01T00:00:00Z", capabilities=(), load=_NOTHING, quick=True, rows=tuple(rows),
        ceilings=(ceiling,),
    )  # fmt: skip
