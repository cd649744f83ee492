"""Presentation contexts: which SOP classes are stored and searched, and in which transfer syntaxes.

References
----------
PS3.8 7.1.1.13 "Presentation Context Definition List".
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass
from pynetdicom.sop_class import uid_to_service_class

from gateway.dimse.commands import Field
from storage.dicom import file_meta

VERIFICATION = "1.2.840.10008.1.1"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_MESSAGES = (VERIFICATION, PATIENT_ROOT_FIND, STUDY_ROOT_FIND)
_ECHO, _STORE, _FIND = (frozenset((field,)) for field in (Field.C_ECHO_RQ, Field.C_STORE_RQ, Field.C_FIND_RQ))
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
    if sop_class_uid == VERIFICATION:
        return _ECHO
    return _STORE if is_storage(sop_class_uid) else _FIND


def supported(proposed: Iterable[PresentationContext]) -> list[PresentationContext]:
    """Contexts to negotiate with, for what one peer proposes.

    Made for each association because the acceptor's order of transfer syntaxes decides: in the order that the
    peer proposes, what it would rather send is what it sends, unconverted.
    """
    found: dict[str, tuple[str, ...]] = dict.fromkeys(_MESSAGES, _MESSAGE_SYNTAXES)
    offers: dict[str, dict[str, None]] = {}
    for each in proposed:
        abstract = str(each.abstract_syntax)
        if is_storage(abstract):
            offers.setdefault(abstract, {}).update(dict.fromkeys(map(str, each.transfer_syntax)))
    for abstract, syntaxes in offers.items():
        taken = tuple(uid for uid in syntaxes if uid in STORAGE_SYNTAXES)
        # Without a common syntax the answer is "transfer syntaxes not supported", for which one has to be named.
        found[abstract] = taken or (file_meta.EXPLICIT_VR_LITTLE_ENDIAN,)
    return [context(abstract, syntaxes) for abstract, syntaxes in found.items()]


def context(abstract: str, syntaxes: Iterable[str]) -> PresentationContext:
    """A presentation context of a SOP class, with transfer syntaxes in the order of preference."""
    made = PresentationContext()
    made.abstract_syntax = UID(abstract)
    made.transfer_syntax = [UID(uid) for uid in syntaxes]
    return made
