"""What the libraries behind an S3 store raise, told apart and raised again as the project's own errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError as ObstoreError

from storage.errors import StorageFull, StorageUnavailable

LIBRARY_ERRORS = (ObstoreError, FileNotFoundError, ClientError, BotoCoreError)
_FULL = frozenset({"InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"})
_BROKEN = frozenset({"Interrupted", "Timeout", "Request"})  # object_store's HttpErrorKind


@dataclass(frozen=True, slots=True)
class Fault:
    """What a library error says of the server's answer; never its text, which repeats addresses and more."""

    status: int | None
    code: str | None
    kind: str

    @property
    def is_broken_connection(self) -> bool:
        """Whether the request may have been carried out or not."""
        return self.status is None and self.kind in _BROKEN

    @property
    def cause(self) -> str:
        """For people: the server's error code and HTTP status, or the kind of the transport's error."""
        if self.status is None:
            return self.code or self.kind
        return f"HTTP {self.status} {self.code or ''}".rstrip()


def fault_of(error: Exception) -> Fault:
    """What an error of boto3 or obstore says."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return Fault(status, error.response.get("Error", {}).get("Code"), type(error).__name__)
    if isinstance(error, BotoCoreError):
        return Fault(None, None, type(error).__name__)
    # obstore tells the answer in its text alone.
    text = str(error)
    found = re.search(r"status code: (\d{3})|status: (\d{3})", text)
    code = re.search(r"<Code>(\w{1,64})</Code>", text)
    kind = re.search(r"kind: (\w{1,32})", text)
    return Fault(
        int(found[1] or found[2]) if found else None,
        code[1] if code else None,
        kind[1] if kind else type(error).__name__,
    )


def raise_unavailable(fault: Fault, error: Exception) -> NoReturn:
    """Raise StorageUnavailable for a fault."""
    if fault.status in (401, 403):
        if fault.code == "InvalidObjectState":
            raise StorageUnavailable("an object is in an archive class: restore it at the object store") from error
        raise StorageUnavailable(f"the object store refuses our credentials: {fault.cause}") from error
    raise StorageUnavailable(f"the object store does not serve the request: {fault.cause}") from error


def raise_put_fault(key: str, error: Exception) -> NoReturn:
    """Raise StorageFull or StorageUnavailable for the error of a write."""
    fault = fault_of(error)
    if fault.status == 507 or fault.code in _FULL:
        raise StorageFull(f"{key}: {fault.cause}") from error
    raise_unavailable(fault, error)
