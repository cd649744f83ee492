"""Probes that ask the engine."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gateway.telemetry import readiness
from gateway.telemetry.readiness import EngineProbe
from storage.errors import StorageUnavailable


class Engine:
    """Counts how often it is asked; it answers when told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer = threading.Event()
        self.answer.set()
        self.down = False

    def ping(self) -> None:
        self.asked += 1
        self.answer.wait()
        if self.down:
            raise StorageUnavailable("the bucket does not answer")


@pytest.fixture
def engine() -> Engine:
    return Engine()


def together(count: int, call: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_however_many_ask_the_engines_are_asked_once_in_a_while(engine: Engine) -> None:
    probe = EngineProbe(engine.ping)
    together(20, probe.fault)
    assert probe.fault() is None
    assert engine.asked == 1
    probe.close()


def test_what_is_wrong_is_told_and_asked_again_later(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_SHARED_S", 0.0)
    probe = EngineProbe(engine.ping)
    engine.down = True
    assert probe.fault() == "the bucket does not answer"
    engine.down = False
    assert probe.fault() is None
    probe.close()


def test_engines_that_hang_are_asked_once_and_nobody_waits_for_them(engine: Engine) -> None:
    probe = EngineProbe(engine.ping, timeout_s=0.05)
    engine.answer.clear()
    together(5, probe.fault)
    fault, asked = probe.fault(), engine.asked
    engine.answer.set()
    probe.close()
    assert (fault, asked) == ("the engines do not answer in time", 1)
