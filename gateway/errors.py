"""The error tree of the gateway, above storage's (``storage.errors``).

GatewayError
├── InvalidRequest           the request itself is at fault
│   ├── AttributesMissing    a procedure step lacks attributes
│   ├── ValuesMissing        a procedure step has attributes without values that need some
│   ├── AttributesInvalid    attributes of a procedure step have values that they may not have
│   ├── InvalidQuery         an attribute, value or parameter of a search
│   └── InvalidParameter     a parameter of a retrieval or rendering
├── Unauthenticated          nobody the policy knows
│   └── NotOpened            a share link that is good, but has to be opened first
├── Forbidden                known, but the policy does not allow the action
├── NotStored                an instance that the archive's own rules keep out
│   ├── DuplicateRefused     known with other content, and the tenant keeps the first
│   ├── Misplaced            contradicts what is known of its UID or study; kept in quarantine
│   └── StudyMismatch        not of the study that the request named
├── NotFound                 nothing there, or nothing the caller may know of
│   └── LinkEnded            a share link that was good, and is no more
├── Gone                     it was there and was deleted
├── UnderHold                a legal hold keeps it from being removed
├── TransactionInUse         a transaction UID that was used before
├── AlreadyThere             a procedure step of this UID was reported before
├── NoLongerOpen             a procedure step that is over, and may not be changed any more
├── NotAcceptable            no representation that the caller accepts
│   └── NotDeidentified      what identifies the patient cannot be taken out of it with certainty
├── UnsupportedMediaType     the body is of a type that is not taken
├── PayloadTooLarge          a configured bound on a request or instance
├── QuotaExceeded            the tenant has no room left
├── IdentityUnavailable      who it is cannot be found out now: the identity provider does not answer
├── Busy                     a bounded resource is used up; try again later
│   └── TooManyRequests      this caller's own share of it is; it is told when to try again
└── AuditUnavailable         the decision cannot be recorded, so it is not carried out

Faces map every leaf of both trees to a status, and a test proves that none is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from storage.dicom.attributes import describe


class GatewayError(Exception):
    """Base of every error that the services raise by themselves. Messages never hold patient data."""


class InvalidRequest(GatewayError):
    """The request itself is at fault."""


class AttributesMissing(InvalidRequest):
    """A procedure step lacks attributes; ``paths`` names them."""

    def __init__(self, paths: Sequence[str] = (), why: str = "without") -> None:
        super().__init__(f"{why} {_listed(paths)}")
        self.paths = tuple(paths)


class ValuesMissing(InvalidRequest):
    """A procedure step has attributes without values that need some; ``paths`` names them."""

    def __init__(self, paths: Sequence[str] = (), why: str = "no value in") -> None:
        super().__init__(f"{why} {_listed(paths)}")
        self.paths = tuple(paths)


class AttributesInvalid(InvalidRequest):
    """Attributes of a procedure step have values that they may not have; ``paths`` names them."""

    def __init__(self, paths: Sequence[str] = (), why: str = "not a value that it may have") -> None:
        super().__init__(f"{_listed(paths)}: {why}")
        self.paths = tuple(paths)


def _listed(paths: Sequence[str]) -> str:
    return ", ".join(describe(path) for path in paths)


class InvalidQuery(InvalidRequest):
    """An attribute, value or parameter of a search is not of the right form."""


class InvalidParameter(InvalidRequest):
    """A parameter of a retrieval or rendering is not of the right form."""


class Unauthenticated(GatewayError):
    """The caller is nobody that the policy knows."""


class NotOpened(Unauthenticated):
    """The share link is good, but has to be opened first; whoever has it has not guessed anything."""


class Forbidden(GatewayError):
    """The policy does not allow the action."""


class NotStored(GatewayError):
    """The archive's own rules keep the instance out."""


class DuplicateRefused(NotStored):
    """The instance is known with other content, and the tenant keeps the first."""


class Misplaced(NotStored):
    """The instance contradicts what is known of its UID or study; it is kept in quarantine."""


class StudyMismatch(NotStored):
    """The instance is not of the study that the request named."""


class NotFound(GatewayError):
    """There is nothing there, or nothing that the caller may know of."""


class LinkEnded(NotFound):
    """The share link was good, and is no more; whoever has it has not guessed anything."""


class Gone(GatewayError):
    """It was there, within the caller's scope, and was deleted."""


class UnderHold(GatewayError):
    """A legal hold keeps it from being removed."""


class TransactionInUse(GatewayError):
    """A transaction UID was used before."""


class AlreadyThere(GatewayError):
    """A procedure step of this SOP Instance UID was reported before."""


class NoLongerOpen(GatewayError):
    """The procedure step is over, and may not be changed any more."""


class NotAcceptable(GatewayError):
    """No representation that the caller accepts can be made."""


class NotDeidentified(NotAcceptable):
    """What identifies the patient cannot be taken out of the instance with certainty, so it is not given."""


class UnsupportedMediaType(GatewayError):
    """The request's body is of a type that is not taken."""


class PayloadTooLarge(GatewayError):
    """A request or instance exceeds a configured bound."""


class QuotaExceeded(GatewayError):
    """The tenant's quota is used up; reading and deleting go on."""


class IdentityUnavailable(GatewayError):
    """Who the caller is cannot be found out now; nobody is let in meanwhile."""


class Busy(GatewayError):
    """A bounded resource is used up; the same request may succeed later."""


class TooManyRequests(Busy):
    """The caller's own rate is used up, or it has failed to authenticate too often.

    ``after_s`` is when it may try again.
    """

    def __init__(self, message: str = "too many requests", after_s: float = 1.0) -> None:
        super().__init__(f"{message}; try again in {math.ceil(after_s)} s")
        self.after_s = after_s


class AuditUnavailable(GatewayError):
    """The decision cannot be recorded, so it is not carried out."""
