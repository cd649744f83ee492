"""Instances of a peer fetched into a directory by C-GET, as Part 10 files named by their UIDs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.calling import heads
from gateway.calling.heads import NoInstance
from gateway.dimse import status
from gateway.dimse.asking import COMMON_CLASSES, NotAnswered, RemoteArchive
from gateway.dimse.commands import Command, Element
from gateway.dimse.messages import Message
from gateway.dimse.received import Received
from gateway.errors import GatewayError
from gateway.exporting.files import NewFile
from gateway.exporting.items import NotExported
from gateway.services.spool import Spooled
from storage.dicom import file_meta
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import InvalidIdentifier, Unreadable

_LISTED = 200
"""UIDs in one request: 64 characters each are well within what peers take."""
_NAMED = 1000
_BLOCK_BYTES = 1 << 18
_STUDY_UID, _SERIES_UID, _SOP_UID, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_ADVICE = (
    "it may send by C-MOVE: `gateway migrate --from PEER --by move` takes it into the archive, or have it sent from "
    "there"
)


@dataclass(slots=True)
class Report:
    """What became of it. ``missing`` are instances that the peer lists and that did not come."""

    studies: int = 0
    listed: int = 0
    gotten: int = 0
    before: int = 0
    size: int = 0
    failed_there: int = 0
    missing: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    """Why, by UIDs."""

    @property
    def is_whole(self) -> bool:
        """Whether everything is there."""
        return not self.missing and not self.wrong and not self.failed_there


@dataclass(frozen=True, slots=True)
class _Inventory:
    """Instances by their place: series and its instances; and their SOP classes, none where the peer does not tell."""

    series: Mapping[str, list[str]]
    sop_classes: frozenset[str]


class Getting:
    """Fetches from one peer.

    Parameters
    ----------
    root
        Gets ``STUDY/SERIES/INSTANCE.dcm``; what is there stays as it is, and is not fetched again.
    source
        AE title of the peer, which each file says that it came from.
    """

    def __init__(self, archive: RemoteArchive, root: Path, limits: Limits, source: str) -> None:
        self._archive = archive
        self._root = root
        self._limits = limits
        self._source = source
        self._progress: Callable[[Report], None] = lambda _: None
        self._made: set[str] = set()
        self._together = False
        self.report = Report()

    def studies(self, keys: Mapping[str, str]) -> list[str]:
        """The studies that a question finds. Raises NotAssociated, NotAnswered, Ended."""
        found = self._archive.find("STUDY", {"StudyInstanceUID": "", **keys})
        return list(dict.fromkeys(uid for each in found if (uid := each.get(_STUDY_UID, ""))))

    def get(self, progress: Callable[[Report], None], study_uid: str, series_uid: str = "", sop_uid: str = "") -> None:
        """Fetch a study, a series of it, or an instance of that.

        Raises
        ------
        NotAssociated, NotAnswered, Ended
            The peer gives nothing more.
        OSError, storage.errors.StorageFull
            There is no place for it.
        """
        self._progress = progress
        if not self._archive.gives_back():
            raise NotAnswered("the peer does not answer C-GET", advice=_ADVICE)
        self.report.studies += 1
        try:
            inventory = self._inventory(study_uid, series_uid, sop_uid)
        except InvalidIdentifier as error:
            self.report.wrong[study_uid] = str(error)
            return
        wanted = {uid: series for series, uids in inventory.series.items() for uid in uids}
        self.report.listed += len(wanted)
        here = {uid for uid, series in wanted.items() if self._path(study_uid, series, uid).exists()}
        self.report.before += len(here)
        self._progress(self.report)
        classes = inventory.sop_classes or COMMON_CLASSES
        whole = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": sop_uid}
        last = NotAnswered("the peer did not send it")
        for attempt in range(2):
            left = wanted.keys() - here - self._made
            if not left and (wanted or attempt):
                break
            self._together = attempt == 1
            requests = (
                self._of(study_uid, inventory, left)
                if wanted and (here or attempt)
                else iter([{keyword: uid for keyword, uid in whole.items() if uid}])
            )
            for keys in requests:
                try:
                    self._retrieve(keys, classes)
                except NotAnswered as error:
                    last = error
        left = wanted.keys() - here - self._made
        self.report.missing += sorted(left)
        if left:
            self.report.wrong[study_uid] = f"{len(left)} of {len(wanted)} instances did not come: {last}"
        elif not wanted and last.status is not None:
            self.report.wrong[study_uid] = str(last)

    def _inventory(self, study_uid: str, series_uid: str, sop_uid: str) -> _Inventory:
        """What the peer lists; nothing where it does not answer the question."""
        series: dict[str, list[str]] = {series_uid: []} if series_uid else {}
        classes: set[str] = set()
        untold = False
        try:
            if not series_uid:
                asked = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": ""}
                series = {each.get(_SERIES_UID, ""): [] for each in self._archive.find("SERIES", asked)}
            for uid, sop_uids in series.items():
                keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": uid, "SOPInstanceUID": sop_uid}
                for each in self._archive.find("IMAGE", {**keys, "SOPClassUID": ""}):
                    sop_uids.append(each.get(_SOP_UID, ""))
                    classes.add(each.get(_SOP_CLASS, ""))
                    untold = untold or not each.get(_SOP_CLASS)
        except NotAnswered:
            return _Inventory({}, frozenset())
        for uid in (study_uid, *series, *(each for uids in series.values() for each in uids)):
            _checked(uid)
        return _Inventory(series, frozenset() if untold else frozenset(classes))

    def _of(self, study_uid: str, inventory: _Inventory, left: set[str]) -> Iterator[dict[str, str]]:
        for series, uids in inventory.series.items():
            asked = [uid for uid in uids if uid in left]
            for start in range(0, len(asked), _LISTED):
                listed = "\\".join(asked[start : start + _LISTED])
                yield {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series, "SOPInstanceUID": listed}

    def _retrieve(self, keys: dict[str, str], classes: frozenset[str]) -> None:
        level = "IMAGE" if "SOPInstanceUID" in keys else "SERIES" if "SeriesInstanceUID" in keys else "STUDY"
        last = self._archive.get(level, keys, classes, self._keep, together=self._together, told=self._told)
        if not self.report.listed:
            # Of what is listed the list says what is missing.
            self.report.failed_there += last.number(Element.FAILED_SUB_OPERATIONS)

    def _told(self, _command: Command) -> None:
        self._progress(self.report)

    def _keep(self, message: Message) -> int:
        """Write one instance; the status of the response."""
        name = message.command.text(Element.AFFECTED_SOP_INSTANCE_UID)
        self.report.wrong.pop(name, None)  # of the first attempt
        try:
            if not isinstance(message.data_set, Received):
                raise NoInstance("without a data set")
            with message.data_set.spooled() as spooled:
                self._write(spooled)
        except (NoInstance, NotExported, InvalidIdentifier, Unreadable, GatewayError) as error:
            # A disk that takes nothing more is no fault of this one: whatever else is raised ends it all.
            if len(self.report.wrong) < _NAMED:
                self.report.wrong[name] = str(error)
            return status.STORE_CANNOT_UNDERSTAND.code
        self._progress(self.report)
        return status.SUCCESS.code

    def _write(self, spooled: Spooled) -> None:
        with spooled.open() as file:
            head = heads.read(file, self._limits, with_place=True)
        path = self._path(head.study_uid, head.series_uid, head.sop_uid)
        if path.exists():
            self._made.add(head.sop_uid)  # sent twice, or there before and sent beside what was asked for
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        new = NewFile(path, fsync=True)
        try:
            meta = file_meta.FileMeta(head.transfer_syntax_uid, head.sop_class_uid, head.sop_uid, self._source)
            new.file.write(file_meta.write(meta))
            with spooled.open() as file:
                file.seek(head.offset)
                shutil.copyfileobj(file, new.file, _BLOCK_BYTES)
            new.publish()
        finally:
            new.close()
        self._made.add(head.sop_uid)
        self.report.gotten += 1
        self.report.size += spooled.size

    def _path(self, study_uid: str, series_uid: str, sop_uid: str) -> Path:
        """Where a file goes. UIDs are digits and dots, which lead nowhere else. Raises InvalidIdentifier."""
        return self._root / _checked(study_uid) / _checked(series_uid) / f"{_checked(sop_uid)}.dcm"


def _checked(uid: str) -> str:
    return ids.checked_uid(uid, "a UID of the peer's")
