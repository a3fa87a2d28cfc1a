"""Saves checkpoints in a child process that is killed at random moments; run by test_kills.py, in a process of its own.

python killed_saver.py FOLDER KILLS good|bad: prints how many children were killed inside a save.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from deep_delta.runs.checkpoint_files import Best, verify, write_checkpoint
from deep_delta.runs.layout import BEST, LATEST, latest_checkpoint, step_names
from deep_delta.runs.storage import write_all
from tests.runs.faults import content, manifest_of

SIZE = 200_000


def save(checkpoints: Path, step: int) -> None:
    files = {"model": content(str(step) * SIZE), "state": content(f"state {step}")}
    last = latest_checkpoint(checkpoints)
    own = Best(step, {"model": None})
    write_checkpoint(checkpoints, manifest_of(step), files, best=last / BEST if last and step % 3 else own, keep=2)


def bad_save(checkpoints: Path, step: int) -> None:
    """Points at the new checkpoint before it is whole."""
    (checkpoints / LATEST).write_text(f"step-{step}")
    save(checkpoints, step)


def child(checkpoints: Path, write: int, saver: object) -> None:
    last = latest_checkpoint(checkpoints)
    step = verify(last).step + 1 if last else 1
    while True:
        write_all(write, b"(")
        (bad_save if saver == "bad" else save)(checkpoints, step)
        write_all(write, f"{step})".encode())
        step += 1


def main(checkpoints: Path, kills: int, saver: str) -> int:
    drawn, inside, promised = random.Random(0), 0, 0
    for _ in range(kills):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(checkpoints, write, saver)
        os.close(write)
        time.sleep(drawn.uniform(0.001, 0.03))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(read) as pipe:
            told = pipe.read()
        inside += told.endswith("(")
        done = [int(step) for step in told.replace("(", "").split(")") if step]
        promised = max([promised, *done])
        last = latest_checkpoint(checkpoints)
        assert (verify(last).step if last else 0) >= promised, "a finished save was lost"
        for name in step_names(checkpoints):
            verify(checkpoints / str(name))
    return inside


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
