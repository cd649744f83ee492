"""Every study that an old archive has, although it may give no more than so many for a question."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.dimse.asking import NotAnswered, RemoteArchive
from gateway.migrating.journal import Study

FIRST_DAY = datetime.date(1900, 1, 1)
_A_DAY = datetime.timedelta(days=1)
_MINUTES = 24 * 60
# Archives are known that give 100, 200 or 500 studies and no more, and call that success.
_MANY = 90
_MOST_DIGITS = 9
_STUDY_UID, _STUDY_DATE, _INSTANCES = "0020000D", "00080020", "00201208"
_ASKED = {"StudyInstanceUID": "", "StudyDate": "", "NumberOfStudyRelatedInstances": ""}
OWN_KEYS = frozenset((*_ASKED, "StudyTime", "QueryRetrieveLevel", "SpecificCharacterSet"))
"""What is asked for in ways that more keys would be in the way of."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which studies; ``keys`` are more of C-FIND, by keyword."""

    since: datetime.date | None = None
    until: datetime.date | None = None
    study_uids: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)


def studies(archive: RemoteArchive, wanted: Wanted, today: datetime.date) -> Iterator[Study]:
    """The studies; one may come more than once. Raises NotAssociated, NotAnswered, Ended.

    What has a date is asked for in stretches of time with few studies each, of hours and minutes where a day has many:
    an archive that cuts long answers off does not say so. One question for everything finds what has no date.
    """
    if wanted.study_uids:
        for uid in wanted.study_uids:
            yield from _found(archive, {**wanted.keys, "StudyInstanceUID": uid})
        return
    if wanted.since is None and wanted.until is None:
        yield from _as_far_as_answered(archive, wanted.keys)
    # Tomorrow: clocks of modalities are ahead too. Beyond it, and before the first day, are few if any.
    last = wanted.until or today + _A_DAY
    if wanted.until is None:
        yield from _as_far_as_answered(archive, {**wanted.keys, "StudyDate": f"{last + _A_DAY:%Y%m%d}-"})
    yield from _between(archive, wanted.keys, wanted.since or FIRST_DAY, last)
    if wanted.since is None:
        yield from _as_far_as_answered(archive, {**wanted.keys, "StudyDate": f"-{FIRST_DAY - _A_DAY:%Y%m%d}"})


def _as_far_as_answered(archive: RemoteArchive, keys: Mapping[str, str]) -> Iterator[Study]:
    try:
        yield from _found(archive, keys)
    except NotAnswered as error:
        # Of too many matches it may say so. Anything else the other questions will meet too.
        if error.status is None:
            raise


def _between(
    archive: RemoteArchive, keys: Mapping[str, str], first: datetime.date, last: datetime.date
) -> Iterator[Study]:
    if first > last:
        return
    asked = {**keys, "StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}"}
    if first == last:
        yield from _of_day(archive, asked)
        return
    try:
        found = list(_found(archive, asked, _MANY))
    except NotAnswered as error:
        if error.status is None:
            raise
        found = []
        complete = False
    else:
        complete = len(found) < _MANY
    if complete:
        yield from found
        return
    middle = first + (last - first) // 2
    # The later half first: what an interrupted listing has found is what people ask for.
    yield from _between(archive, keys, middle + _A_DAY, last)
    yield from _between(archive, keys, first, middle)


def _of_day(archive: RemoteArchive, asked: Mapping[str, str]) -> Iterator[Study]:
    """What a day has, also what has no time; where that may be cut off, by the time of the day too."""
    found = list(_found(archive, asked))
    yield from found
    if len(found) < _MANY:
        return
    # Study Time is a required key (PS3.4 Table C.6-5), and yet there are archives that look at days alone.
    of_a_second = list(_found(archive, {**asked, "StudyTime": "000000-000001"}, _MANY))
    if len(of_a_second) < _MANY:
        yield from _of_minutes(archive, asked, 0, _MINUTES)


def _of_minutes(archive: RemoteArchive, asked: Mapping[str, str], first: int, last: int) -> Iterator[Study]:
    """From one minute of the day to another, that included: fractions of a second are not left out in between."""
    until = f"{last // 60:02}{last % 60:02}00" if last < _MINUTES else ""
    is_one = last - first == 1
    stretch = {**asked, "StudyTime": f"{first // 60:02}{first % 60:02}00-{until}"}
    found = list(_found(archive, stretch, None if is_one else _MANY))
    if is_one or len(found) < _MANY:
        yield from found
        return
    middle = (first + last) // 2
    yield from _of_minutes(archive, asked, middle, last)
    yield from _of_minutes(archive, asked, first, middle)


def _found(archive: RemoteArchive, keys: Mapping[str, str], most: int | None = None) -> Iterator[Study]:
    for match in archive.find("STUDY", {**_ASKED, **keys}, most):
        number = whole_number(match.get(_INSTANCES, ""))
        yield Study(match.get(_STUDY_UID, ""), match.get(_STUDY_DATE, ""), number)


def whole_number(text: str) -> int | None:
    """An IS value; None when there is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
