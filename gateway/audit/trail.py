"""The trail on disk: one JSON line a record, one chain of them a process, one file a chain and day."""

from __future__ import annotations

import datetime
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.audit import chain, key
from gateway.audit.accesses import Access, Accesses
from gateway.audit.chain import Chain, Head
from gateway.audit.events import DURABLE, SEARCHES, AuditEvent
from gateway.audit.key import AuditKey
from gateway.errors import AuditUnavailable

_log = logging.getLogger("gateway.audit")

TRAIL_ID = "trail.id"
_UNWRITTEN = "the audit trail cannot be written"
_FULL = "too much of the audit trail waits for the syslog server"


def never() -> bool:
    """Nothing is ever too much."""
    return False


def unobserved(_action: str, _outcome: str) -> None:
    """Nobody counts records."""


class AuditTrail:
    """Appends to this process's chain. Safe to use from several threads.

    The chain begins with the first record that is written, by one that says what began; ``close`` ends it.

    Parameters
    ----------
    directory
        Made when absent, readable by the owner's group at most.
    worker
        The process's name, such as "http-1".
    signing
        Without one, the key in ``audit.key`` beside the directory, which is made when absent.
    window_s
        See ``Accesses``.
    sync_interval_s
        How often what was written is made durable.
    fsync
        False never does.
    full
        Says that nothing more can be recorded, since nothing more can be sent on.
    observe
        Hears action and outcome of each record.
    """

    def __init__(
        self,
        directory: Path,
        worker: str,
        signing: AuditKey | None = None,
        *,
        window_s: float = 60.0,
        sync_interval_s: float = 1.0,
        fsync: bool = True,
        full: Callable[[], bool] = never,
        observe: Callable[[str, str], None] = unobserved,
    ) -> None:
        self.directory = directory
        self.worker = worker
        self._key = signing
        self._fsync = fsync
        self._full = full
        self._observe = observe
        self._sync_interval_s = sync_interval_s
        self._accesses = Accesses(self._recorded, window_s)
        self._lock = threading.RLock()
        self._syncing = threading.Lock()
        self._chain: Chain | None = None
        self._day = ""
        self._descriptor = -1
        self._size = 0
        self._unsynced = False
        self._new_names = False
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)

    def start(self, detail: str = "", **more: object) -> None:
        """Begin the chain now, with more fields in its first record. Raises AuditUnavailable."""
        with self._lock, _Refusing():
            self._begin(_now(), detail, more)

    def digest(self, text: bytes) -> str:
        """A digest that tells nothing of the text to whoever has not the key. Raises AuditUnavailable."""
        return self._signing().sign(text)[:32]

    def _signing(self) -> AuditKey:
        self._key = self._key or key.kept(self.directory.with_name("audit.key"))
        return self._key

    def write(self, event: AuditEvent) -> Access:
        """Record an event, or count it with equal ones before it; to count what the access takes.

        On return it is written, and on the disk if its action is of those.

        Raises
        ------
        AuditUnavailable
            It is not recorded, and what it speaks of must not happen.
        """
        return self._accesses.begin(event)

    def _recorded(self, event: AuditEvent) -> tuple[int, str]:
        if self._full():
            raise AuditUnavailable(_FULL)
        now = _now()
        time = _text(now)
        with self._lock, _Refusing():
            self._begin(now)
            seq = self._append(now, {"time": time, **_fields(event)})
        if event.action in DURABLE:
            with _Refusing():
                self.sync()
        self._observe(event.action, event.outcome)
        return seq, time

    def _begin(self, now: datetime.datetime, detail: str = "", more: Mapping[str, object] | None = None) -> None:
        if self._chain is not None:
            return
        signing = self._signing()
        before, torn = _chain_before(self.directory, self.worker)
        begun = Chain(f"{self.worker}-{chain.CLOCK.next()}", signing)
        first: dict[str, object] = {
            "time": _text(now),
            "action": "start",
            "outcome": "started",
            "detail": detail,
            "chain": begun.head.chain,
            "trail": trail_id(self.directory),
            "key": signing.id,
            **(more or {}),
        }
        if before is not None:
            first["before"] = {**before.fields(), "torn": torn}
        self._close()
        self._chain = begun
        try:
            self._append(now, first)
        except BaseException:
            self._chain = None
            raise
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="audit", daemon=True)
            self._keeper.start()

    def _append(self, now: datetime.datetime, fields: Mapping[str, object]) -> int:
        assert self._chain is not None
        line, head = self._chain.seal(fields)
        self._roll(now)
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError("the disk took only a part of the record")
        except OSError:
            self._take_back()
            raise
        self._chain.head = head
        self._size += len(line)
        self._unsynced = True
        return head.seq

    def _take_back(self) -> None:
        """Remove a half-written line; where that fails too, what follows is another chain."""
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._close()
            self._chain = None

    def _roll(self, now: datetime.datetime) -> None:
        day = now.strftime("%Y%m%d")
        if self._descriptor >= 0 and day <= self._day:
            return
        assert self._chain is not None
        path = self.directory / chain.file_name(day, self._chain.head.chain)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._close()
        self._day, self._descriptor, self._size, self._new_names = day, descriptor, 0, True

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        try:
            if self._unsynced and self._fsync:
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor, self._unsynced = -1, False

    def sync(self) -> None:
        """Make durable what is written so far. Raises OSError."""
        with self._syncing:
            with self._lock:
                if not self._unsynced or not self._fsync or self._descriptor < 0:
                    return
                descriptor, new_names = os.dup(self._descriptor), self._new_names
                self._unsynced = self._new_names = False
            try:
                # Without the lock: others go on writing meanwhile.
                os.fsync(descriptor)
                if new_names:
                    key.sync_folder(self.directory)
            except OSError:
                self._unsynced, self._new_names = True, new_names
                raise
            finally:
                os.close(descriptor)

    def _keep(self) -> None:
        """Complete accesses, and make records durable, from time to time."""
        failed = False
        while not self._stop.wait(self._sync_interval_s):
            try:
                self._accesses.complete()
                self.sync()
                failed = False
            except (OSError, AuditUnavailable):
                if not failed:
                    _log.critical("the audit trail cannot be kept", exc_info=True)
                failed = True

    def close(self) -> None:
        """End the chain: complete what is under way, say so, make it durable. Idempotent.

        What cannot be written any more is logged.
        """
        self._stop.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        with self._lock:
            if self._chain is None:
                return
            try:
                self._accesses.complete(everything=True)
                now = _now()
                self._append(now, {"time": _text(now), "action": "stop", "outcome": "stopped", "detail": ""})
            except (OSError, AuditUnavailable):
                _log.critical("the end of the audit trail cannot be written", exc_info=True)
            try:
                self.sync()
                self._close()
            except OSError:
                _log.critical("the audit trail cannot be made durable", exc_info=True)
            self._chain, self._day = None, ""
            self._stop.clear()


