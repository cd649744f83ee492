"""What an index says of what is stored: versions and their layout, deletions, holds, use of room."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from storage.dicom.frames import FrameTable
from storage.dicom.identifiers import InstanceKey, SopClassUid, StudyUid, Tenant, TransferSyntaxUid, Version
from storage.dicom.part10 import BulkItem


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version and the key of its object; ``beside`` what an undoing brings back with something that was sent."""

    version: Version
    object_key: str
    beside: bool = False


@dataclass(frozen=True, slots=True)
class Unsourced:
    """A version of which nobody has looked who sent it; its object says so in the bytes before the data set."""

    version: Version
    object_key: str
    data_offset: int


@dataclass(frozen=True, slots=True)
class Located:
    """The current version of an instance, as retrieval needs it."""

    key: InstanceKey
    sop_class_uid: SopClassUid
    version_id: int
    version: Version
    object_key: str
    data_offset: int
    size: int
    sha256: str
    transfer_syntax_uid: TransferSyntaxUid
    instance_number: int | None


@dataclass(frozen=True, slots=True)
class Recompressible:
    """A current version, and the modality of its series."""

    located: Located
    modality: str | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Where pixel data, frames and bulk values lie in the data set."""

    frames: FrameTable
    bulk: tuple[BulkItem, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """The storage class that a study's objects were moved into, all of them up to a version.

    ``change`` is the sequence number of the study's last change at that time: as long as it is the last one nothing
    came since.
    """

    storage_class: str
    through: Version
    change: int


@dataclass(frozen=True, slots=True)
class AgedStudy:
    """A live study that may be old: the version it speaks through, and what it says (dates as YYYYMMDD).

    ``modalities`` are those of its live series; None stands for a series without one. ``change`` is the sequence number
    of its last change, ``placed`` None unless it was moved.
    """

    study_uid: StudyUid
    version: Version
    study_date: str | None
    birth_date: str | None
    modalities: tuple[str | None, ...]
    change: int
    placed: Placed | None


class Existence(StrEnum):
    """Whether a target is there for a caller."""

    LIVE = "live"
    DELETED = "deleted"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class DeletionState:
    """A deletion that may be undone or not: the record's version, what it named, and what is left of it.

    ``versions`` counts what was sent, without what stands beside it.
    """

    record: Version
    body: bytes
    versions: int
    undoable: bool


@dataclass(frozen=True, slots=True)
class Commitment:
    """A request for storage commitment; ``result`` is None until it is known.

    ``tell`` is the AE title of a peer that still has to be told of it, "" when there is none.
    """

    principal: str
    asked_at_s: float
    request: bytes
    result: bytes | None
    tell: str = ""


@dataclass(frozen=True, slots=True)
class Untold:
    """A result that a peer has to be told of; ``times`` it was tried before."""

    tenant: Tenant
    transaction_uid: str
    tell: str
    result: bytes
    times: int


@dataclass(frozen=True, slots=True)
class Holding:
    """A version and what its row says of its object. ``deleted`` is a tombstone whose object has not been removed."""

    key: InstanceKey
    version: Version
    object_key: str
    size: int
    sha256: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Objects of a tenant, and their bytes: all versions, deleted ones too until they are removed for good."""

    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a hold is on: a study, or a patient with every study present and to come; the other is empty."""

    study_uid: str
    issuer: str
    patient_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class HoldState:
    """A hold in force, by its record."""

    record: Version
    held: Held
