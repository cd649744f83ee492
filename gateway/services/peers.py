"""Peers of a tenant: those of the settings and the policy, and whoever came; whether one of them answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.access.rules import ANY_TITLE, Policy
from gateway.audit.events import AuditEvent
from gateway.audit.reading import Record
from gateway.config.serving import DestinationSettings, DimseSettings
from gateway.context import Caller
from gateway.errors import NotFound
from gateway.services import contacts
from gateway.services.commitment import GIVEN_UP, OVER_OURS
from gateway.services.contacts import Contact, Contacts

_ECHO = "echo"
_TO = "to "
"""What a C-MOVE has in the trail before the AE title of its destination."""
_ANSWERS, _SILENT = "peer answers", "peer does not answer"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of asking a peer by C-ECHO; ``advice`` is what to do about it, where there is something."""

    answers: bool
    detail: str
    advice: str = ""
    associated_s: float | None = None
    answered_s: float | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """When a peer was last asked by C-ECHO from here, and what came of it."""

    time: str
    answers: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Sent:
    """When something was last meant for a peer over an association of ours, and what."""

    time: str
    what: str


@dataclass(slots=True)
class Peer:
    """An AE title, with what is known of it; ``listens`` is where, if it is one of ``dimse.destinations``.

    ``principals`` are the names that the policy has for it; without one its associations are rejected.
    """

    ae_title: str
    listens: DestinationSettings | None = None
    principals: list[str] = field(default_factory=list)
    contacts: list[Contact] = field(default_factory=list)
    verified: Verified | None = None
    sent: Sent | None = None


class PeerService:
    """Tells administrators of a tenant of its peers, and asks one whether it is there.

    Parameters
    ----------
    tenants
        Those of the settings.
    directories
        Where the audit trail is read.
    """

    def __init__(
        self, settings: DimseSettings, tenants: Sequence[str], directories: Callable[[], Sequence[Path]], door: Door
    ) -> None:
        self._settings = settings
        self._tenants = frozenset(tenants)
        self._directories = directories
        self._door = door

    def known(self, caller: Caller) -> list[Peer]:
        """The peers, by AE title.

        What the trail has of no tenant, such as rejected associations, is told where there is one tenant, and else of
        the tenant's own titles alone. Raises Forbidden, AuditUnavailable, OSError.
        """
        tenant = self._door.enter(caller, Action.ADMIN, ("peers",)).tenant
        found = {title: Peer(title, listens) for title, listens in self._destinations(tenant).items()}
        for who in self._door.policy.application_entities(tenant):
            if who.ae_title is not None and who.ae_title != ANY_TITLE:
                found.setdefault(who.ae_title, Peer(who.ae_title)).principals.append(who.name)
        theirs, is_alone = frozenset(found), self._is_alone(tenant)
        came, asked, went = Contacts(self._settings.ae_title), dict[str, Verified](), dict[str, Sent]()

        def take(record: Record) -> None:
            fields = record.fields
            of_whom = fields.get("tenant", "")
            if of_whom != tenant and (of_whom or not (is_alone or fields.get("calling") in theirs)):
                return
            came.take(record)
            for title, what in _sent(record):
                went.setdefault(title, Sent(record.time, what))
            match fields.get("subject"), fields.get("outcome"):
                case [str(kind), str(title)], str(outcome) if kind == _ECHO and outcome in (_ANSWERS, _SILENT):
                    asked.setdefault(title, Verified(record.time, outcome == _ANSWERS, str(fields.get("detail", ""))))

        contacts.each_of_the_last(self._directories(), take)
        for each in came.found:
            found.setdefault(each.ae_title, Peer(each.ae_title)).contacts.append(each)
        for title, peer in found.items():
            peer.verified, peer.sent = asked.get(title), went.get(title)
        return [found[title] for title in sorted(found)]

    def verify(self, caller: Caller, ae_title: str, ask: Callable[[DimseSettings, str], Verification]) -> Verification:
        """Ask one of ``dimse.destinations`` by C-ECHO; what came of it is on the trail.

        Raises
        ------
        NotFound
            There is no such destination, or none that this tenant may name.
        Forbidden, AuditUnavailable
        """
        tenant = self._door.enter(caller, Action.ADMIN, (_ECHO, ae_title[:16])).tenant
        if ae_title not in self._destinations(tenant):
            raise NotFound("dimse.destinations has no peer of this AE title")
        found = ask(self._settings, ae_title)
        outcome = _ANSWERS if found.answers else _SILENT
        self._door.record(AuditEvent(Action.ADMIN.value, outcome, caller, tenant, (_ECHO, ae_title), found.detail))
        return found

    def _destinations(self, tenant: str) -> Mapping[str, DestinationSettings]:
        """Those that somebody of the tenant may name."""
        theirs = {who.ae_title for who in self._door.policy.application_entities(tenant)}
        is_alone = self._is_alone(tenant)
        return {
            title: each
            for title, each in self._settings.destinations.items()
            if is_alone or each.callers is None or ANY_TITLE in theirs or not theirs.isdisjoint(each.callers)
        }

    def _is_alone(self, tenant: str) -> bool:
        return is_alone(self._tenants, self._door.policy, tenant)


def is_alone(tenants: frozenset[str], policy: Policy, tenant: str) -> bool:
    """Whether there is no other tenant, in the settings or the policy: what is nobody's may be told then."""
    return tenants | policy.tenants <= {tenant}


def _sent(record: Record) -> Iterator[tuple[str, str]]:
    """For whom something was meant, and what: the results of a C-MOVE, or a report of storage commitment."""
    fields = record.fields
    action, outcome = str(fields.get("action", "")), str(fields.get("outcome", ""))
    for word in fields.get("subject", ()):
        if str(word).startswith(_TO):
            yield str(word).removeprefix(_TO), f"C-MOVE by {fields.get('principal', '')}: {outcome}"
    detail = str(fields.get("detail", ""))
    for ending, what in (
        (OVER_OURS, "told of storage commitment"),
        (GIVEN_UP, "could not be told of storage commitment"),
    ):
        if action == "commitment" and detail.endswith(f" {ending}"):
            yield detail.removesuffix(f" {ending}"), what
