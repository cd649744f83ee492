"""DIMSE statuses as data, and the one mapping from domain errors to them.

References
----------
PS3.4 B.2.3 "Statuses", PS3.4 C.4.1.1.4 "Status", PS3.7 Annex C "Status Type Encoding".
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway import errors
from gateway.context import RequestId
from gateway.dimse.commands import Element, Value
from gateway.imaging import errors as imaging
from gateway.services.ingest import Identified
from storage import errors as storage

LOGGER = logging.getLogger(__name__)

_COMMENT_LENGTH = 64
_TAG = re.compile(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)")


@dataclass(frozen=True, slots=True)
class Status:
    """One status. The text of an error goes along as Error Comment where it is about the request (``told``)."""

    code: int
    meaning: str
    reference: str
    told: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """What a response says: Status, with Error Comment, Offending Element and others beside it, and its data set."""

    status: int
    elements: Mapping[Element, Value] = field(default_factory=dict)
    data_set: bytes | None = None

    @property
    def is_pending(self) -> bool:
        """Whether more responses follow (PS3.7 C.1.3 "Pending")."""
        return self.status & 0xFF00 == PENDING.code


SUCCESS = Status(0x0000, "Success", "PS3.7 C.1.1")
PENDING = Status(0xFF00, "Matches are continuing", "PS3.4 C.4.1.1.4")
PENDING_WARNING = Status(0xFF01, "Matches are continuing; optional keys were not supported", "PS3.4 C.4.1.1.4")
CANCEL = Status(0xFE00, "Matching terminated due to Cancel request", "PS3.4 C.4.1.1.4")

PROCESSING_FAILURE = Status(0x0110, "Processing failure", "PS3.7 C.5.15")
DUPLICATE_INSTANCE = Status(0x0111, "Duplicate SOP Instance", "PS3.7 C.5.6")
INVALID_INSTANCE = Status(0x0117, "Invalid SOP Instance UID", "PS3.7 C.5.11")
UNRECOGNIZED_OPERATION = Status(0x0211, "Unrecognized operation", "PS3.7 9.1.5.1.4")
NOT_AUTHORIZED = Status(0x0124, "Refused: not authorized", "PS3.7 C.5.25")

STORE_OUT_OF_RESOURCES = Status(0xA700, "Refused: out of resources", "PS3.4 B.2.3")
STORE_MISMATCH = Status(0xA900, "Data Set does not match SOP Class", "PS3.4 B.2.3", told=True)
STORE_CANNOT_UNDERSTAND = Status(0xC000, "Cannot understand", "PS3.4 B.2.3", told=True)
STORE_MISPLACED = Status(0xC001, "Contradicts what is known; quarantined", "PS3.4 B.2.3")
STORE_NOT_DEIDENTIFIED = Status(0xC002, "Its identity cannot be taken out with certainty", "PS3.4 B.2.3", told=True)

FIND_OUT_OF_RESOURCES = Status(0xA700, "Refused: out of resources", "PS3.4 C.4.1.1.4")
FIND_MISMATCH = Status(0xA900, "Identifier does not match SOP Class", "PS3.4 C.4.1.1.4", told=True)
FIND_UNABLE = Status(0xC000, "Unable to process", "PS3.4 C.4.1.1.4")
FIND_UNREADABLE = Status(0xC001, "Identifier cannot be read", "PS3.4 C.4.1.1.4", told=True)

SUBOPERATIONS = Status(0xFF00, "Sub-operations are continuing", "PS3.4 C.4.2.1.5")
SUBOPERATIONS_WARNING = Status(0xB000, "Sub-operations complete, with failures or warnings", "PS3.4 C.4.2.1.5")
SUBOPERATIONS_FAILED = Status(0xA702, "Refused: unable to perform sub-operations", "PS3.4 C.4.2.1.5")
DESTINATION_UNKNOWN = Status(0xA801, "Refused: Move Destination unknown", "PS3.4 C.4.2.1.5")
RETRIEVE_OUT_OF_RESOURCES = Status(
    0xA701, "Refused: out of resources, unable to calculate number of matches", "PS3.4 C.4.2.1.5"
)

NO_SUCH_ACTION = Status(0x0123, "No such action", "PS3.7 C.5.24", told=True)
NO_SUCH_OBJECT = Status(0x0112, "No such SOP Instance", "PS3.7 C.5.11", told=True)
INVALID_ARGUMENT = Status(0x0115, "Invalid argument value", "PS3.7 C.5.10", told=True)
INVALID_ATTRIBUTE_VALUE = Status(0x0106, "Invalid attribute value", "PS3.7 C.5.9", told=True)
MISSING_ATTRIBUTE = Status(0x0120, "Missing attribute", "PS3.7 C.5.17", told=True)
MISSING_VALUE = Status(0x0121, "Missing attribute value", "PS3.7 C.5.18", told=True)
# The words are the standard's: PS3.4 Table F.7.2-2.
SOME_NOT_THERE = Status(0x0001, "Requested optional attributes are not supported", "PS3.4 F.8.2.1.4")
NO_LONGER_OPEN = Status(0x0110, "Performed Procedure Step Object may no longer be updated", "PS3.4 F.7.2.2.2")
RESOURCE_LIMITATION = Status(0x0213, "Resource limitation", "PS3.7 C.5.20")

STATUSES = tuple(value for value in list(globals().values()) if isinstance(value, Status))

_Errors = Mapping[type[Exception], Status]

OF_STORE: _Errors = {
    errors.InvalidRequest: STORE_CANNOT_UNDERSTAND,
    errors.Unauthenticated: NOT_AUTHORIZED,
    errors.Forbidden: NOT_AUTHORIZED,
    errors.DuplicateRefused: DUPLICATE_INSTANCE,
    errors.Misplaced: STORE_MISPLACED,
    errors.StudyMismatch: STORE_MISMATCH,
    errors.NotFound: PROCESSING_FAILURE,
    errors.Gone: PROCESSING_FAILURE,
    errors.UnderHold: PROCESSING_FAILURE,
    errors.TransactionInUse: PROCESSING_FAILURE,
    errors.AlreadyThere: PROCESSING_FAILURE,
    errors.NoLongerOpen: PROCESSING_FAILURE,
    errors.NotAcceptable: PROCESSING_FAILURE,
    errors.NotDeidentified: STORE_NOT_DEIDENTIFIED,
    errors.UnsupportedMediaType: PROCESSING_FAILURE,
    errors.PayloadTooLarge: STORE_OUT_OF_RESOURCES,
    errors.QuotaExceeded: STORE_OUT_OF_RESOURCES,
    errors.IdentityUnavailable: STORE_OUT_OF_RESOURCES,
    errors.Busy: STORE_OUT_OF_RESOURCES,
    errors.AuditUnavailable: STORE_OUT_OF_RESOURCES,
    storage.InvalidIdentifier: INVALID_INSTANCE,
    storage.Unreadable: STORE_CANNOT_UNDERSTAND,
    storage.AnnouncedOtherwise: STORE_MISMATCH,
    storage.FramesNotLocatable: PROCESSING_FAILURE,
    storage.InvalidCondition: PROCESSING_FAILURE,
    storage.SearchTooBroad: PROCESSING_FAILURE,
    storage.ObjectNotFound: PROCESSING_FAILURE,
    storage.ObjectExists: PROCESSING_FAILURE,
    storage.ObjectDamaged: PROCESSING_FAILURE,
    storage.StorageFull: STORE_OUT_OF_RESOURCES,
    storage.StorageUnavailable: STORE_OUT_OF_RESOURCES,
    storage.ReadOnly: STORE_OUT_OF_RESOURCES,
    storage.SchemaMismatch: PROCESSING_FAILURE,
    storage.StaleObject: STORE_OUT_OF_RESOURCES,
    storage.StepTooLarge: PROCESSING_FAILURE,
    imaging.ImagingError: PROCESSING_FAILURE,
}

OF_FIND: _Errors = {
    errors.InvalidRequest: FIND_MISMATCH,
    errors.Unauthenticated: NOT_AUTHORIZED,
    errors.Forbidden: NOT_AUTHORIZED,
    errors.NotStored: FIND_UNABLE,
    errors.NotFound: SUCCESS,
    errors.Gone: SUCCESS,
    errors.UnderHold: FIND_UNABLE,
    errors.TransactionInUse: FIND_UNABLE,
    errors.AlreadyThere: FIND_UNABLE,
    errors.NoLongerOpen: FIND_UNABLE,
    errors.NotAcceptable: FIND_UNABLE,
    errors.UnsupportedMediaType: FIND_UNABLE,
    errors.PayloadTooLarge: FIND_OUT_OF_RESOURCES,
    errors.QuotaExceeded: FIND_UNABLE,
    errors.IdentityUnavailable: FIND_OUT_OF_RESOURCES,
    errors.Busy: FIND_OUT_OF_RESOURCES,
    errors.AuditUnavailable: FIND_OUT_OF_RESOURCES,
    storage.InvalidIdentifier: FIND_MISMATCH,
    storage.Unreadable: FIND_UNREADABLE,
    storage.FramesNotLocatable: FIND_UNABLE,
    storage.InvalidCondition: FIND_MISMATCH,
    storage.SearchTooBroad: FIND_OUT_OF_RESOURCES,
    storage.ObjectNotFound: FIND_UNABLE,
    storage.ObjectExists: FIND_UNABLE,
    storage.ObjectDamaged: FIND_UNABLE,
    storage.StorageFull: FIND_OUT_OF_RESOURCES,
    storage.StorageUnavailable: FIND_OUT_OF_RESOURCES,
    storage.ReadOnly: FIND_UNABLE,
    storage.SchemaMismatch: FIND_UNABLE,
    storage.StaleObject: FIND_OUT_OF_RESOURCES,
    storage.StepTooLarge: FIND_OUT_OF_RESOURCES,
    imaging.ImagingError: FIND_UNABLE,
}


OF_RETRIEVE: _Errors = {
    error: RETRIEVE_OUT_OF_RESOURCES if found is FIND_OUT_OF_RESOURCES else found for error, found in OF_FIND.items()
}


OF_ACTION: _Errors = {
    error: {FIND_OUT_OF_RESOURCES: RESOURCE_LIMITATION, FIND_UNABLE: PROCESSING_FAILURE, SUCCESS: NO_SUCH_OBJECT}.get(
        found, NOT_AUTHORIZED if found is NOT_AUTHORIZED else INVALID_ARGUMENT
    )
    for error, found in OF_FIND.items()
} | {errors.TransactionInUse: INVALID_ARGUMENT}


OF_PERFORMED: _Errors = {
    **OF_ACTION,
    errors.AttributesInvalid: INVALID_ATTRIBUTE_VALUE,
    errors.AttributesMissing: MISSING_ATTRIBUTE,
    errors.ValuesMissing: MISSING_VALUE,
    errors.AlreadyThere: DUPLICATE_INSTANCE,
    errors.NoLongerOpen: NO_LONGER_OPEN,
    storage.InvalidIdentifier: INVALID_INSTANCE,
    storage.Unreadable: PROCESSING_FAILURE,
}
_NO_LONGER_OPEN_ID = 0xA710


def nearest(table: _Errors, kind: type[BaseException], defect: Status) -> Status:
    """The status of the nearest class above an error; ``defect`` when it is in no tree of ours."""
    return next((table[above] for above in kind.__mro__ if above in table), defect)


def of_store(error: Exception, request_id: RequestId) -> Response:
    """What a C-STORE response says of an error, after it is logged."""
    return _answer("C-STORE", OF_STORE, PROCESSING_FAILURE, error, request_id)


def of_find(error: Exception, request_id: RequestId) -> Response:
    """What the final C-FIND response says of an error, after it is logged."""
    return _answer("C-FIND", OF_FIND, FIND_UNABLE, error, request_id)


def of_retrieve(error: Exception, request_id: RequestId) -> Response:
    """What the final C-MOVE or C-GET response says of an error, after it is logged."""
    return _answer("retrieval", OF_RETRIEVE, FIND_UNABLE, error, request_id)


def of_action(error: Exception, request_id: RequestId) -> Response:
    """What an N-ACTION response says of an error, after it is logged."""
    return _answer("N-ACTION", OF_ACTION, PROCESSING_FAILURE, error, request_id)


def of_performed(message: str, error: Exception, request_id: RequestId) -> Response:
    """What an N-CREATE or N-SET response says of an error, after it is logged.

    With the attributes that are at fault (0000,1005), and the Error ID that the service has for what is over.
    """
    found = _answer(message, OF_PERFORMED, PROCESSING_FAILURE, error, request_id)
    elements = dict(found.elements)
    if isinstance(error, errors.AttributesMissing | errors.ValuesMissing | errors.AttributesInvalid):
        elements[Element.ATTRIBUTE_IDENTIFIER_LIST] = int(error.paths[0].partition(".")[0], 16)
    if isinstance(error, errors.NoLongerOpen):
        elements[Element.ERROR_ID] = _NO_LONGER_OPEN_ID
    return Response(found.status, elements)


def of_echo(error: Exception, request_id: RequestId) -> Response:
    """What a C-ECHO response says of an error, after it is logged."""
    return _answer("C-ECHO", OF_STORE, PROCESSING_FAILURE, error, request_id)


def _answer(message: str, table: _Errors, defect: Status, error: Exception, request_id: RequestId) -> Response:
    cause = error.reason if isinstance(error, Identified) else error
    known = any(above in table for above in type(cause).__mro__)
    status = nearest(table, type(cause), defect)
    LOGGER.log(
        logging.INFO if known else logging.ERROR,
        "request %s: %s answered 0x%04X (%s)",
        request_id,
        message,
        status.code,
        type(cause).__name__,
    )
    if not known:
        # The frames alone: the message of a foreign error may quote the data set.
        LOGGER.error("request %s: %s", request_id, "".join(traceback.format_tb(cause.__traceback__)))
    return response(status, str(cause) if status.told else "")


def response(status: Status, text: str = "") -> Response:
    """The status elements of a response: Status, Error Comment, Offending Element (PS3.7 E.2)."""
    if status in (SUCCESS, CANCEL):
        return Response(status.code)
    # LO: at most 64 characters of the default repertoire, and a backslash would make two values of it.
    comment = (text or status.meaning).replace("\\", "/").encode("ascii", "replace").decode("ascii")
    found: dict[Element, Value] = {Element.ERROR_COMMENT: comment[:_COMMENT_LENGTH]}
    offending = _TAG.search(text)
    if offending is not None:
        found[Element.OFFENDING_ELEMENT] = int(offending[1] + offending[2], 16)
    return Response(status.code, found)
