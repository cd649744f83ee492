"""What stands for UIDs, patients and other identifiers: HMACs under a view's key, the same wherever they are made."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from gateway.deid.uids import WELL_KNOWN

MIN_KEY_BYTES = 32
# Crockford's alphabet: nothing in it is taken for something else when a person reads it out.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class DateShift:
    """The bounds of a patient's date shift, in whole days, both included; 0 is never taken.

    The default leads into the past only, so that no date lies in the future, and by a month at least.
    """

    low_days: int = -3650
    high_days: int = -31

    def __post_init__(self) -> None:
        if self.low_days > self.high_days or self.low_days == self.high_days == 0:
            raise ValueError(f"date shift: no whole number of days but 0 from {self.low_days} to {self.high_days}")

    def of(self, number: int) -> int:
        """The shift that a random number stands for."""
        spans_zero = self.low_days <= 0 <= self.high_days
        days = self.low_days + number % (self.high_days - self.low_days + (0 if spans_zero else 1))
        return days + 1 if spans_zero and days >= 0 else days


@dataclass(frozen=True, slots=True)
class PseudonymousPatient:
    """What stands for a patient: (0010,0020), (0010,0010), and the days that are added to every date."""

    id: str
    name: str
    shift_days: int


class Pseudonyms:
    """Derives every pseudonym of one view by HMAC-SHA256 under its key, apart by what is named.

    Nothing is stored: workers, hosts and restarts agree because they have the key.
    """

    def __init__(self, key: bytes, shift: DateShift | None = None) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"a key of pseudonyms has at least {MIN_KEY_BYTES} bytes, got {len(key)}")
        self._shift = shift or DateShift()
        self._uid_key, self._patient_key, self._label_key = (
            hmac.digest(key, b"gateway.deid." + domain, "sha256") for domain in (b"uid", b"patient", b"label")
        )

    def uid(self, old: str) -> str:
        """The UID in place of ``old``: 2.25 and 128 bits (PS3.5 B.2); well-known ones (PS3.6 Annex A) are their own."""
        old = old.strip(" \0")
        if not old or old in WELL_KNOWN:
            return old
        digest = hmac.digest(self._uid_key, old.encode("utf-8", "surrogatepass"), "sha256")
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def patient(self, tenant: str, issuer: str, patient_id: str) -> PseudonymousPatient:
        """Who stands for the patient of a Patient ID (0010,0020), as its issuer (0010,0021) and tenant have it.

        A blank Patient ID names nobody: use ``unidentified``.
        """
        if not patient_id.strip():
            raise ValueError("a blank Patient ID belongs to its study alone")
        return self._patient(b"id", tenant, issuer.strip(), patient_id.strip())

    def unidentified(self, tenant: str, study_uid: str) -> PseudonymousPatient:
        """Who stands for the patient of a study without a Patient ID: nobody else is the same."""
        return self._patient(b"study", tenant, study_uid)

    def label(self, domain: str, value: str) -> str:
        """Sixteen characters in place of an identifier of any other kind, apart by ``domain``."""
        return _spelled(hmac.digest(self._label_key, _joined(domain, value), "sha256"), 16)

    def _patient(self, kind: bytes, *names: str) -> PseudonymousPatient:
        digest = hmac.digest(self._patient_key, kind + _joined(*names), "sha256")
        spelled = _spelled(digest, 20)
        return PseudonymousPatient(
            id=f"P{spelled}",
            name=f"Pseudonym^{spelled[:8]}",
            shift_days=self._shift.of(int.from_bytes(digest[16:], "big")),
        )


def _joined(*parts: str) -> bytes:
    """Texts as bytes from which they could be told apart again."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _spelled(digest: bytes, length: int) -> str:
    number = int.from_bytes(digest[:16], "big")
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(length))
