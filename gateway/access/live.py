"""The policy in force: read anew when its file changes, without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gateway.access import policy
from gateway.access.rules import Policy
from gateway.config import InvalidSettings

_log = logging.getLogger("gateway.access")

_LOOK_EVERY_S = 1.0
_Stamp = tuple[int, int, int]


class LivePolicy:
    """The policy of a file, or the built-in one. Safe to use from several threads.

    A file that is not there any more, or is none, changes nothing: the policy that was read last stays in force, and
    the fault is logged and told.

    Parameters
    ----------
    told
        Hears that the policy changed ("changed", ""), or could not ("refused", why). May raise: then nothing changes.

    Raises
    ------
    InvalidSettings
        The file cannot be read at first.
    """

    def __init__(self, path: Path | None, told: Callable[[str, str], None] = lambda _outcome, _detail: None) -> None:
        self._path = path
        self._told = told
        self._lock = threading.Lock()
        self._stamp = _stamp(path)
        self._policy = policy.load(path)
        self._look_s = time.monotonic() + _LOOK_EVERY_S

    def current(self) -> Policy:
        """The policy that is in force now; a change is seen within a second."""
        if self._path is not None and time.monotonic() >= self._look_s and self._lock.acquire(blocking=False):
            try:
                self._look_s = time.monotonic() + _LOOK_EVERY_S
                self._look()
            finally:
                self._lock.release()
        return self._policy

    def _look(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            found = policy.load(self._path)
        except InvalidSettings as error:
            _log.error("the policy stays as it was: %s", "; ".join(error.faults))
            self._told("refused", "the policy file is not valid; what was in force stays")
        else:
            self._told("changed", "")
            self._policy = found
            _log.info("the policy was read anew")
        self._stamp = stamp


def _stamp(path: Path | None) -> _Stamp | None:
    """What tells one state of a file from another; None without one."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
