"""Stop strings in streamed text: nothing of a stop string is ever shown, even when it comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from deep_delta.errors import ConfigError


class StopStrings:
    """Passes text on until one of `stops` appears; what could still become one is held back.

    `push` returns the text that is safe to show; when it makes `stopped` true, that is the text before the stop string
    that was complete first. `flush` returns what was held back. `ConfigError` for an empty stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise ConfigError("a stop string must not be empty")
        self.stops = tuple(stops)
        self.stopped = False
        self._held = ""

    def push(self, text: str) -> str:
        assert not self.stopped
        text = self._held + text
        ends = [(text.index(stop) + len(stop), -len(stop)) for stop in self.stops if stop in text]
        if ends:
            self.stopped, self._held = True, ""
            end, minus_length = min(ends)
            return text[: end + minus_length]
        keep = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:n])), 0)
