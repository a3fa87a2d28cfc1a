"""What can go wrong, as types; each carries the exit code of the command line.

Everything that a user can cause is a `DeepDeltaError` whose message is one line: what, which value, which rule or
remedy. Our own mistakes are `assert`s and surface as exit code 70.
"""


class DeepDeltaError(Exception):
    """Base of every error that the command line reports in one line."""

    exit_code = 70


class GateError(DeepDeltaError):
    """A gate (benchmark, comparison) did not pass."""

    exit_code = 1


class ConfigError(DeepDeltaError, ValueError):
    """An option or a configuration field has a value that it may not have."""

    exit_code = 2


class BackendError(DeepDeltaError, RuntimeError):
    """A backend or device was asked for by name and is not available here."""

    exit_code = 2


class DataError(DeepDeltaError, ValueError):
    """The corpus, tokenizer or prompt cannot be used as it is."""

    exit_code = 3


class CheckpointError(DeepDeltaError, ValueError):
    """A checkpoint or run folder is damaged, foreign or of another format version."""

    exit_code = 4


class NumericsError(DeepDeltaError, ArithmeticError):
    """A loss or gradient is not finite."""

    exit_code = 5


class StorageError(DeepDeltaError, OSError):
    """The disk is full, too small or not writable."""

    exit_code = 6


class PeerLostError(DeepDeltaError, RuntimeError):
    """Another process of a distributed run died or stopped answering."""

    exit_code = 7
