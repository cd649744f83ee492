"""Webhooks: whoever the settings name is told what happened to studies, in order and at least once.

References
----------
Standard Webhooks 1.0.0 (https://www.standardwebhooks.com): the headers, the signature, and the form of the body.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import http.client
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.audit.events import AuditEvent
from gateway.config.notifying import Occasion, WebhookSettings, secret_bytes
from gateway.context import of_the_gateway
from storage.control.base import ControlStore, now_s
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.base import Index
from storage.index.changes import Action, Change
from storage.index.questions import Target
from storage.index.stored import Existence

_PLACE, _TURN = "webhook", "webhook turn"
"""Kinds of documents of the control state: how far a webhook has come, and which process is at it."""
_TURN_S = 120.0
_PAGE = 500
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 900.0


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one attempt: ``delivered``, ``failed`` (it is tried again) or ``lost`` (given up), and why."""

    outcome: str
    study_uid: ids.StudyUid
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a webhook stands. Times are Unix time; ``failing_since_s`` and ``next_s`` are 0 while nothing fails.

    ``behind`` counts the changes that it has not come to; None of one that no gateway has begun with.
    """

    behind: int | None
    failures: int = 0
    failing_since_s: float = 0.0
    next_s: float = 0.0


def standing(given: WebhookSettings, index: Index, control: ControlStore) -> Standing:
    """How it stands. Raises storage.errors.StorageUnavailable."""
    state, found = index.state(), control.get(_PLACE, given.name)
    if found is None or found.body["epoch"] != state.epoch:
        return Standing(None)
    place = found.body
    return Standing(max(0, state.change - place["cursor"]), place["failures"], place["failed_since_s"], place["next_s"])


def tried(given: WebhookSettings) -> str:
    """Send a message of the type ``test``; why it was not taken, "" when it was."""
    at = datetime.datetime.now(datetime.UTC)
    reason, _ = Receiver(given).send(f"msg_test_{secrets.token_hex(8)}", _body("test", at, {"tenant": given.tenant}))
    return reason


class Receiver:
    """Where the messages of one webhook go; one is under way at a time."""

    def __init__(self, given: WebhookSettings) -> None:
        self._given = given
        self._keys = [secret_bytes(each) for each in (given.secret, given.old_secret) if each is not None]
        self._connection: http.client.HTTPConnection | None = None
        self._is_cut = False

    def send(self, message_id: str, body: bytes) -> tuple[str, float]:
        """Send once: why it was not taken, "" when it was, and how long the receiver wants to be left alone."""
        stamp = str(int(time.time()))
        signed = f"{message_id}.{stamp}.".encode() + body
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "dicomweb-gateway",
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(f"v1,{_signature(key, signed)}" for key in self._keys),
        }
        url = self._given.url
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        # The timeout of a socket begins anew with each byte; this one does not.
        deadline = threading.Timer(self._given.timeout_s, self.cut)
        deadline.daemon = True
        try:
            self._is_cut = False
            connection = self._connection = self._connected()
            deadline.start()
            connection.request("POST", target, body, headers)
            answer = connection.getresponse()
            status, after = answer.status, answer.headers.get("Retry-After", "")
            if self._is_cut:  # what looks like the end of the headers is ours
                raise TimeoutError
        except (http.client.HTTPException, OSError) as error:
            return f"no answer: {type(error).__name__}", 0.0
        finally:
            deadline.cancel()
            if self._connection is not None:
                self._connection.close()
        if 200 <= status < 300:
            return "", 0.0
        return f"status {status}", min(float(after), _LONGEST_PAUSE_S) if after.isdecimal() else 0.0

    def cut(self) -> None:
        """End what is under way; from any thread."""
        connection, self._is_cut = self._connection, True
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> http.client.HTTPConnection:
        """A connection that is yet to be made. Raises OSError when the ``ca_bundle`` cannot be read."""
        given = self._given
        assert given.url.host is not None
        host, port = given.url.host.strip("[]"), given.url.port
        if given.url.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=given.timeout_s)
        context = ssl.create_default_context(cafile=None if given.ca_bundle is None else str(given.ca_bundle))
        return http.client.HTTPSConnection(host, port, timeout=given.timeout_s, context=context)


def _body(kind: str, at: datetime.datetime, data: Mapping[str, str]) -> bytes:
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"type": kind, "timestamp": stamp, "data": data})


def _signature(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Webhook:
    """One webhook, of which one process of all hosts at a time sends the messages.

    Parameters
    ----------
    record
        Puts what was told on the audit trail.
    links
        Where a study is found, by the kind of address.
    """

    def __init__(
        self,
        given: WebhookSettings,
        index: Index,
        control: ControlStore,
        record: Callable[[AuditEvent], None],
        links: Callable[[ids.StudyUid], Mapping[str, str]],
    ) -> None:
        self._given = given
        self._tenant = ids.Tenant(given.tenant)
        self._index = index
        self._control = control
        self._record = record
        self._links = links
        self._receiver = Receiver(given)
        self._holder = secrets.token_hex(8)

    def round(self, stopped: Callable[[], bool], tell: Callable[[Told], None]) -> None:
        """Send what is there to be told, up to the first message that is not taken.

        Raises
        ------
        AuditUnavailable, storage.errors.StorageUnavailable
            The next round goes on where this one was; its last message may come twice.
        """
        if not self._is_our_turn():
            return
        while not stopped():
            place, revision = self._place()
            # More than that is no pause of ours: the clock was set back.
            if 0 < place["next_s"] - now_s() <= _LONGEST_PAUSE_S:
                return
            found = self._index.changes(self._tenant, EVERYTHING, place["cursor"], _PAGE)
            for change, occasion in self._occasions(found.rows):
                if stopped() or not self._is_our_turn():
                    return
                told = self._tell(change, occasion, found.epoch, place)
                if told.outcome != "failed":
                    place = {**place, "cursor": change.sequence, **_UNTRIED}
                revision = self._note(place, revision)
                tell(told)
                if revision is None or told.outcome == "failed":
                    return
            if found.next_cursor == place["cursor"]:
                return
            self._note({**place, "cursor": found.next_cursor}, revision)

    def close(self) -> None:
        """Let another process have the turn."""
        held = self._control.get(_TURN, self._given.name)
        if held is not None and held.body["holder"] == self._holder:
            self._control.delete(_TURN, self._given.name)

    def cut(self) -> None:
        """End the attempt that is under way; from any thread."""
        self._receiver.cut()

    def _is_our_turn(self) -> bool:
        """Whether no other process is at it, from now on for a while."""
        until_s = now_s() + _TURN_S
        held = self._control.get(_TURN, self._given.name)
        if held is None:
            body = {"holder": self._holder}
            return self._control.put(_TURN, self._given.name, body, expected=None, expires_at_s=until_s) is not None
        return held.body["holder"] == self._holder and self._control.extend(_TURN, self._given.name, until_s)

    def _place(self) -> tuple[dict[str, Any], int | None]:
        """How far it has come; one that is new, or whose index was made anew, begins with what happens from now on."""
        state, found = self._index.state(), self._control.get(_PLACE, self._given.name)
        if found is not None and found.body["epoch"] == state.epoch:
            return dict(found.body), found.revision
        place = {"epoch": state.epoch, "cursor": state.change, **_UNTRIED}
        return place, self._note(place, None if found is None else found.revision)

    def _note(self, place: Mapping[str, Any], revision: int | None) -> int | None:
        return self._control.put(_PLACE, self._given.name, place, expected=revision)

    def _occasions(self, rows: Sequence[Change]) -> Sequence[tuple[Change, Occasion]]:
        """What is to be told of some changes, at the last of each run of them: a study has thousands of instances."""
        found: list[tuple[Change, Occasion]] = []
        for number, change in enumerate(rows):
            following = rows[number + 1] if number + 1 < len(rows) else None
            if following is not None and (following.study_uid, following.action) == (change.study_uid, change.action):
                continue
            occasion = self._occasion(change)
            if occasion is not None and occasion in self._given.occasions:
                found.append((change, occasion))
        return found

    def _occasion(self, change: Change) -> Occasion | None:
        if change.action is Action.COMPLETED:
            return "study.completed"
        if change.action not in (Action.DELETED, Action.RESTORED):
            return None
        there = self._index.existence(Target(self._tenant, change.study_uid), EVERYTHING)
        return "study.changed" if there is Existence.LIVE else "study.deleted"

    def _tell(self, change: Change, occasion: Occasion, epoch: str, place: dict[str, Any]) -> Told:
        """Send one; a failure is noted in the place."""
        study_uid = change.study_uid
        at = datetime.datetime.fromtimestamp(change.at_s, datetime.UTC)
        data = {"tenant": self._tenant, "study_uid": study_uid, **self._links(study_uid)}
        if not place["failures"]:
            self._put_on_record("allowed", study_uid, occasion)  # before anything goes out
        reason, pause_s = self._receiver.send(f"msg_{epoch}_{change.sequence}", _body(occasion, at, data))
        told = Told("delivered", study_uid)
        if reason:
            since_s = place["failed_since_s"] or now_s()
            told = Told("lost" if now_s() - since_s > self._given.give_up_after_s else "failed", study_uid, reason)
            place["failures"] += 1
            place["failed_since_s"] = since_s
            patience_s = min(_FIRST_PAUSE_S * 2.0 ** min(place["failures"] - 1, 16), _LONGEST_PAUSE_S)
            place["next_s"] = now_s() + max(pause_s, patience_s)
        if told.outcome == "lost":
            self._put_on_record("lost", study_uid, f"{occasion}: {reason}")
        return told

    def _put_on_record(self, outcome: str, study_uid: ids.StudyUid, detail: str) -> None:
        caller = of_the_gateway("webhook")
        text = f"{self._given.name}: {detail}"
        self._record(AuditEvent("notify", outcome, caller, self._tenant, (study_uid,), text))


_UNTRIED: Mapping[str, Any] = {"failures": 0, "failed_since_s": 0.0, "next_s": 0.0}
