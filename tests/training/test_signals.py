from __future__ import annotations

import os
import signal
import threading

import pytest

from deep_delta.training.signals import Interrupted, StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered(number: signal.Signals):
    with StopRequest() as stop:
        assert stop.signum is None
        os.kill(os.getpid(), number)
        assert stop.signum == number


def test_the_second_ctrl_c_is_answered_as_before():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background, shells ignore it
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert stop.signum == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_it_only_takes_requests():
    found = []

    def work() -> None:
        with StopRequest() as stop:
            stop.request(signal.SIGTERM)
            found.append(stop.signum)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIGTERM]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_is_the_shell_s(number: int, code: int):
    assert Interrupted("stopped", number).exit_code == code
