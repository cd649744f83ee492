"""Share links: some studies for whoever has the link, for a time; revocable, countable, with a PIN if wanted.

A link's token is ``ID.SIGNATURE``. The signature keeps guesses from the store; everything else that a link means is
kept under its id, so that it can be revoked and changed. A link with a PIN, or with a bound on its uses, has to be
opened: that counts a use and begins a session of its own, whose cookie is good for this link alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import argon2

from gateway.access.actions import Action, in_view
from gateway.access.scopes import all_of
from gateway.context import Bounds, Principal, PrincipalKind
from gateway.errors import LinkEnded, NotFound, NotOpened, Unauthenticated
from storage.control.base import Body, ControlStore, Document, change, every, now_s
from storage.dicom import kept
from storage.dicom.matching import Condition, OneOf

KIND, OPENED = "share", "share_session"
ROLE = "share:link"
MOST_STUDIES = 100
LOOKING = frozenset((Action.SEARCH, Action.READ, Action.DOWNLOAD, Action.RENDER))
"""What a link can be good for."""
SECRET = ("secret", "share-links")
"""Kind and key of the document that links are signed with."""
_LISTED_FOR_S = 30 * 86_400.0
"""How long a link that has ended is still listed."""
_OPENED_FOR_S = 12 * 3600.0
TOKEN_FORM = re.compile(r"([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{22})")
_PIN = re.compile(r"[0-9A-Za-z]{4,64}")

_hasher = argon2.PasswordHasher()


@dataclass(frozen=True, slots=True)
class Share:
    """What is known of a link; times are Unix times, ``scope`` is what its maker could share of the studies."""

    id: str
    tenant: str
    studies: tuple[str, ...]
    actions: frozenset[Action]
    scope: Condition
    label: str
    made_by: str
    made_at_s: float
    ends_at_s: float
    uses: int
    most_uses: int | None
    has_pin: bool
    revoked: bool
    view: str = ""
    """The de-identified view that it shows; its studies are named as they are there."""

    @property
    def has_to_be_opened(self) -> bool:
        """Whether the link alone shows nothing yet."""
        return self.has_pin or self.most_uses is not None

    def fault(self) -> str | None:
        """Why it is no good any more."""
        if self.revoked:
            return "the link was revoked"
        if self.ends_at_s <= now_s():
            return "the link has ended"
        return None

    def principal(self) -> Principal:
        """As whom its bearer goes on."""
        scope = all_of([OneOf("StudyInstanceUID", self.studies), self.scope])
        actions = (in_view(each) if self.view else each for each in self.actions)
        bounds = Bounds(frozenset(each.value for each in actions), scope, self.view)
        return Principal(f"share {self.id}", PrincipalKind.SHARE, self.tenant, frozenset((ROLE,)), (), bounds)


class Shares:
    """The links in a control store. Safe to use from several threads.

    Raises
    ------
    storage.errors.StorageUnavailable
        From every method.
    """

    def __init__(self, control: ControlStore) -> None:
        self._control = control
        self._key = b""

    def make(
        self,
        tenant: str,
        studies: Sequence[str],
        actions: Iterable[Action],
        scope: Condition,
        made_by: str,
        ends_at_s: float,
        *,
        most_uses: int | None = None,
        pin: str = "",
        label: str = "",
        view: str = "",
    ) -> tuple[str, Share]:
        """Make a link; its token is told this once. Raises ValueError for a PIN that will not do."""
        if pin and not _PIN.fullmatch(pin):
            raise ValueError("pin: 4 to 64 digits and letters")
        share_id = secrets.token_urlsafe(16)
        body = {
            "tenant": tenant,
            "studies": list(studies),
            "actions": sorted(actions),
            "scope": kept.dump(scope),
            "label": label,
            "made_by": made_by,
            "made_at_s": now_s(),
            "ends_at_s": ends_at_s,
            "uses": 0,
            "most_uses": most_uses,
            "pin": _hasher.hash(pin) if pin else "",
            "revoked": False,
            "view": view,
        }
        revision = self._control.put(KIND, share_id, body, expected=None, expires_at_s=ends_at_s + _LISTED_FOR_S)
        assert revision is not None
        return f"{share_id}.{self._signature(share_id)}", _of(Document(KIND, share_id, body, revision))

    def every(self, tenant: str) -> list[Share]:
        """The links of a tenant, latest first, those that ended lately too."""
        found = (_of(each) for each in every(self._control, KIND) if each.body["tenant"] == tenant)
        return sorted(found, key=lambda each: -each.made_at_s)

    def revoke(self, tenant: str, share_id: str) -> None:
        """Make a link no good, within a second for every process. Raises NotFound."""
        found = self._control.get(KIND, share_id)
        if found is None or found.body["tenant"] != tenant:
            raise NotFound("there is no such link")
        change(self._control, KIND, share_id, lambda body: {**body, "revoked": True})

    def find(self, token: str) -> Share:
        """The link of a token. Raises NotFound when it is none, and LinkEnded when it is no good any more."""
        found = TOKEN_FORM.fullmatch(token)
        if found is None or not hmac.compare_digest(self._signature(found[1]).encode(), found[2].encode()):
            raise NotFound("there is no such link")
        document = self._control.get(KIND, found[1])
        if document is None:
            raise NotFound("there is no such link")
        share = _of(document)
        if (fault := share.fault()) is not None:
            raise LinkEnded(fault)
        return share

    def open(self, token: str, pin: str = "") -> tuple[Share, str, float]:
        """Use a link once: what its cookie holds, and until when (Unix time).

        Raises
        ------
        NotFound, LinkEnded
            As ``find``; the latter also when it was used as often as it may be.
        Unauthenticated
            The PIN is not right.
        """
        share = self.find(token)
        document = self._control.get(KIND, share.id)
        if document is not None and document.body["pin"] and not _is_right(document.body["pin"], pin):
            raise Unauthenticated("the PIN is not right")

        def used(body: Body) -> Body | None:
            if body["most_uses"] is not None and body["uses"] >= body["most_uses"]:
                return None
            return {**body, "uses": body["uses"] + 1}

        if change(self._control, KIND, share.id, used) is None:
            raise LinkEnded("the link was used as often as it may be")
        secret = secrets.token_urlsafe(32)
        ends_at_s = min(share.ends_at_s, now_s() + _OPENED_FOR_S)
        self._control.put(OPENED, _digest(secret), {"share": share.id}, expected=None, expires_at_s=ends_at_s)
        return share, secret, ends_at_s

    def recognise(self, token: str, opened: str) -> tuple[Principal, float]:
        """The principal of a link and the cookie of its opening, and until when (Unix time).

        Raises
        ------
        NotFound, LinkEnded
            As ``find``.
        NotOpened
            It has to be opened first.
        """
        share = self.find(token)
        if not share.has_to_be_opened:
            return share.principal(), share.ends_at_s
        session = self._control.get(OPENED, _digest(opened)) if opened else None
        if session is None or session.body["share"] != share.id:
            raise NotOpened("the link has to be opened first")
        return share.principal(), min(share.ends_at_s, session.expires_at_s or 0.0)

    def _signature(self, share_id: str) -> str:
        if not self._key:
            self._key = self._kept_key()
        signed = hmac.digest(self._key, share_id.encode(), "sha256")[:16]
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()

    def _kept_key(self) -> bytes:
        """The key of all processes: whoever needs it first makes it."""
        while (found := self._control.get(*SECRET)) is None:
            self._control.put(*SECRET, {"key": secrets.token_hex(32)}, expected=None)
        return bytes.fromhex(found.body["key"])


def remaining_s(ends_at_s: float) -> float:
    """Seconds until a Unix time."""
    return max(0.0, ends_at_s - time.time())


def _is_right(pin_hash: str, pin: str) -> bool:
    try:
        return _hasher.verify(pin_hash, pin[:64])
    except argon2.exceptions.VerificationError:
        return False


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _of(document: Document) -> Share:
    body = document.body
    return Share(
        id=document.key,
        tenant=body["tenant"],
        studies=tuple(body["studies"]),
        actions=frozenset(Action(each) for each in body["actions"]),
        scope=kept.load(body["scope"]),
        label=body["label"],
        made_by=body["made_by"],
        made_at_s=body["made_at_s"],
        ends_at_s=body["ends_at_s"],
        uses=body["uses"],
        most_uses=body["most_uses"],
        has_pin=bool(body["pin"]),
        revoked=body["revoked"],
        view=body.get("view", ""),  # links made before there were views have none
    )
