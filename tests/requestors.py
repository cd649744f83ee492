"""How pynetdicom is set up as the tests' requestor, which is done by globals of its modules."""

from __future__ import annotations

import functools
import threading
from typing import Any

from pynetdicom import _config
from pynetdicom.association import Association

_LOOK_S = 0.05


def configure() -> None:
    """Files are sent without being in memory as a whole, and responses that come at once are not lost."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    _hold_requestors()


def _hold_requestors() -> None:
    """Let a response that comes at once reach whoever waits for it (pynetdicom 3.0.4, issue 875 there).

    Whoever sends a request first stops the association's own thread, and looks for ``_is_paused``. That may be left
    over from before: the thread goes on, takes the response for a request, and the sender waits until its timeout.
    """
    begin = Association.__init__
    if hasattr(begin, "__wrapped__"):
        return

    @functools.wraps(begin)
    def begun(self: Association, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self._reactor_checkpoint = _Checkpoint(self)

    Association.__init__ = begun  # type: ignore[method-assign]


class _Checkpoint(threading.Event):
    """An event that is passed and told of in one step, and cleared only once the association's thread waits at it."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._passing = threading.Condition()
        self._held = False
        self.set()

    def set(self) -> None:
        """Let pass."""
        with self._passing:
            super().set()
            self._passing.notify_all()

    def clear(self) -> None:
        """Let nobody pass who has not passed. On return the association's thread waits, or has ended."""
        with self._passing:
            super().clear()
            if threading.current_thread() is self._association:
                return
            while not self._held and self._association.is_alive() and not self._association._kill:
                self._passing.wait(_LOOK_S)
            self._association._is_paused = True

    def wait(self, timeout: float | None = None) -> bool:
        """Pass; until then the association's thread is paused, and from then on it is not."""
        own = threading.current_thread() is self._association
        with self._passing:
            if own:
                self._held = self._association._is_paused = True
                self._passing.notify_all()
            passed = self._passing.wait_for(self.is_set, timeout)
            if passed and own:
                self._held = self._association._is_paused = False
            return passed
