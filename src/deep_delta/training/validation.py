"""What a run evaluates, always on the same tokens: validation loss and a spectral snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deep_delta.data.loader import Loader, validation_batches
from deep_delta.data.tokens import Dataset
from deep_delta.evaluation.language_model import Batch, evaluate
from deep_delta.evaluation.snapshot import snapshot
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Evaluation
from deep_delta.training.config import TrainingConfig

NO_VALIDATION = "the corpus has no validation split"


@dataclass(frozen=True)
class Validation:
    """Fixed batches; `probe` [B, T] are the tokens whose gates are looked at. No batches without a validation split."""

    batches: Sequence[Batch]
    probe: np.ndarray
    training: TrainingConfig

    @classmethod
    def of(cls, data: Dataset, loader: Loader, training: TrainingConfig) -> Validation:
        """From the validation split; without one, only the probe, which is then the first training batch.

        Raises `DataError` when the split is shorter than one sequence.
        """
        if data.validation is None:
            return cls((), loader.batch(0)[0], training)
        pairs = validation_batches(
            data.validation, batch_size=training.batch_size, seq_len=training.seq_len, limit=training.eval_batches
        )
        batches = [Batch.of_tokens(ids, targets, data.tokenizer.token_bytes) for ids, targets in pairs]
        return cls(batches, batches[0].ids, training)

    def measure(self, model: DdlTransformer, step: int) -> Evaluation:
        """Evaluate the model as it is after `step` steps; draws no random numbers.

        Raises `NumericsError` when a loss or a spectral measure is not finite.
        """
        spectra = snapshot(model, self.probe, precision=self.training.precision)
        if not self.batches:
            return Evaluation(
                step=step, loss=None, bits_per_byte=None, tokens=0, num_bytes=0, reason=NO_VALIDATION, spectra=spectra
            )
        score = evaluate(model, self.batches, precision=self.training.precision)
        return Evaluation(step=step, spectra=spectra, **score.model_dump())
