"""The trail on disk: one JSON line an event, one file a process and day."""

from __future__ import annotations

import datetime
import os
import threading
from pathlib import Path

import orjson

from gateway.audit.events import AuditEvent
from gateway.errors import AuditUnavailable


class AuditTrail:
    """Appends events to this process's file. Safe to use from several threads.

    Parameters
    ----------
    directory
        Made when absent, readable by the owner's group at most.
    worker
        Part of the file's name, so that no two processes write to one file.
    """

    def __init__(self, directory: Path, worker: str) -> None:
        self._directory = directory
        self._worker = worker
        self._lock = threading.Lock()
        self._day = ""
        self._descriptor = -1
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)

    def write(self, event: AuditEvent) -> None:
        """Record an event; raises AuditUnavailable when it cannot be written."""
        now = datetime.datetime.now(datetime.UTC)
        line = orjson.dumps(_fields(event, now)) + b"\n"
        try:
            with self._lock:
                self._roll(now)
                written = os.write(self._descriptor, line)
        except OSError as error:
            raise AuditUnavailable("the audit trail cannot be written") from error
        if written != len(line):
            raise AuditUnavailable("the audit trail cannot be written")

    def _roll(self, now: datetime.datetime) -> None:
        day = now.strftime("%Y%m%d")
        if day == self._day:
            return
        path = self._directory / f"{day}-{self._worker}-{os.getpid()}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._close()
        self._day, self._descriptor = day, descriptor

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Close the file. Idempotent."""
        with self._lock:
            self._close()
            self._day = ""


def _fields(event: AuditEvent, now: datetime.datetime) -> dict[str, object]:
    caller = event.caller
    found: dict[str, object] = {
        "time": now.isoformat(timespec="milliseconds"),
        "action": event.action,
        "outcome": event.outcome,
        "tenant": event.tenant,
        "subject": event.subject,
        "detail": event.detail,
    }
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
    return found
