"""Why an instance was not stored (PS3.18 Table I.2-2 "Store Instances Response Failure Reason Values")."""

from __future__ import annotations

import logging
from enum import IntEnum

from gateway import errors
from gateway.context import RequestId
from storage import errors as storage


class FailureReason(IntEnum):
    """Values of Failure Reason (0008,1197)."""

    PROCESSING_FAILURE = 0x0110
    DUPLICATE_SOP_INSTANCE = 0x0111
    NOT_AUTHORIZED = 0x0124
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    NOT_DEIDENTIFIED = 0xC002


REASONS: dict[type[Exception], FailureReason] = {
    errors.Forbidden: FailureReason.NOT_AUTHORIZED,
    errors.DuplicateRefused: FailureReason.DUPLICATE_SOP_INSTANCE,
    errors.Misplaced: FailureReason.DATA_SET_MISMATCH,
    errors.StudyMismatch: FailureReason.DATA_SET_MISMATCH,
    errors.PayloadTooLarge: FailureReason.OUT_OF_RESOURCES,
    errors.QuotaExceeded: FailureReason.OUT_OF_RESOURCES,
    errors.Busy: FailureReason.OUT_OF_RESOURCES,
    errors.AuditUnavailable: FailureReason.OUT_OF_RESOURCES,
    errors.NotDeidentified: FailureReason.NOT_DEIDENTIFIED,
    errors.GatewayError: FailureReason.PROCESSING_FAILURE,
    storage.AnnouncedOtherwise: FailureReason.DATA_SET_MISMATCH,
    storage.Unreadable: FailureReason.CANNOT_UNDERSTAND,
    storage.StorageFull: FailureReason.OUT_OF_RESOURCES,
    storage.StorageUnavailable: FailureReason.OUT_OF_RESOURCES,
    storage.ReadOnly: FailureReason.OUT_OF_RESOURCES,
    storage.StaleObject: FailureReason.OUT_OF_RESOURCES,
    storage.StorageError: FailureReason.PROCESSING_FAILURE,
}
"""The reason of each domain error, by the nearest class in its line."""

_log = logging.getLogger("gateway.dicomweb")


def reason_of(error: Exception, request_id: RequestId) -> tuple[FailureReason, str]:
    """The reason of an error and a comment that may be shown; a defect is logged and shows nothing of itself."""
    for kind in type(error).__mro__:
        found = REASONS.get(kind)
        if found is not None:
            return found, str(error)
    _log.error("request %s: an instance could not be stored", request_id, exc_info=error)
    return FailureReason.PROCESSING_FAILURE, "the gateway failed; its log has more under the request id"
