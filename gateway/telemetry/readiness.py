"""Whether the engines answer, asked by somebody who must not wait long: a probe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from gateway.errors import GatewayError
from storage.errors import StorageError

_log = logging.getLogger("gateway.metrics")
_SHARED_S = 1.0


class EngineProbe:
    """Asks the engines in a thread of its own, once at a time and once a second however many ask.

    Anybody may ask, and a question may cost a request to S3.

    Parameters
    ----------
    ask
        Returns when every engine answers; raises its error when one does not.
    timeout_s
        Longest wait for it.
    """

    def __init__(self, ask: Callable[[], None], timeout_s: float = 5.0) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None
        self._asked_at_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine-probe")

    def fault(self) -> str | None:
        """What is wrong; None when nothing is."""
        with self._lock:
            now_s = time.monotonic()
            if self._asked is None or (self._asked.done() and now_s - self._asked_at_s > _SHARED_S):
                self._asked, self._asked_at_s = self._thread.submit(self._ask), now_s
            asked = self._asked
        try:
            asked.result(self._timeout_s)
        except TimeoutError:
            return "the engines do not answer in time"
        except (StorageError, GatewayError) as error:
            return str(error)
        except Exception:  # the boundary: a probe is told no to, whatever it is
            _log.exception("the engines cannot be asked")
            return "the engines cannot be asked; the log says why"
        return None

    def close(self) -> None:
        """Ask no more."""
        with suppress(RuntimeError):
            self._thread.shutdown(wait=False, cancel_futures=True)
