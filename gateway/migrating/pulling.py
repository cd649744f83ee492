"""One study of an old archive: what it has, what is here, and what is fetched until both are the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.access.door import Decision
from gateway.assembly import Core
from gateway.dimse import status, store
from gateway.dimse.asking import COMMON_CLASSES, NotAnswered, RemoteArchive
from gateway.dimse.ending import Ended
from gateway.dimse.messages import Message
from gateway.dimse.received import Received
from gateway.importing.items import Fate
from gateway.importing.storing import FATES, fate_of
from gateway.migrating import listing
from gateway.migrating.journal import Study
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.errors import InvalidIdentifier, StorageUnavailable
from storage.index.questions import Target

_SERIES_UID, _SOP_UID, _SOP_CLASS = "0020000E", "00080018", "00080016"
_SERIES_INSTANCES = "00201209"
_TRIES = 3
_LISTED = 200
"""UIDs in one request: 64 characters each are well within what peers take."""


@dataclass(slots=True)
class Pulled:
    """What became of one study. ``missing`` are instances that the old archive has and ours has not."""

    instances: int = 0
    missing: tuple[str, ...] = ()
    reason: str = ""
    fates: Counter[Fate] = field(default_factory=Counter)
    size: int = 0
    refused: str = ""
    """Why our archive did not take the last one that it did not take."""

    @property
    def is_whole(self) -> bool:
        """Whether everything is here."""
        return not self.missing and not self.reason


@dataclass(frozen=True, slots=True)
class Inventory:
    """Instances of a study by series, and their SOP classes; none where the old archive does not tell.

    ``told`` is how many it says that there are: more than it lists, where it cuts long answers off. At least one, when
    it says nothing: a study that it lists is not empty.
    """

    series: dict[str, list[str]]
    sop_classes: frozenset[str]
    told: int

    @property
    def sop_uids(self) -> frozenset[str]:
        """Every instance."""
        return frozenset(uid for uids in self.series.values() for uid in uids)


class Puller:
    """Fetches studies, one after the other.

    Parameters
    ----------
    destination
        Our AE title as the old archive knows it, to be sent to by C-MOVE; "" fetches by C-GET.
    """

    def __init__(self, core: Core, archive: RemoteArchive, decision: Decision, destination: str) -> None:
        self._core = core
        self._archive = archive
        self._decision = decision
        self._destination = destination
        self._pulled = Pulled()
        self._together = False

    def inventory(self, study: Study) -> Inventory:
        """What the old archive has of a study. Raises NotAssociated, NotAnswered, Ended."""
        series: dict[str, list[str]] = {}
        numbers: dict[str, int] = {}
        classes: set[str] = set()
        untold = False
        asked = {"StudyInstanceUID": study.uid, "SeriesInstanceUID": "", "NumberOfSeriesRelatedInstances": ""}
        for found in self._archive.find("SERIES", asked):
            uid = found.get(_SERIES_UID, "")
            series[uid] = []
            numbers[uid] = listing.whole_number(found.get(_SERIES_INSTANCES, "")) or 0
        for uid, sop_uids in series.items():
            keys = {"StudyInstanceUID": study.uid, "SeriesInstanceUID": uid, "SOPInstanceUID": "", "SOPClassUID": ""}
            for found in self._archive.find("IMAGE", keys):
                sop_uids.append(found.get(_SOP_UID, ""))
                sop_class = found.get(_SOP_CLASS, "")
                classes.add(sop_class)
                untold = untold or not _is_uid(sop_class)
        told = max(sum(numbers.values()), 1 if study.instances is None else study.instances)
        return Inventory(series, frozenset() if untold else frozenset(classes), told)

    def pull(self, study: Study) -> Pulled:
        """Fetch what is missing of a study, and look whether it has arrived.

        Raises
        ------
        NotAssociated
            The old archive cannot be reached.
        storage.errors.StorageUnavailable
            Ours takes nothing just now.
        """
        pulled = self._pulled = Pulled()
        inventory = self.inventory(study)
        wanted, told = inventory.sop_uids, inventory.told
        here = self._here(study.uid)
        if study.had is not None and len(wanted) <= study.had:
            # Nothing has come to it; what is not here was deleted here.
            pulled.instances = len(wanted & here)
            return pulled
        for attempt in range(_TRIES):
            missing = wanted - here
            if not missing and len(here) >= told:
                break
            try:
                self._together = attempt % 2 == 1
                # What it does not list can only come with the study as a whole.
                if not missing or (not attempt and missing == wanted):
                    self._retrieve("STUDY", {"StudyInstanceUID": study.uid}, inventory)
                else:
                    in_series = attempt == _TRIES - 1
                    self._fetch(_requests(study.uid, inventory.series, missing, in_series=in_series), inventory)
                pulled.reason = ""
            except NotAnswered as error:
                pulled.reason = str(error)
            except Ended as error:
                pulled.reason = f"the association ended: {error}"
                time.sleep(attempt)
            here = self._here(study.uid)
        missing = wanted - here
        pulled.instances = len(wanted & here) if told <= len(wanted) else min(len(here), told)
        pulled.missing = tuple(sorted(missing))
        if not missing and len(here) >= told:
            pulled.reason = ""
        elif missing or pulled.reason or not wanted:
            pulled.reason = self._why(pulled)
        else:
            pulled.reason = f"the peer says that it has {told} instances and lists {len(wanted)}; {len(here)} are here"
        return pulled

    def _why(self, pulled: Pulled) -> str:
        told = pulled.reason or pulled.refused or "the peer did not send all of it"
        if not self._destination or pulled.instances:
            return told
        return (
            f"{told}: does {self._destination!r} stand there for the host and port of this gateway, does it run, and "
            "does the policy here let the peer store into this tenant?"
        )

    def _fetch(self, requests: Iterator[tuple[str, dict[str, str]]], inventory: Inventory) -> None:
        """Ask for one after the other. Raises what _retrieve raises; NotAnswered once everything was asked for."""
        refused: NotAnswered | None = None
        for level, keys in requests:
            try:
                self._retrieve(level, keys, inventory)
            except NotAnswered as error:
                refused = error
        if refused is not None:
            raise refused

    def _retrieve(self, level: str, keys: dict[str, str], inventory: Inventory) -> None:
        if self._destination:
            self._archive.move(level, keys, self._destination)
            return
        classes = inventory.sop_classes or COMMON_CLASSES
        self._archive.get(level, keys, classes, self._keep, together=self._together)

    def _keep(self, message: Message) -> int:
        """Store one instance; the status of the response. Raises StorageUnavailable."""
        try:
            if isinstance(message.data_set, Received):
                self._pulled.size += message.data_set.size
            stored = store.keep(self._core, message, lambda: self._decision)
        except Exception as error:
            fate, reason = fate_of(error)
            if fate is Fate.STOPPED:
                raise StorageUnavailable(reason) from error
            self._pulled.fates[fate] += 1
            self._pulled.refused = f"{fate}: {reason}"
            return status.of_store(error, self._decision.caller.source.request_id).status
        self._pulled.fates[FATES[stored.outcome]] += 1
        return status.SUCCESS.code

    def _here(self, study_uid: str) -> frozenset[str]:
        target = Target(self._decision.tenant, ids.study_uid(study_uid))
        return frozenset(str(each.key.sop_uid) for each in self._core.archive.index.locate(target, EVERYTHING))


def _requests(
    study_uid: str, series: Mapping[str, list[str]], missing: frozenset[str], *, in_series: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """Level and keys for what is missing: lists of it, or its series for archives that know no lists."""
    for series_uid, sop_uids in series.items():
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        asked = [uid for uid in sop_uids if uid in missing]
        if asked and in_series:
            yield "SERIES", keys
            continue
        for start in range(0, len(asked), _LISTED):
            yield "IMAGE", {**keys, "SOPInstanceUID": "\\".join(asked[start : start + _LISTED])}


def is_pullable(study: Study) -> bool:
    """Whether a study has a UID that one can have."""
    return _is_uid(study.uid)


def _is_uid(text: str) -> bool:
    try:
        ids.checked_uid(text, "UID")
    except InvalidIdentifier:
        return False
    return True
