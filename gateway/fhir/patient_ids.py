"""Logical ids of patients: sealed names of what the index knows a patient by, so that nothing has to be kept of them.

A patient is known by issuer and Patient ID, or without an ID by the one study that is its. The name holds both as they
are, or what of them fits and a digest by which the patient is known among those alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.services.sealing import TAG_BYTES, Sealing
from storage.dicom import json_model
from storage.dicom import keys as texts
from storage.dicom.attributes import BY_KEYWORD
from storage.dicom.matching import NOTHING, Absent, AllOf, Condition, OneOf
from storage.index.questions import Position

LONGEST = 64
"""Characters of a logical id (FHIR R4 "Data Types", id)."""
_PLAIN_BYTES = LONGEST * 3 // 4 - TAG_BYTES
_DIGEST_BYTES = 8
_BEGIN_BYTES, _END_BYTES = 8, 14
_KIND = "Patient"
_UID_SYMBOLS = "0123456789."


class _Holds(Enum):
    """What a name holds, by its first byte."""

    BOTH = b"b"
    PART = b"p"
    STUDY = b"s"


@dataclass(frozen=True, slots=True)
class PatientKey:
    """What the index knows a patient by; ``of_study`` is the UID of the study of one without a Patient ID."""

    issuer: str
    patient_id: str
    of_study: str = ""

    @classmethod
    def of_position(cls, position: Position) -> PatientKey:
        """Of a patient's place among patients."""
        patient_id, issuer, of_study = map(str, position)
        return cls(issuer, patient_id, of_study)

    @classmethod
    def of_study_result(cls, result: json_model.JsonDataSet) -> PatientKey:
        """Of the patient of a study."""
        # As the index keeps them: a NUL is padding gone astray.
        said = [json_model.text_of(result, tag).replace("\0", "").strip() for tag in ("00100020", "00100021")]
        patient_id, issuer = said
        return cls(issuer, patient_id, "" if patient_id else json_model.text_of(result, "0020000D"))

    @property
    def condition(self) -> Condition:
        """That a study is the patient's."""
        if not self.patient_id:
            return AllOf((OneOf("StudyInstanceUID", (self.of_study,)), Absent("PatientID")))
        return AllOf((OneOf("PatientID", (self.patient_id,)), of_issuer(self.issuer)))


def of_issuer(issuer: str) -> Condition:
    """That a study's patient has its ID from an issuer, or from none that is named."""
    return OneOf("IssuerOfPatientID", (issuer,)) if issuer else Absent("IssuerOfPatientID")


@dataclass(frozen=True, slots=True)
class _Named:
    """What a name says: the patient, or only some who are alike, and the digest that the one has."""

    key: PatientKey | None = None
    alike: Condition = NOTHING
    digest: bytes = b""


class PatientIds:
    """The logical ids of one tenant's patients as they are seen through one view; "" is as stored."""

    def __init__(self, sealing: Sealing, tenant: str, view: str) -> None:
        self._sealing = sealing
        self._about = (_KIND, tenant, view)

    def id_of(self, key: PatientKey) -> str:
        """The logical id of a patient."""
        return self._sealing.seal(_plain(key), *self._about)

    def key_of(self, logical_id: str, ask: Callable[[Condition], Sequence[PatientKey]]) -> PatientKey | None:
        """Whose logical id it is, whether or not there is such a patient; None for no id.

        ``ask`` tells the patients of studies that satisfy a condition, for ids that hold only a part.
        """
        named = self._named(logical_id)
        if named is None or named.key is not None:
            return None if named is None else named.key
        return next((each for each in ask(named.alike) if _digest(each) == named.digest), None)

    def is_one(self, text: str) -> bool:
        """Whether it is a logical id of such patients at all."""
        return self._named(text) is not None

    def _named(self, logical_id: str) -> _Named | None:
        plain = self._sealing.open(logical_id, *self._about) if len(logical_id) <= LONGEST else None
        if not plain:
            return None
        holds, rest = _Holds(plain[:1]), plain[1:]
        if holds is _Holds.STUDY:
            return _Named(PatientKey("", "", _unpacked(rest)))
        if holds is _Holds.BOTH:
            issuer, _, patient_id = rest.decode("utf-8", "surrogatepass").partition("\0")
            return _Named(PatientKey(issuer, patient_id))
        digest, part = rest[:_DIGEST_BYTES], rest[_DIGEST_BYTES:].decode("utf-8", "surrogatepass")
        return _Named(alike=texts.wildcard(BY_KEYWORD["PatientID"], part), digest=digest)


def _plain(key: PatientKey) -> bytes:
    if not key.patient_id:
        return _Holds.STUDY.value + _packed(key.of_study)
    both = _Holds.BOTH.value + _joined(key)
    if len(both) <= _PLAIN_BYTES:
        return both
    part = key.patient_id.encode("utf-8", "surrogatepass")
    if 1 + _DIGEST_BYTES + len(part) > _PLAIN_BYTES:
        # Numbers that are given one after another differ at their end.
        part = _whole_characters(part[:_BEGIN_BYTES]) + b"*" + _whole_characters(part[-_END_BYTES:])
    return _Holds.PART.value + _digest(key) + part


def _joined(key: PatientKey) -> bytes:
    return f"{key.issuer}\0{key.patient_id}".encode("utf-8", "surrogatepass")


def _digest(key: PatientKey) -> bytes:
    return hashlib.sha256(_joined(key)).digest()[:_DIGEST_BYTES]


def _whole_characters(raw: bytes) -> bytes:
    return raw.decode("utf-8", "ignore").encode()


def _packed(uid: str) -> bytes:
    """A UID in 29 bytes at most: a number to the base of its eleven symbols, after a one."""
    number = 1
    for symbol in uid:
        number = number * len(_UID_SYMBOLS) + _UID_SYMBOLS.index(symbol)
    return number.to_bytes((number.bit_length() + 7) // 8)


def _unpacked(packed: bytes) -> str:
    number, symbols = int.from_bytes(packed), []
    while number > 1:
        number, symbol = divmod(number, len(_UID_SYMBOLS))
        symbols.append(_UID_SYMBOLS[symbol])
    return "".join(reversed(symbols))
