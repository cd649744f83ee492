"""Presentation contexts: which SOP classes are stored and searched, and in which transfer syntaxes.

References
----------
PS3.8 7.1.1.13 "Presentation Context Definition List".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.pdu_primitives import (
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass
from pynetdicom.sop_class import uid_to_service_class

from gateway.access.sending import ANYTHING, Sending
from gateway.dimse.commands import Field
from gateway.dimse.messages import Extension
from storage.dicom import file_meta

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
MODALITY_WORKLIST = "1.2.840.10008.5.1.4.31"
PERFORMED_STEP = "1.2.840.10008.3.1.2.3.3"
PERFORMED_STEP_RETRIEVE = "1.2.840.10008.3.1.2.3.4"
PATIENT_ROOT = frozenset((PATIENT_ROOT_FIND, PATIENT_ROOT_MOVE, PATIENT_ROOT_GET))
"""Of the Patient Root Query/Retrieve Information Model."""
SERVED = {
    VERIFICATION: frozenset((Field.C_ECHO_RQ,)),
    PATIENT_ROOT_FIND: frozenset((Field.C_FIND_RQ,)),
    STUDY_ROOT_FIND: frozenset((Field.C_FIND_RQ,)),
    PATIENT_ROOT_MOVE: frozenset((Field.C_MOVE_RQ,)),
    STUDY_ROOT_MOVE: frozenset((Field.C_MOVE_RQ,)),
    PATIENT_ROOT_GET: frozenset((Field.C_GET_RQ,)),
    STUDY_ROOT_GET: frozenset((Field.C_GET_RQ,)),
    STORAGE_COMMITMENT: frozenset((Field.N_ACTION_RQ,)),
    MODALITY_WORKLIST: frozenset((Field.C_FIND_RQ,)),
    PERFORMED_STEP: frozenset((Field.N_CREATE_RQ, Field.N_SET_RQ)),
    PERFORMED_STEP_RETRIEVE: frozenset((Field.N_GET_RQ,)),
}
"""Requests that are served, by SOP class; those of storage classes are C-STORE."""
_STORED = frozenset((Field.C_STORE_RQ,))
_AboutUs: TypeAlias = (
    MaximumLengthNotification | ImplementationClassUIDNotification | ImplementationVersionNameNotification
)
_STANDARD = "1.2.840.10008."
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."

_MESSAGE_SYNTAXES = (
    file_meta.EXPLICIT_VR_LITTLE_ENDIAN,
    file_meta.IMPLICIT_VR_LITTLE_ENDIAN,
    file_meta.EXPLICIT_VR_BIG_ENDIAN,
    file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)

# JPIP Referenced ... Deflate: the whole data set is deflated, and its pixels are on another server.
_REFUSED = frozenset(("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"))
# Retired processes of JPEG, of which archives still hold objects.
_RETIRED_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (52, 53, 54, 55, 56, *range(58, 67)))
STORAGE_SYNTAXES: tuple[str, ...] = (
    *(str(uid) for uid in ALL_TRANSFER_SYNTAXES if str(uid) not in _REFUSED),
    *_RETIRED_JPEG,
)
"""What a data set may arrive in; it is kept as it came."""

_STORAGE_CLASSES = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)


def is_storage(sop_class_uid: str) -> bool:
    """Whether a SOP class is stored: the standard's storage classes, new ones among them, and every private one."""
    if sop_class_uid in _STORAGE_CLASSES or not sop_class_uid.startswith(_STANDARD):
        return True
    return sop_class_uid.startswith(_STORAGE_ROOT) and not _known(sop_class_uid)


def _known(sop_class_uid: str) -> bool:
    return uid_to_service_class(sop_class_uid) is not ServiceClass


def operations(sop_class_uid: str) -> frozenset[int]:
    """The requests that are served in a presentation context of a SOP class, by Command Field."""
    found = SERVED.get(sop_class_uid)
    return _STORED if found is None and is_storage(sop_class_uid) else found or frozenset()


_OF_FIND = (
    Extension.RELATIONAL,
    Extension.COMBINED_DATE_TIME,
    Extension.FUZZY_NAMES,
    Extension.TIMEZONE,
    Extension.EMPTY_VALUES,
    Extension.MULTIPLE_VALUES,
)
# PS3.4 K.5.1.2: the first two are always 1. Times are told as they were scheduled, in whatever zone.
_OF_WORKLIST = tuple(each for each in _OF_FIND if each is not Extension.TIMEZONE)
_EXTENSIONS = {
    Field.C_FIND_RQ: _OF_FIND,
    Field.C_MOVE_RQ: (Extension.RELATIONAL,),
    Field.C_GET_RQ: (Extension.RELATIONAL,),
}


