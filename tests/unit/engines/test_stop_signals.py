from __future__ import annotations

import signal
import threading

import pytest

from monai_anat.engines.stop_signals import StopSignals


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_first_signal_waits_unless_the_owner_does(number, kind):
    before = signal.getsignal(number)
    with StopSignals() as signals:
        signal.raise_signal(number)
        assert signals.received is number
        assert isinstance(signals.exception(), kind)
        assert signal.getsignal(number) is before, "a second signal acts at once"
    with StopSignals() as signals:
        signals.waiting = True
        with pytest.raises(kind) as caught:
            signal.raise_signal(number)
    assert signal.getsignal(number) is before
    if kind is SystemExit:
        assert caught.value.code == 143


def test_another_thread_gets_no_signals():
    seen = []

    def enter() -> None:
        with StopSignals() as signals:
            seen.append(signals.received)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [None]