class _Refusing:
    """What the disk refuses, the gateway does."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise AuditUnavailable(_UNWRITTEN) from error


def trail_id(directory: Path) -> str:
    """What names this directory's trail in the object store; made at first. Raises OSError."""
    return key.read_or_make(directory / TRAIL_ID, lambda: secrets.token_hex(8).encode(), 0o640).decode("ascii")


def _chain_before(directory: Path, worker: str) -> tuple[Head | None, int]:
    """The head of the worker's last chain, and the bytes of its half line."""
    found = [each for each in chain.files(directory) if each.worker == worker]
    if not found:
        return None, 0
    last = max(found, key=lambda each: (each.chain, each.day))
    return chain.durable_head(last.path)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _text(now: datetime.datetime) -> str:
    return now.isoformat(timespec="milliseconds")


def _fields(event: AuditEvent) -> dict[str, object]:
    caller = event.caller
    found: dict[str, object] = {
        "action": event.action,
        "outcome": event.outcome,
        "tenant": event.tenant,
        "subject": event.subject,
        "detail": event.detail,
    }
    if event.query:
        found["query"] = event.query
    if event.view:
        found["view"] = event.view
    if caller is not None:
        source = caller.source
        found.update(
            principal=caller.principal.name,
            kind=caller.principal.kind.value,
            protocol=source.protocol,
            address=source.address,
            request=source.request_id,
        )
        if source.calling_ae_title:
            found.update(calling=source.calling_ae_title, called=source.called_ae_title)
    counts = event.counts
    if counts is not None:
        found.update(
            first=counts.first,
            since=counts.since,
            requests=counts.requests,
            instances=counts.instances,
            frames=counts.frames,
            bytes=counts.bytes,
        )
        if event.action in SEARCHES:
            found["matches"] = counts.matches
    return found
