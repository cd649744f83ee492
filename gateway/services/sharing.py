"""Sharing: whoever may share gives others a link to studies of its own scope, and no more than it may do itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gateway.access.actions import Action, in_view
from gateway.access.door import Door, View
from gateway.access.scopes import all_of
from gateway.access.shares import LOOKING, MOST_STUDIES, Share, Shares
from gateway.audit.events import AuditEvent
from gateway.context import OWN_KINDS, Caller
from gateway.errors import Forbidden, InvalidParameter, NotFound
from storage.control.base import now_s
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING, Condition
from storage.index.base import Index
from storage.index.questions import Target
from storage.index.stored import Existence

LONGEST_DAYS = 366.0
_DAY_S = 86_400.0


class SharingService:
    """Makes, lists and revokes share links.

    Parameters
    ----------
    indexes
        Of what is as stored, under "", and of each de-identified view by its name.
    """

    def __init__(self, shares: Shares, door: Door, indexes: Mapping[str, Index]) -> None:
        self._shares = shares
        self._door = door
        self._indexes = indexes

    def share(
        self,
        caller: Caller,
        tenant: str,
        studies: Sequence[ids.StudyUid],
        *,
        days: float,
        actions: Iterable[Action] = (Action.SEARCH, Action.READ, Action.RENDER),
        most_uses: int | None = None,
        pin: str = "",
        label: str = "",
        view: str = "",
    ) -> tuple[str, Share]:
        """Make a link to studies that is good for so many days; its token is told this once.

        With ``view`` the link shows that de-identified one, where the studies have these UIDs.

        Raises
        ------
        NotFound
            A study is not there, or not for the caller; or there is no such view.
        InvalidParameter, Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        wanted = frozenset(actions)
        if not 0 < len(studies) <= MOST_STUDIES:
            raise InvalidParameter(f"studies: 1 to {MOST_STUDIES}")
        if not wanted or wanted - LOOKING:
            raise InvalidParameter(f"actions: some of {', '.join(sorted(LOOKING))}")
        if not 0 < days <= LONGEST_DAYS:
            raise InvalidParameter(f"days: more than 0, at most {LONGEST_DAYS:g}")
        if most_uses is not None and most_uses < 1:
            raise InvalidParameter("uses: at least 1")
        if len(label) > 128 or not label.isprintable():
            raise InvalidParameter("label: up to 128 printable characters")
        entered = self._enter(caller, tenant, (*studies,), view)
        # A study may be in a scope by some of its series alone, and get others later.
        scope = all_of([entered, *(self._scope(caller, action, view) for action in sorted(wanted))])
        self._check_there(tenant, studies, scope, view)
        try:
            token, made = self._shares.make(
                tenant,
                studies,
                wanted,
                scope,
                _maker(caller),
                now_s() + days * _DAY_S,
                most_uses=most_uses,
                pin=pin,
                label=label,
                view=view,
            )
        except ValueError as error:
            raise InvalidParameter(str(error)) from error
        self._record(caller, tenant, "made", (*studies,), made.id)
        return token, made

    def _scope(self, caller: Caller, action: Action, view: str) -> Condition:
        """Where the caller itself may do what the link is for. Raises Forbidden."""
        if caller.principal.kind in OWN_KINDS:
            return EVERYTHING
        found = self._door.policy.permission(caller.principal, in_view(action) if view else action, view=view)
        if found is None:
            raise Forbidden(f"{caller.principal.name} may not {action} and so not share that")
        return found.scope

    def _check_there(self, tenant: str, studies: Sequence[ids.StudyUid], scope: Condition, view: str) -> None:
        index = self._indexes.get(view)
        if index is None:
            raise NotFound("there is no such view")
        for study in studies:
            if index.existence(Target(ids.Tenant(tenant), study), scope) is not Existence.LIVE:
                raise NotFound("no such study")

    def every(self, caller: Caller, tenant: str) -> list[Share]:
        """The links of a tenant, latest first: all for who may administer, its own for anybody else who may share.

        Raises
        ------
        Forbidden, AuditUnavailable, storage.errors.StorageUnavailable
        """
        self._enter(caller, tenant, ("shares",))
        return [each for each in self._shares.every(tenant) if self._is_ours(caller, each)]

    def revoke(self, caller: Caller, tenant: str, share_id: str) -> None:
        """Make a link no good, within a second. Raises NotFound and as ``every``."""
        self._enter(caller, tenant, ("share", share_id))
        found = next((each for each in self._shares.every(tenant) if each.id == share_id), None)
        if found is None or not self._is_ours(caller, found):
            raise NotFound("there is no such link")
        self._shares.revoke(tenant, share_id)
        self._record(caller, tenant, "revoked", found.studies, share_id)

    def _is_ours(self, caller: Caller, share: Share) -> bool:
        if caller.principal.kind in OWN_KINDS or share.made_by == _maker(caller):
            return True
        return self._door.policy.permission(caller.principal, Action.ADMIN) is not None

    def open(self, caller: Caller, token: str, pin: str) -> tuple[Share, str, float]:
        """Use a link once, as ``Shares.open``, with a record of it."""
        share, secret, ends_at_s = self._shares.open(token, pin)
        self._door.record(AuditEvent(Action.SHARE.value, "opened", caller, share.tenant, share.studies, share.id))
        return share, secret, ends_at_s

    def _enter(self, caller: Caller, tenant: str, subject: tuple[str, ...], view: str = "") -> Condition:
        door = self._door.onto(View(view)) if view else self._door
        if caller.principal.kind in OWN_KINDS:
            return door.enter_by_itself(caller, Action.SHARE, ids.Tenant(tenant), subject).scope
        decision = door.enter(caller, Action.SHARE, subject)
        if decision.tenant != tenant:
            raise NotFound("there is no such tenant")
        return decision.scope

    def _record(self, caller: Caller, tenant: str, outcome: str, studies: Sequence[str], share_id: str) -> None:
        self._door.record(AuditEvent(Action.SHARE.value, outcome, caller, tenant, (*studies,), f"link {share_id}"))


def _maker(caller: Caller) -> str:
    """Who made a link: two principals of different kinds may have the same name."""
    return f"{caller.principal.kind} {caller.principal.name}"
