"""Record objects: what belongs to the archive but stands in no DICOM object, immutable, beside the instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storage.dicom import identifiers as ids
from storage.dicom import json_model
from storage.errors import InvalidIdentifier, ObjectDamaged
from storage.index.stored import Held

_FOLDER = "records"

BESIDE = ".audit/"
"""Key space of what is kept in the bucket and is no part of the archive: checkpoints of audit trails."""

_VIEWS = "views"


def key(tenant: ids.Tenant, record: ids.Version) -> str:
    """The object key of a record; no instance's key has this form, since ``records`` is no UID."""
    return f"{tenant}/{_FOLDER}/{record}.json"


def prefix(tenant: ids.Tenant) -> str:
    """The common beginning of a tenant's record keys."""
    return f"{tenant}/{_FOLDER}/"


def is_record(object_key: str) -> bool:
    """Whether an object is a record."""
    return object_key.split("/")[1:2] == [_FOLDER]


def view_folder(tenant: ids.Tenant, view: str) -> str:
    """Before the keys of what a view of a tenant is made of; all of it can be made again."""
    return f"{tenant}/{_VIEWS}/{view}/"


def is_beside(object_key: str) -> bool:
    """Whether an object is no part of the archive: what reads, counts or clears the archive leaves it alone."""
    return object_key.startswith(BESIDE) or object_key.split("/")[1:2] == [_VIEWS]


@dataclass(frozen=True, slots=True)
class Quarantine:
    """An object that is kept but stands in no study."""

    object_key: str
    reason: str

    def dumps(self) -> bytes:
        """The record's body."""
        return json_model.dumps({"record": "quarantine", "object": self.object_key, "reason": self.reason})


@dataclass(frozen=True, slots=True)
class Deletion:
    """Versions that were deleted, by name: what arrives later under the same UIDs is not meant.

    ``objects`` are the object keys of the versions: they hold the UIDs, which outlive the objects. ``reason`` names the
    rule by which the gateway itself deleted them; it is empty when somebody did.
    """

    study_uid: str
    series_uid: str | None
    sop_uid: str | None
    objects: tuple[str, ...]
    reason: str = ""

    @property
    def versions(self) -> tuple[ids.Version, ...]:
        """The versions."""
        return tuple(ids.parse_object_key(key)[1] for key in self.objects)

    def dumps(self) -> bytes:
        """The record's body."""
        return json_model.dumps(
            {
                "record": "deletion",
                "study": self.study_uid,
                "series": self.series_uid,
                "instance": self.sop_uid,
                "objects": self.objects,
                **({"reason": self.reason} if self.reason else {}),
            }
        )


@dataclass(frozen=True, slots=True)
class Restoration:
    """A deletion, by its record, that was undone, and the object keys of what came back: it need not be everything.

    It undoes the deletions before that one as well, unless it is a ``withdrawal``, of a deletion that failed.
    """

    deletion: str
    objects: tuple[str, ...]
    withdrawal: bool = False

    @property
    def versions(self) -> tuple[ids.Version, ...]:
        """The versions."""
        return tuple(ids.parse_object_key(key)[1] for key in self.objects)

    def dumps(self) -> bytes:
        """The record's body."""
        more = {"withdrawal": True} if self.withdrawal else {}
        return json_model.dumps({"record": "restoration", "deletion": self.deletion, "objects": self.objects, **more})


@dataclass(frozen=True, slots=True)
class Erasure:
    """Versions that were removed for good, and must not come back: their names alone, which say nothing of anybody."""

    versions: tuple[ids.Version, ...]

    def dumps(self) -> bytes:
        """The record's body."""
        return json_model.dumps({"record": "erasure", "versions": self.versions})


@dataclass(frozen=True, slots=True)
class Hold:
    """A study or patient of which nothing may be removed."""

    held: Held

    def dumps(self) -> bytes:
        """The record's body."""
        held = self.held
        named = {"study": held.study_uid, "issuer": held.issuer, "patient": held.patient_id, "reason": held.reason}
        return json_model.dumps({"record": "hold", **named})


@dataclass(frozen=True, slots=True)
class Release:
    """A hold, by its record, that has ended."""

    hold: str

    def dumps(self) -> bytes:
        """The record's body."""
        return json_model.dumps({"record": "release", "hold": self.hold})


Record = Quarantine | Deletion | Restoration | Erasure | Hold | Release


def loads(body: bytes) -> Record:
    """A record from its body; raises ObjectDamaged when it is none that this release knows."""
    try:
        found: dict[str, Any] = json_model.loads(body)
        if found["record"] == "quarantine":
            return Quarantine(str(found["object"]), str(found["reason"]))
        if found["record"] == "deletion":
            target = found["study"], found["series"], found["instance"]
            deletion = Deletion(*target, tuple(found["objects"]), str(found.get("reason", "")))
            _ = deletion.versions  # raises for a key that is none
            return deletion
        if found["record"] == "restoration":
            undone = str(ids.version(found["deletion"])), tuple(found["objects"])
            restoration = Restoration(*undone, withdrawal=bool(found.get("withdrawal", False)))
            _ = restoration.versions
            return restoration
        if found["record"] == "erasure":
            return Erasure(tuple(ids.version(each) for each in found["versions"]))
        if found["record"] == "hold":
            return Hold(Held(*(str(found[name]) for name in ("study", "issuer", "patient", "reason"))))
        if found["record"] == "release":
            return Release(str(ids.version(found["hold"])))
    except (ValueError, KeyError, TypeError, InvalidIdentifier) as error:
        raise ObjectDamaged("a record object is damaged") from error
    raise ObjectDamaged(f"a record of unknown kind: {str(found['record'])[:32]}")
