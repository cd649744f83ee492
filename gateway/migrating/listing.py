"""Every study that an old archive has, although it may give no more than so many for a question."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway.dimse.asking import NotAnswered, RemoteArchive
from gateway.migrating.journal import Study

FIRST_DAY = datetime.date(1970, 1, 1)
# Archives are known that give 100, 200 or 500 studies and no more, and call that success.
_MANY = 90
_MOST_DIGITS = 9
_STUDY_UID, _STUDY_DATE, _INSTANCES = "0020000D", "00080020", "00201208"
_ASKED = {"StudyInstanceUID": "", "StudyDate": "", "NumberOfStudyRelatedInstances": ""}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which studies; ``keys`` are more of C-FIND, by keyword."""

    since: datetime.date | None = None
    until: datetime.date | None = None
    study_uids: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict)


def studies(archive: RemoteArchive, wanted: Wanted, today: datetime.date) -> Iterator[Study]:
    """The studies; one may come more than once. Raises NotAssociated, NotAnswered, Ended.

    What has a date is asked for in stretches of time with few studies each: an archive that cuts long answers off does
    not say so. One question for everything finds what has no date.
    """
    if wanted.study_uids:
        for uid in wanted.study_uids:
            yield from _found(archive, {**wanted.keys, "StudyInstanceUID": uid})
        return
    if wanted.since is None and wanted.until is None:
        try:
            yield from _found(archive, wanted.keys)
        except NotAnswered as error:
            # Of too many matches it may say so. Anything else the other questions will meet too.
            if error.status is None:
                raise
    # Tomorrow: clocks of modalities are ahead too.
    last = wanted.until or today + datetime.timedelta(days=1)
    yield from _between(archive, wanted.keys, wanted.since or FIRST_DAY, last)


def _between(
    archive: RemoteArchive, keys: Mapping[str, str], first: datetime.date, last: datetime.date
) -> Iterator[Study]:
    if first > last:
        return
    asked = {**keys, "StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}"}
    if first == last:
        yield from _found(archive, asked)
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
    yield from _between(archive, keys, middle + datetime.timedelta(days=1), last)
    yield from _between(archive, keys, first, middle)


def _found(archive: RemoteArchive, keys: Mapping[str, str], most: int | None = None) -> Iterator[Study]:
    for match in archive.find("STUDY", {**_ASKED, **keys}, most):
        uid = match.get(_STUDY_UID, "")
        if uid:
            yield Study(uid, match.get(_STUDY_DATE, ""), number(match.get(_INSTANCES, "")))


def number(text: str) -> int | None:
    """An IS value; None when there is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
