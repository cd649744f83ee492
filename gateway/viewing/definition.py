"""What a view is: a part of a tenant, a profile of de-identification, and a secret of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from pydicom.dataset import Dataset

from gateway.deid import burned_in
from gateway.deid.identifiers import DictionaryCleaner, Identifiers
from gateway.deid.profile import Option, Profile
from gateway.deid.pseudonyms import Pseudonyms
from gateway.deid.table import Action
from gateway.imaging import lettering
from storage.dicom import identifiers as ids
from storage.dicom.matching import Condition

MAKING_VERSION = 1
"""Counts up whenever something else is made of the same instance for another reason than the engine's."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_CHARACTERS = 10


class Lettering(Enum):
    """What becomes of text that is found in pixels."""

    UNSEEN = "no"
    """Nobody looks for any."""
    WITHHELD = "withhold"
    BLANKED = "blank"


@dataclass(frozen=True)
class Definition:
    """One view. ``scope`` is over the archive's studies and series as they are stored."""

    name: str
    tenant: ids.Tenant
    scope: Condition
    profile: Profile
    pseudonyms: Pseudonyms
    lettering: Lettering = Lettering.UNSEEN

    @cached_property
    def version(self) -> str:
        """Changes with all that decides how the view speaks, and tells nothing of its secret."""
        decides: tuple[str, ...] = (
            str(MAKING_VERSION),
            self.profile.version,
            burned_in.identity(),
            self.pseudonyms.label("view", self.name),
        )
        if self.lettering is not Lettering.UNSEEN:
            decides += (self.lettering.value, lettering.identity())
        return hashlib.sha256("\n".join(decides).encode()).hexdigest()[:16]

    def uid(self, stored: str) -> str:
        """The UID that the view shows in the place of a stored one."""
        return stored if Option.RETAIN_UIDS in self.profile.options else self.pseudonyms.uid(stored)

    def harvested(self, data_set: Dataset) -> Identifiers:
        """What a data set says of its patient that the view does not show."""
        return Identifiers.harvested(data_set, lambda tag: self.profile.rule(tag).action is Action.K)

    def cleaner(self, known: Identifiers) -> DictionaryCleaner:
        """What takes a patient's identifiers out of texts."""
        return DictionaryCleaner(known, keeps_dates=Option.RETAIN_FULL_DATES in self.profile.options)

    def version_of(self, source: ids.Version, revision: int) -> ids.Version:
        """The version that an instance's version is in the view, the same wherever it is made.

        Its random part is a digest of what it is made of, its time the revision of what was known of the patient then:
        no version tells when an instance arrived, which beside its shifted date would give the shift away.
        """
        digest = hashlib.sha256(f"{source} {self.version}".encode()).digest()
        number = (revision << 80) | (int.from_bytes(digest[:10], "big"))
        return ids.Version("".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5)))


def made_of(version: ids.Version) -> str:
    """The part of a view's version that says what it is made of, whatever was known then."""
    return version[_TIME_CHARACTERS:]
