"""API keys, local users and explanations of the policy: what administrators do, by command and over HTTP alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.access import keys, sessions, users
from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.access.keys import ApiKey
from gateway.access.rules import Reading
from gateway.access.users import User
from gateway.audit.events import AuditEvent
from gateway.context import OWN_KINDS, Caller, Principal
from gateway.errors import InvalidParameter, NotFound
from storage.control.base import ControlStore, now_s
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING, NOTHING, AllOf
from storage.index.base import Index
from storage.index.questions import Target
from storage.index.stored import Existence

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the policy says of an action of a principal, rule by rule; ``deciding`` are the names that let it in.

    With a study, ``found`` says whether it is there at all; ``scoped`` has, for each rule that counts, whether the
    study is in its scope.
    """

    principal: Principal
    action: Action
    readings: Sequence[tuple[Reading, bool | None]]
    found: bool | None

    @property
    def deciding(self) -> list[str]:
        """Names of the rules that allow it."""
        return [
            reading.rule
            for reading, inside in self.readings
            if reading.scope not in (None, NOTHING) and inside is not False
        ]

    def told(self) -> dict[str, object]:
        """As JSON, for programs."""
        return {
            "principal": self.principal.name,
            "action": self.action.value,
            "allowed": bool(self.deciding),
            "decidedBy": self.deciding,
            "studyFound": self.found,
            "rules": [
                {
                    "rule": reading.rule,
                    "counts": reading.scope not in (None, NOTHING),
                    "why": reading.why,
                    "inScope": inside,
                }
                for reading, inside in self.readings
            ],
        }


