"""Train a tiny Deep Delta transformer on the bytes of one text, then let it write.

    python examples/train_tiny.py [TEXT]

Any UTF-8 text will do; without one it reads the source of a module of the standard library. `ddl train` does the same
with validation, checkpoints and all variants.
"""

import argparse
import sys

import torch

from deep_delta import DdlTransformer, variant_config
from deep_delta.data.loader import Loader
from deep_delta.data.tokens import prepare
from deep_delta.generation.engine import generate

STEPS, BATCH_SIZE, SEQ_LEN = 100, 8, 64

# Text to token ids: one byte, one token. The order of the batches depends on (seed, index) alone.
data = prepare(sys.argv[1] if len(sys.argv) > 1 else argparse.__file__, "byte")
loader = Loader(data.train, batch_size=BATCH_SIZE, seq_len=SEQ_LEN, seed=0)

# One of the six variants: the state has 4 value channels per feature, read by a weight per channel.
torch.manual_seed(0)
config = variant_config(
    "ddl-cc", d_model=64, num_layers=2, num_heads=4, vocab_size=data.tokenizer.vocab_size, max_seq_len=SEQ_LEN
)
model = DdlTransformer(config)
print(f"{model.num_parameters():,} parameters, {len(data.train):,} training tokens")

# An ordinary PyTorch loop: `loss` is the mean cross-entropy of the next token, in nats.
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(1, STEPS + 1):
    ids, targets = (torch.from_numpy(part) for part in loader.batch(step - 1))
    loss = model.loss(ids, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 1 or step % 50 == 0:
        print(f"step {step:>4}: loss {loss.item():.3f} nats per byte")

# Cached decoding; the text is a function of the model, the prompt and the seed.
print("--- what it writes ---")
print("def " + "".join(generate(model.eval(), data.tokenizer, "def ", max_new_tokens=100, seed=1)))
