"""What a run evaluates, always on the same tokens: validation loss, a task's accuracy, and a spectral snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deep_delta.data.batches import HeldOut, TrainingData
from deep_delta.evaluation.accuracy import score_answers
from deep_delta.evaluation.language_model import Batch, evaluate
from deep_delta.evaluation.snapshot import snapshot
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.comparison import Evaluation
from deep_delta.training.config import TrainingConfig

NO_VALIDATION = "the corpus has no validation split"
NO_BYTES = "a task's symbols stand for no bytes of text"


@dataclass(frozen=True)
class Validation:
    """What was held out; `text` has its batches with their bytes, and nothing for a task."""

    held_out: HeldOut
    text: Sequence[Batch]
    training: TrainingConfig

    @classmethod
    def of(cls, data: TrainingData, training: TrainingConfig) -> Validation:
        """From what `data` holds out. Raises `DataError` or `ConfigError` when that is shorter than one sequence."""
        held_out = data.held_out(
            batch_size=training.batch_size, seq_len=training.seq_len, seed=training.seed, limit=training.eval_batches
        )
        sizes = held_out.num_bytes
        text = () if sizes is None else [Batch(*pair, size) for pair, size in zip(held_out.batches, sizes, strict=True)]
        return cls(held_out, text, training)

    def measure(self, model: DdlTransformer, step: int) -> Evaluation:
        """Evaluate the model as it is after `step` steps; draws no random numbers.

        Sequences of a task's test lengths cost more than a training step, so they are only read after the last one.

        Raises `NumericsError` when a loss or a spectral measure is not finite.
        """
        spectra = snapshot(model, self.held_out.probe, precision=self.training.precision)
        if self.held_out.num_bytes is None:
            return self._measure_task(model, step).model_copy(update={"spectra": spectra})
        if not self.text:
            return Evaluation(
                step=step, loss=None, bits_per_byte=None, tokens=0, num_bytes=0, reason=NO_VALIDATION, spectra=spectra
            )
        score = evaluate(model, self.text, precision=self.training.precision)
        return Evaluation(step=step, spectra=spectra, **score.model_dump())

    def _measure_task(self, model: DdlTransformer, step: int) -> Evaluation:
        precision = self.training.precision
        score = score_answers(model, self.held_out.batches, precision=precision)
        tests = self.held_out.by_length.items() if step == self.training.max_steps else ()
        longer = [score_answers(model, batches, precision=precision).summary(str(length)) for length, batches in tests]
        return Evaluation(
            step=step,
            loss=score.loss,
            bits_per_byte=None,
            tokens=score.num_answers,
            num_bytes=0,
            reason=NO_BYTES,
            accuracies=(score.summary(self.held_out.lengths), *longer),
        )
