"""The error tree of the storage floor.

StorageError
├── InvalidIdentifier            a UID, tenant or key that may not become part of a key
├── Unreadable                   the bytes are not a DICOM instance that can be kept
│   ├── NotPart10                neither a Part 10 file nor a bare data set
│   ├── Truncated                the stream ends inside an element
│   ├── MalformedDataSet         the element structure contradicts itself
│   ├── MissingAttribute         an attribute that the archive needs is absent or invalid
│   ├── AnnouncedOtherwise       the data set is not the instance that the command set announced
│   └── LimitExceeded            a configured bound on depth, counts, lengths or ratio was hit
├── FramesNotLocatable           no ranged read gives the frame: take the decoding way
├── InvalidCondition             a search or policy condition that no attribute can satisfy
├── SearchTooBroad               a search that would cost more than it may
├── ObjectNotFound               no object under this key
│   └── ObjectRemoved            the gateway that writes the bucket removed it; the index has yet to follow
├── ObjectExists                 the key is taken; objects are never rewritten
├── ObjectDamaged                bytes read differ from what was written
├── StorageFull                  the engine has no room left
├── StorageUnavailable           the engine does not answer now; the same call may succeed later
├── ReadOnly                     the archive may only be read from here
├── SchemaMismatch               the index was written by an incompatible release
└── StaleObject                  the object is too old to be committed by who received it

Library errors are caught where the library is called and raised again from the original as one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class StorageError(Exception):
    """Base of every error that leaves the storage floor."""


class InvalidIdentifier(StorageError):
    """A UID, tenant name, version or object key is not of the allowed form."""


class Unreadable(StorageError):
    """The received bytes cannot be kept as a DICOM instance."""


class NotPart10(Unreadable):
    """The stream is neither a DICOM Part 10 file nor a bare DICOM data set."""


class Truncated(Unreadable):
    """The stream ends inside an element, item or fragment."""


class MalformedDataSet(Unreadable):
    """The element structure contradicts itself (PS3.5 section 7)."""


class MissingAttribute(Unreadable):
    """An attribute without which an instance has no place in the archive is absent or invalid.

    ``faults`` says of each such attribute, by its tag, what is wrong; the two UIDs are those that could be read.
    """

    def __init__(
        self, faults: Mapping[str, str] = MappingProxyType({}), sop_class_uid: str = "", sop_uid: str = ""
    ) -> None:
        super().__init__("; ".join(faults.values()))
        self.faults = dict(faults)
        self.sop_class_uid = sop_class_uid
        self.sop_uid = sop_uid


class AnnouncedOtherwise(Unreadable):
    """The data set's SOP class or instance differs from the command set's."""


class LimitExceeded(Unreadable):
    """A configured bound on nesting, counts, lengths or inflate ratio was reached."""


class FramesNotLocatable(StorageError):
    """The frame is not a byte range of the stored object; it has to be decoded."""


class InvalidCondition(StorageError):
    """A condition names an unknown attribute or holds a value of the wrong form."""


class SearchTooBroad(StorageError):
    """A search would look at more instances, or take longer, than one may: narrow it."""


class ObjectNotFound(StorageError):
    """There is no object under this key."""


class ObjectRemoved(ObjectNotFound):
    """The gateway that writes the bucket removed the object, and the index here has yet to follow."""


class ObjectExists(StorageError):
    """The key is already taken; committed objects are never rewritten."""


class ObjectDamaged(StorageError):
    """The bytes read are not the bytes that were written."""


class StorageFull(StorageError):
    """The engine has no room for the write."""


class StorageUnavailable(StorageError):
    """The engine cannot be reached or answers with a passing fault; retrying may succeed."""


class ReadOnly(StorageError):
    """The archive may only be read from here; another gateway writes to it."""


class SchemaMismatch(StorageError):
    """The index was written by a release this one cannot work with."""


class StepTooLarge(StorageError):
    """A procedure step is longer than is kept, or what it is looked for by is."""


class StaleObject(StorageError):
    """The object waited so long for its row that the background worker may be giving it one."""