class AccountService:
    """Administers one gateway. Over HTTP an administrator has its own tenant; a command on the host has every one.

    Without an index no study can be explained.
    """

    def __init__(self, control: ControlStore, door: Door, index: Index | None) -> None:
        self._control = control
        self._door = door
        self._index = index

    # Keys

    def create_key(
        self,
        caller: Caller,
        tenant: str,
        name: str,
        roles: Iterable[str],
        *,
        networks: Iterable[str] = (),
        days: float | None = None,
    ) -> tuple[str, ApiKey]:
        """Make a key that is good for so many days, or until it is revoked; it is told this once.

        Raises
        ------
        InvalidParameter
            A role that the policy does not have, a network that is none, a name that is none.
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        self._enter(caller, tenant, ("key", name))
        self._check(name, roles)
        expires_at_s = None if days is None else now_s() + days * _DAY_S
        try:
            key, made = keys.create(self._control, name, tenant, roles, networks=networks, expires_at_s=expires_at_s)
        except ValueError as error:
            raise InvalidParameter(f"networks: {error}") from error
        self._record(caller, tenant, "key created", (made.id,))
        return key, made

    def keys(self, caller: Caller, tenant: str) -> list[ApiKey]:
        """The keys of a tenant. Raises Forbidden, AuditUnavailable, StorageUnavailable."""
        self._enter(caller, tenant, ("keys",))
        return [each for each in keys.every(self._control) if each.tenant == tenant]

    def revoke_key(self, caller: Caller, tenant: str, key_id: str) -> None:
        """Make a key no good; within a second no process lets it in. Raises NotFound and as ``keys``."""
        self._enter(caller, tenant, ("key", key_id))
        if key_id not in {each.id for each in keys.every(self._control) if each.tenant == tenant}:
            raise NotFound("there is no such API key")
        keys.revoke(self._control, key_id)
        self._record(caller, tenant, "key revoked", (key_id,))

    # Users

    def add_user(
        self, caller: Caller, tenant: str, name: str, password: str, roles: Iterable[str], *, person: str = ""
    ) -> User:
        """Make a local user. Raises InvalidParameter for what will not do or is taken, and as ``keys``."""
        self._enter(caller, tenant, ("user", name))
        self._check(name, roles)
        try:
            made = users.add(self._control, name, password, tenant, roles, person=person)
        except ValueError as error:
            raise InvalidParameter(str(error)) from error
        if made is None:
            raise InvalidParameter(f"there is a user {name} already")
        self._record(caller, tenant, "user added", (name,))
        return made

    def users(self, caller: Caller, tenant: str) -> list[User]:
        """The local users of a tenant. Raises as ``keys``."""
        self._enter(caller, tenant, ("users",))
        return [each for each in users.every(self._control) if each.tenant == tenant]

    def set_password(self, caller: Caller, tenant: str, name: str, password: str) -> None:
        """Give a user another password, and end its sessions. Raises InvalidParameter, NotFound and as ``keys``."""
        self._enter(caller, tenant, ("user", name))
        self._user(tenant, name)
        try:
            users.alter(self._control, name, password=users.hashed(password))
        except ValueError as error:
            raise InvalidParameter(str(error)) from error
        sessions.end_all(self._control, name)
        self._record(caller, tenant, "password set", (name,))

    def enable(self, caller: Caller, tenant: str, name: str, *, enabled: bool) -> None:
        """Let a user in or not; who is kept out loses its sessions. Raises NotFound and as ``keys``."""
        self._enter(caller, tenant, ("user", name))
        self._user(tenant, name)
        users.alter(self._control, name, disabled=not enabled)
        if not enabled:
            sessions.end_all(self._control, name)
        self._record(caller, tenant, "user enabled" if enabled else "user disabled", (name,))

    def require_totp(self, caller: Caller, tenant: str, name: str) -> str:
        """Have a user show an authenticator's code too; the address for it. Raises NotFound and as ``keys``."""
        self._enter(caller, tenant, ("user", name))
        self._user(tenant, name)
        address = users.require_totp(self._control, name, "DICOMweb gateway")
        sessions.end_all(self._control, name)
        self._record(caller, tenant, "code required", (name,))
        return address

    def remove_user(self, caller: Caller, tenant: str, name: str) -> None:
        """Remove a user and its sessions. Raises NotFound and as ``keys``."""
        self._enter(caller, tenant, ("user", name))
        self._user(tenant, name)
        users.remove(self._control, name)
        sessions.end_all(self._control, name)
        self._record(caller, tenant, "user removed", (name,))

    def _user(self, tenant: str, name: str) -> None:
        found = users.find(self._control, name)
        if found is None or found.tenant != tenant:
            raise NotFound(f"there is no user {name}")

    # The policy

    def explain(
        self, caller: Caller, tenant: str, principal: Principal, action: Action, study: ids.StudyUid | None, reason: str
    ) -> Explanation:
        """Which rules let a principal do something, in general or to a study. Raises as ``keys``."""
        self._enter(caller, tenant, ("explain", principal.name, *([study] if study else [])))
        readings = self._door.policy.readings(principal, action, has_reason=bool(reason))
        if study is None:
            return Explanation(principal, action, [(each, None) for each in readings], None)
        index, target = self._index, Target(ids.Tenant(principal.tenant), study)
        assert index is not None
        found = index.existence(target, EVERYTHING) is not Existence.ABSENT
        scoped = [
            (
                each,
                None if each.scope is None else index.existence(target, AllOf((each.scope,))) is not Existence.ABSENT,
            )
            for each in readings
        ]
        return Explanation(principal, action, scoped, found)

    def known(self, tenant: str, name: str) -> Principal:
        """A principal of a tenant by its name: of the policy, a local user or an API key. Raises NotFound."""
        declared = self._door.policy.by_name(name)
        if declared is not None and declared.tenant == tenant:
            return declared
        user = users.find(self._control, name)
        if user is not None and user.tenant == tenant:
            return users.principal(user)
        for key in keys.every(self._control):
            if name in (key.name, key.id) and key.tenant == tenant:
                return keys.principal(key)
        raise NotFound(f"neither the policy nor the users nor the keys have a principal {name[:64]}")

    def _check(self, name: str, roles: Iterable[str]) -> None:
        if not name or len(name) > 64 or not name.isprintable():
            raise InvalidParameter("name: 1 to 64 printable characters")
        unknown = sorted(set(roles) - self._door.policy.roles)
        if unknown:
            known = ", ".join(sorted(self._door.policy.roles))
            raise InvalidParameter(f"the policy has no role {unknown[0]!r}; it has {known}")

    def _enter(self, caller: Caller, tenant: str, subject: tuple[str, ...]) -> None:
        if caller.principal.kind in OWN_KINDS:
            self._door.enter_by_itself(caller, Action.ADMIN, ids.Tenant(tenant), subject)
            return
        decision = self._door.enter(caller, Action.ADMIN, subject)
        if decision.tenant != tenant:
            raise NotFound("there is no such tenant")

    def _record(self, caller: Caller, tenant: str, outcome: str, subject: tuple[str, ...]) -> None:
        self._door.record(AuditEvent(Action.ADMIN.value, outcome, caller, tenant, subject))
