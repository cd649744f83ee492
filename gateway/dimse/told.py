"""What peers tell by a status, for people.

References
----------
PS3.7 Annex C "Status Type Encoding", PS3.4 B.2.3, C.4.1.1.4, C.4.3.1.4.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.uid import UID
from pynetdicom.status import (
    GENERAL_STATUS,
    QR_FIND_SERVICE_CLASS_STATUS,
    QR_GET_SERVICE_CLASS_STATUS,
    QR_MOVE_SERVICE_CLASS_STATUS,
    STORAGE_SERVICE_CLASS_STATUS,
    VERIFICATION_SERVICE_CLASS_STATUS,
)

_Meanings = Mapping[int, tuple[str, str]]

OF_STORE: _Meanings = STORAGE_SERVICE_CLASS_STATUS
OF_ECHO: _Meanings = VERIFICATION_SERVICE_CLASS_STATUS
OF_QUESTIONS: _Meanings = {
    **QR_MOVE_SERVICE_CLASS_STATUS,
    **QR_GET_SERVICE_CLASS_STATUS,
    **QR_FIND_SERVICE_CLASS_STATUS,
}


def said(status: int, comment: str = "", meanings: _Meanings = OF_QUESTIONS) -> str:
    """A status with its name in the standard; the peer's own comment goes before that."""
    name = comment or meaning(status, meanings)
    return f"0x{status:04X} ({name})" if name else f"0x{status:04X}"


def meaning(status: int, meanings: _Meanings) -> str:
    """The name of a status; "" when it is of nobody."""
    _, name = meanings.get(status) or GENERAL_STATUS.get(status) or ("", "")
    return name


def name_of(uid: str) -> str:
    """A SOP class or transfer syntax by its name and UID."""
    name = UID(uid).name
    return f"{name} ({uid})" if name != uid else uid
