"""Storage commitment: a promise about instances, given after their objects were read and found to be what came."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.audit.events import AuditEvent
from gateway.context import Caller
from gateway.errors import InvalidRequest, NotFound, TransactionInUse
from storage.archive import Archive
from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageError
from storage.index.questions import Target
from storage.index.stored import Commitment, Located, Untold

_log = logging.getLogger("gateway.services")

MAX_REFERENCES = 100_000
_BATCH = 500
_TELL_FIRST_S, _TELL_AGAIN_S = 10.0, 300.0
OVER_OURS, GIVEN_UP = "over an association of ours", "was given up"
"""What the trail has after the AE title of a peer that was told, or could not be."""
_TOLD_AT_MOST = 288
"""A day of trying."""


class Reason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1 "Failure Reason")."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that commitment is asked for."""

    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Result:
    """What is committed, and what is not."""

    committed: tuple[Reference, ...]
    failed: tuple[tuple[Reference, Reason], ...]


class CommitmentService:
    """Takes requests, verifies objects, keeps results."""

    def __init__(self, archive: Archive, door: Door) -> None:
        self._archive = archive
        self._door = door

    def ask(self, caller: Caller, transaction_uid: str, references: Sequence[Reference], tell: str = "") -> ids.Tenant:
        """Keep a request; ``fulfil`` gives it its result. The tenant it is in.

        Parameters
        ----------
        tell
            AE title of the peer that has to be told of the result; "" for one that asks for it.

        Raises
        ------
        TransactionInUse
            The transaction UID was used before.
        InvalidRequest
            No references, or too many.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        if not references or len(references) > MAX_REFERENCES:
            raise InvalidRequest(f"a commitment request names 1 to {MAX_REFERENCES} instances")
        decision = self._door.enter(caller, Action.STORE, ("commitment", transaction_uid))
        located: dict[str, Located] = {}
        for start in range(0, len(references), _BATCH):
            uids = [ids.SopUid(each.sop_uid) for each in references[start : start + _BATCH]]
            for found in self._archive.index.locate_instances(decision.tenant, uids, decision.scope):
                located[found.key.sop_uid] = found
        wanted = [_wanted(each, located.get(each.sop_uid)) for each in references]
        asked = Commitment(caller.principal.name, time.time(), json_model.dumps(wanted), None, tell)
        if not self._archive.index.ask_commitment(decision.tenant, transaction_uid, asked):
            raise TransactionInUse("the transaction UID is in use")
        return decision.tenant

    def result(self, caller: Caller, transaction_uid: str) -> Result | None:
        """The result of a request of this caller; None while it is being worked on.

        Raises
        ------
        NotFound
            The caller asked for no such thing.
        """
        decision = self._door.enter(caller, Action.STORE, ("commitment", transaction_uid))
        found = self._archive.index.commitment(decision.tenant, transaction_uid)
        if found is None or found.principal != caller.principal.name:
            raise NotFound("no such commitment request")
        return None if found.result is None else _loads(found.result)

    def fulfil(self, tenant: ids.Tenant, transaction_uid: str) -> Result:
        """Read every object that a request names, compare its digest, keep and return the result."""
        found = self._archive.index.commitment(tenant, transaction_uid)
        if found is None:
            raise NotFound("no such commitment request")
        committed: list[Reference] = []
        failed: list[tuple[Reference, Reason]] = []
        studies: dict[ids.StudyUid, set[str]] = {}
        for sop_class_uid, sop_uid, kept_class, object_key, sha256 in json_model.loads(found.request):
            reference = Reference(sop_class_uid, sop_uid)
            reason = self._failure(reference, kept_class, object_key, sha256)
            if reason is None:
                committed.append(reference)
                key, _ = ids.parse_object_key(object_key)
                studies.setdefault(key.study_uid, set()).add(sop_uid)
            else:
                failed.append((reference, reason))
        result = Result(tuple(committed), tuple(failed))
        # Whoever is working on it may still tell the peer by itself.
        self._archive.index.answer_commitment(tenant, transaction_uid, _dumps(result), time.time() + _TELL_FIRST_S)
        self._complete(tenant, studies)
        detail = f"{len(committed)} committed, {len(failed)} not"
        self._door.record(AuditEvent("commitment", "answered", None, tenant, (transaction_uid,), detail))
        return result

    def untold(self, now_s: float) -> Iterator[tuple[Untold, Result]]:
        """Results that peers have to be told of by now; each is there again later unless ``told`` says that it was."""
        for each in self._archive.index.take_untold(now_s, now_s + _TELL_AGAIN_S):
            if each.times >= _TOLD_AT_MOST:
                _log.error("the peer %s could not be told of commitment %s", each.tell, each.transaction_uid)
                self.told(each.tenant, each.transaction_uid, f"{each.tell} {GIVEN_UP}")
                continue
            yield each, _loads(each.result)

    def told(self, tenant: ids.Tenant, transaction_uid: str, detail: str) -> None:
        """The peer was told, or is given up; ``detail`` says which."""
        self._archive.index.told(tenant, transaction_uid)
        self._door.record(AuditEvent("commitment", "told", None, tenant, (transaction_uid,), detail))

    def fulfil_left(self, before_s: float) -> int:
        """Give requests asked before a time, whose worker must have died, their results; how many."""
        left = self._archive.index.open_commitments(before_s)
        for tenant, transaction_uid in left:
            self.fulfil(tenant, transaction_uid)
        return len(left)

    def _failure(self, reference: Reference, kept_class: str, object_key: str, sha256: str) -> Reason | None:
        if not object_key:
            return Reason.NO_SUCH_INSTANCE
        if kept_class != reference.sop_class_uid:
            return Reason.CLASS_INSTANCE_CONFLICT
        digest = hashlib.sha256()
        try:
            with self._archive.objects.open(object_key) as reader:
                for block in reader.blocks():
                    digest.update(block)
        except StorageError:
            _log.exception("an object that commitment was asked for cannot be read: %s", object_key)
            return Reason.PROCESSING_FAILURE
        if digest.hexdigest() != sha256:
            _log.error("an object is not what was stored: %s", object_key)
            return Reason.PROCESSING_FAILURE
        return None

    def _complete(self, tenant: ids.Tenant, studies: dict[ids.StudyUid, set[str]]) -> None:
        """A study of which every instance is committed is complete: its sender has counted it through."""
        whole = []
        for study_uid, committed in studies.items():
            instances = self._archive.index.locate(Target(tenant, study_uid), EVERYTHING)
            if {each.key.sop_uid for each in instances} <= committed:
                whole.append(study_uid)
        if whole:
            self._archive.index.complete(tenant, whole, "storage commitment")


def _wanted(reference: Reference, located: Located | None) -> list[str]:
    found = ("", "", "") if located is None else (located.sop_class_uid, located.object_key, located.sha256)
    return [reference.sop_class_uid, reference.sop_uid, *found]


def _dumps(result: Result) -> bytes:
    return json_model.dumps(
        {
            "committed": [[each.sop_class_uid, each.sop_uid] for each in result.committed],
            "failed": [[each.sop_class_uid, each.sop_uid, int(reason)] for each, reason in result.failed],
        }
    )


def _loads(text: bytes) -> Result:
    found = json_model.loads(text)
    return Result(
        tuple(Reference(*each) for each in found["committed"]),
        tuple((Reference(sop_class, sop), Reason(reason)) for sop_class, sop, reason in found["failed"]),
    )