def extended(sop_class_uid: str, asked: bytes) -> bytes | None:
    """What is accepted of an extended negotiation, as much as is known of what was asked; None for other classes."""
    for field in SERVED.get(sop_class_uid, ()):
        if field in _EXTENSIONS:
            known = _OF_WORKLIST if sop_class_uid == MODALITY_WORKLIST else _EXTENSIONS[field]
            return bytes(int(bit == 1 and place in known) for place, bit in enumerate(asked[: len(Extension)]))
    return None


Roles: TypeAlias = Mapping[UID, tuple[bool | None, bool | None]]
"""The roles, as SCU and as SCP, that a requestor proposes for itself by SOP class."""


def supported(
    proposed: Iterable[PresentationContext], roles: Roles, sending: Sending = ANYTHING
) -> list[PresentationContext]:
    """Contexts to negotiate with, for what one peer proposes that may send some of it.

    Whoever gets instances back by C-GET takes the role of the SCP of their classes (PS3.7 D.3.3.4); it may do so of
    any, also of those that it may not send.

    Made for each association because the acceptor's order of transfer syntaxes decides: in the order that the
    peer proposes, what it would rather send is what it sends, unconverted.
    """
    offers: dict[str, dict[str, None]] = {}
    for each in proposed:
        abstract = str(each.abstract_syntax)
        if is_storage(abstract):
            offers.setdefault(abstract, {}).update(dict.fromkeys(map(str, each.transfer_syntax)))
    made = [context(abstract, _MESSAGE_SYNTAXES) for abstract in SERVED]
    for abstract, syntaxes in offers.items():
        known = [uid for uid in syntaxes if uid in STORAGE_SYNTAXES]
        taken = [uid for uid in known if sending.takes_syntax(uid)] if sending.takes_class(abstract) else []
        sends, gets = (bool(role) for role in roles.get(UID(abstract), (True, False)))
        if not gets and not sending.takes_class(abstract):
            continue
        # A context that serves both ways has one transfer syntax: one in which it may send, if there is any.
        both = sends and gets and bool(taken)
        # Without a common syntax the answer is "transfer syntaxes not supported", for which one has to be named that
        # is not proposed.
        others = (uid for uid in STORAGE_SYNTAXES if uid not in syntaxes)
        storage = context(abstract, (taken if both or not gets else known) or tuple(others)[:1])
        storage.scu_role, storage.scp_role = both or not gets, True
        made.append(storage)
    return made


def withheld(proposed: Iterable[PresentationContext], roles: Roles, sending: Sending) -> list[str]:
    """The SOP classes that a peer would send, in a transfer syntax that is stored, were it not for its bounds.

    Those that it only gets back by C-GET it would not.
    """
    syntaxes: dict[str, set[str]] = {}
    for each in proposed:
        syntaxes.setdefault(str(each.abstract_syntax), set()).update(map(str, each.transfer_syntax))
    return [
        abstract
        for abstract, offered in syntaxes.items()
        if is_storage(abstract)
        and roles.get(UID(abstract), (True, False))[0]
        and (known := offered.intersection(STORAGE_SYNTAXES))
        and not (sending.takes_class(abstract) and any(map(sending.takes_syntax, known)))
    ]


def about_us(max_pdu_bytes: int) -> list[_AboutUs]:
    """What we say of ourselves in every negotiation (PS3.7 D.3.3.1, D.3.3.2), whoever began it."""
    length = MaximumLengthNotification()
    length.maximum_length_received = max_pdu_bytes
    class_uid = ImplementationClassUIDNotification()
    class_uid.implementation_class_uid = UID(file_meta.IMPLEMENTATION_CLASS_UID)
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = file_meta.IMPLEMENTATION_VERSION_NAME
    return [length, class_uid, version]


def context(abstract: str, syntaxes: Iterable[str]) -> PresentationContext:
    """A presentation context of a SOP class, with transfer syntaxes in the order of preference."""
    made = PresentationContext()
    made.abstract_syntax = UID(abstract)
    made.transfer_syntax = [UID(uid) for uid in syntaxes]
    return made
