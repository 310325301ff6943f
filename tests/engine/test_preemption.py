"""Signals that ask to stop."""

import signal

import jax
import pytest
from jax.experimental import multihost_utils

from jaxvision.engine.preemption import Preemption


def test_ctrl_c_unwinds_one_of_several_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda step: step == 2)

    def end(number, frame):
        raise AssertionError("it would end at once, in the middle of a save")

    before = signal.signal(signal.SIGINT, end)
    try:
        with Preemption() as preemption:
            assert not preemption.requested(1)
            assert preemption.requested(2)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is end
        assert not preemption.interrupted
    finally:
        signal.signal(signal.SIGINT, before)
