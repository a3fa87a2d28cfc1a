"""Do rebuilt states give the gradients of stored ones? On your checkpoint, or on a model trained for a moment.

    python examples/rebuilt_states.py [CHECKPOINT]

Prints, for fp32 and bf16, how far the gradients are from those of fp64 with stored states: ‖g − g₆₄‖/‖g₆₄‖ over all
parameters, and the worst parameter.
"""

import sys

import torch

from deep_delta import DdlTransformer, load_checkpoint, variant_config


def trained_for_a_moment() -> DdlTransformer:
    torch.manual_seed(0)
    model = DdlTransformer(variant_config("ddl-cc-ec", d_model=64, num_layers=4, num_heads=4, vocab_size=64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(30):
        ids = (torch.randint(64, (8, 1)) + torch.arange(33)) % 64
        optimizer.zero_grad()
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        optimizer.step()
    return model


def gradients(model: DdlTransformer, ids: torch.Tensor, storage: str, precision: str) -> dict[str, torch.Tensor]:
    twin = DdlTransformer(model.config.model_copy(update={"state_storage": storage}))
    twin.load_state_dict(model.state_dict())
    if precision == "fp64":
        twin = twin.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        twin.loss(ids[:, :-1], ids[:, 1:]).backward()
    return {name: parameter.grad.double() for name, parameter in twin.named_parameters()}


model = load_checkpoint(sys.argv[1])[0] if len(sys.argv) > 1 else trained_for_a_moment()
torch.manual_seed(1)
ids = torch.randint(model.config.vocab_size, (2, min(model.config.max_seq_len, 128) + 1))
exact = gradients(model, ids, "stored", "fp64")
size = sum(one.square().sum() for one in exact.values()).sqrt()
for precision in ("fp32", "bf16"):
    for storage in ("stored", "rebuilt"):
        found = gradients(model, ids, storage, precision)
        errors = {name: (found[name] - one).norm() / one.norm().clamp_min(1e-12) for name, one in exact.items()}
        whole = sum((found[name] - one).square().sum() for name, one in exact.items()).sqrt() / size
        worst = max(errors, key=errors.get)
        print(f"{precision} {storage:8} error {whole:.2e}   worst {errors[worst]:.2e} in {worst}")
