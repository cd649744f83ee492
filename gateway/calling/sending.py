"""Files of sources to a peer: looked at first, then sent in as few associations as their kinds need."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from gateway.calling import heads
from gateway.calling.heads import Head, NoInstance
from gateway.dimse import told
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import NotAssociated
from gateway.dimse.sending import PLAIN, Kind, Sender, in_turns, is_stored, is_warning
from gateway.importing.items import Fate, Item, Source, Told
from gateway.importing.journal import Journal
from storage.dicom import file_meta, reencode
from storage.dicom.limits import Limits
from storage.errors import StorageError

_NAMED = 1000
_LOST_IN_A_ROW = 3
"""So many instances lost one after the other are no fault of theirs."""


@dataclass(frozen=True, slots=True)
class NotSent:
    """A file that the peer does not have now, and why; ``status`` is the peer's, if it gave one."""

    name: str
    reason: str
    status: int | None = None


@dataclass(slots=True)
class Report:
    """How far it is. ``size`` is the bytes of the files that are done."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    files: int = 0
    total: int = 0
    total_size: int = 0
    size: int = 0
    sent: int = 0
    warned: int = 0
    before: int = 0
    skipped: int = 0
    failed: int = 0
    wrong: list[NotSent] = field(default_factory=list)


class Sending:
    """One run.

    Parameters
    ----------
    journal
        What an earlier run has sent, and what this one sends; None notes nothing.
    report_file
        Takes a JSON line for each file that was not sent, and why.
    """

    def __init__(
        self, sources: Sequence[Source], limits: Limits, journal: Journal | None, report_file: TextIO | None
    ) -> None:
        self._sources = sources
        self._limits = limits
        self._journal = journal
        self._report_file = report_file
        self._lost = 0
        self.report = Report()

    def look(self, progress: Callable[[Report], None]) -> None:
        """Find out what there is, and of which kinds."""
        report = self.report
        for entry in self._entries():
            if isinstance(entry, Told):
                if entry.fate is Fate.SKIPPED:
                    report.skipped += 1
                else:
                    self._fail(entry.name, entry.reason)
            elif self._is_done(entry):
                report.before += 1
            else:
                head = self._head(entry)
                if isinstance(head, Head):
                    report.kinds[head.kind] += 1
                    report.total += 1
                    report.total_size += entry.size
                elif isinstance(head, NoInstance):
                    report.skipped += 1
                else:
                    self._fail(entry.name, str(head))
            progress(report)

    def send(self, sender: Sender, progress: Callable[[Report], None]) -> None:
        """Send it. Raises NotAssociated: what was not sent by then is left."""
        for kinds in in_turns(self.report.kinds):
            wanted = frozenset(kinds)
            for entry in self._entries():
                if isinstance(entry, Told) or self._is_done(entry):
                    continue
                head = self._head(entry)
                # What cannot be read was told of when it was looked at.
                if not isinstance(head, Head) or head.kind not in wanted:
                    continue
                sender.prepare(kinds)
                self._one(sender, kinds, entry, head)
                self.report.files += 1
                self.report.size += entry.size
                progress(self.report)

    def _entries(self) -> Iterator[Item | Told]:
        for number, source in enumerate(self._sources):
            yield from source.entries(number)

    def _is_done(self, entry: Item) -> bool:
        return self._journal is not None and self._journal.fate(entry) is not None

    def _head(self, entry: Item) -> Head | NoInstance | Exception:
        try:
            with self._sources[entry.source].open(entry) as file:
                return heads.read(file, self._limits)
        except NoInstance as none:
            return none
        except (OSError, StorageError) as error:
            return error

    def _one(self, sender: Sender, kinds: Sequence[Kind], entry: Item, head: Head) -> None:
        for attempt in (1, 2):
            try:
                status = self._stored(sender, entry, head)
            except (OSError, StorageError) as error:
                return self._fail(entry.name, str(error))
            except Ended as error:
                # It may have been idle for too long, or not the fault of this instance.
                if attempt == 1:
                    time.sleep(0.1)
                    sender.prepare(kinds)
                    continue
                self._lost += 1
                why = f"the peer ended the association, or did not answer in time: {error}"
                self._fail(entry.name, why)
                if self._lost >= _LOST_IN_A_ROW:
                    raise NotAssociated(why, "its log says why; give the command again to go on") from error
                return None
            break
        self._lost = 0
        if status is None:
            return self._fail(entry.name, self._unacceptable(sender, head))
        if not is_stored(status):
            return self._fail(entry.name, f"the peer answers {told.said(status, meanings=told.OF_STORE)}", status)
        self.report.sent += 1
        self.report.warned += is_warning(status)
        if self._journal is not None:
            self._journal.note([(entry, Told(entry.name, Fate.STORED))])
        return None

    def _stored(self, sender: Sender, entry: Item, head: Head) -> int | None:
        """The status of the response; None when the peer takes it in no transfer syntax that we can give."""
        accepted = sender.accepted(head.sop_class_uid)
        syntax = head.transfer_syntax_uid
        rewritten = syntax not in accepted
        if rewritten:
            plain = [each for each in PLAIN if each in accepted and syntax in file_meta.NATIVE]
            if not plain:
                return None
            syntax = plain[0]
        with self._sources[entry.source].open(entry) as file:
            if rewritten:
                _skip(file.read, head.offset)
                encoding = file_meta.encoding_of(head.transfer_syntax_uid)
                implicit = syntax == file_meta.IMPLICIT_VR_LITTLE_ENDIAN
                data_set = reencode.little_endian(file, encoding, self._limits, implicit=implicit)
            else:
                data_set = heads.data_set(file, head.offset)
            return sender.store((head.sop_class_uid, head.sop_uid), syntax, data_set)

    def _unacceptable(self, sender: Sender, head: Head) -> str:
        name = told.name_of(head.sop_class_uid)
        if not sender.accepted(head.sop_class_uid):
            return f"the peer takes no {name}"
        return f"the peer does not take {name} in {told.name_of(head.transfer_syntax_uid)}"

    def _fail(self, name: str, reason: str, status: int | None = None) -> None:
        report = self.report
        report.failed += 1
        if len(report.wrong) < _NAMED:
            report.wrong.append(NotSent(name, reason, status))
        if self._report_file is not None:
            line = {"file": name, "reason": reason, "status": status}
            self._report_file.write(json.dumps(line) + "\n")


def _skip(read: Callable[[int], bytes], count: int) -> None:
    while count and (block := read(count)):
        count -= len(block)
