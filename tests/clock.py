"""Time that passes at a test's word: nothing has to be done before something short is over, and nobody waits."""

from __future__ import annotations

import time
from types import ModuleType, SimpleNamespace

import pytest


def let_pass(monkeypatch: pytest.MonkeyPatch, seconds: float, *modules: ModuleType) -> None:
    """Let time pass for modules that look at ``time``."""
    later = SimpleNamespace(
        time=lambda: time.time() + seconds,
        monotonic=lambda: time.monotonic() + seconds,
    )
    for module in modules:
        monkeypatch.setattr(module, "time", later)
