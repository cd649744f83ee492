"""The query service: pages are entered where the last one ended, and nothing depends on it."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.context import Caller, Source
from gateway.services.places import MAX_PLACES, MAX_QUESTIONS, Places
from gateway.services.query import QueryService
from gateway.services.question import Query
from storage.archive import Sender
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Conflict
from storage.index.questions import Page, Search, Target
from tests.callers import THIS_MACHINE
from tests.instances import data_set, encode, extract

LOOPBACK = Caller(THIS_MACHINE, Source("test", "127.0.0.1"))


class Watched:
    """An index that notes the searches it is asked."""

    def __init__(self, core: Core) -> None:
        self._index = core.archive.index
        self.asked: list[Search] = []
        self.totals: list[int | None] = []

    def page(self, search: Search, total: int | None = None) -> Page:
        self.asked.append(search)
        self.totals.append(total)
        return self._index.page(search, total)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)


def store(core: Core, **values: Any) -> None:
    body = encode(data_set(**values))
    tenant = ids.tenant("main")
    core.archive.store(tenant, core.archive.new_version(), extract(body), [body], Sender(), Conflict.VERSION)


@pytest.fixture
def watched(core: Core) -> Iterator[tuple[Watched, QueryService]]:
    for number in range(12):
        store(core, StudyDate=f"202601{number % 5 + 1:02}")
    index = Watched(core)
    return index, QueryService(index, core.door, core.settings.search)  # type: ignore[arg-type]


def ask(service: QueryService, query: Query) -> list[str]:
    decision = service.enter(LOOPBACK, query)
    return [result["0020000D"]["Value"][0] for result in service.search(decision, query).results]


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.INSTANCE])
def test_a_page_is_entered_where_the_last_one_ended(watched: tuple[Watched, QueryService], level: Level) -> None:
    index, service = watched
    whole = ask(service, Query(level))
    index.asked.clear()
    index.totals.clear()
    pages = [ask(service, Query(level, limit=5, offset=offset)) for offset in (0, 5, 10)]
    assert [each for page in pages for each in page] == whole
    assert [(each.offset, each.after is not None) for each in index.asked] == [(0, False), (0, True), (0, True)]
    # Counted once.
    assert index.totals == [None, 12, 12]
    assert ask(service, Query(level, limit=2, offset=7)) == whole[7:9]
    assert (index.asked[-1].offset, index.asked[-1].after is not None) == (2, True)


def test_a_place_is_forgotten_when_anything_changes(watched: tuple[Watched, QueryService], core: Core) -> None:
    index, service = watched
    ask(service, Query(Level.STUDY, limit=5))
    store(core, StudyDate="20270101")
    second = ask(service, Query(Level.STUDY, limit=5, offset=5))
    assert index.asked[-1].after is None
    assert second == ask(service, Query(Level.STUDY))[5:10]


def test_a_change_between_looking_and_asking_is_noticed(watched: tuple[Watched, QueryService], core: Core) -> None:
    index, service = watched
    ask(service, Query(Level.STUDY, limit=5))
    page = index.page

    def change_first(search: Search, total: int | None = None) -> Page:
        index.page = page  # type: ignore[method-assign]
        store(core, StudyDate="20270101")
        return page(search, total)

    index.page = change_first  # type: ignore[method-assign]
    second = ask(service, Query(Level.STUDY, limit=5, offset=5))
    assert second == ask(service, Query(Level.STUDY))[5:10]


def test_in_a_snapshot_places_outlive_changes(watched: tuple[Watched, QueryService], core: Core) -> None:
    _index, service = watched
    snapshot = service.state().change
    first = Query(Level.STUDY, limit=5, snapshot=snapshot)
    whole = ask(service, dataclasses.replace(first, limit=100))
    assert len(whole) == 12
    ask(service, first)
    store(core, StudyDate="20270101")
    assert ask(service, dataclasses.replace(first, offset=5)) == whole[5:10]


def test_pages_of_a_snapshot_are_whole_beside_a_writer(core: Core) -> None:
    service = QueryService(core.archive.index, core.door, core.settings.search)
    tenant = ids.tenant("main")
    for number in range(30):
        store(core, StudyInstanceUID=f"1.2.{number}", StudyDate=f"202601{number % 9 + 1:02}")
    snapshot = service.state().change
    whole = ask(service, Query(Level.STUDY))
    stop = threading.Event()

    def write() -> None:
        for number in itertools.cycle(range(30)):
            store(core, StudyDate=f"202601{number % 9 + 1:02}")
            target = Target(tenant, ids.study_uid(f"1.2.{number}"))
            core.archive.delete(target, core.archive.index.versions(target, EVERYTHING))
            if stop.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for limit in (1, 4, 7, 30):
            pages = [
                ask(service, Query(Level.STUDY, limit=limit, offset=offset, snapshot=snapshot))
                for offset in range(0, 31, limit)
            ]
            assert [each for page in pages for each in page] == whole
    finally:
        stop.set()
        writer.join()
    assert ask(service, Query(Level.STUDY)) != whole


def test_places_are_bounded() -> None:
    places = Places()
    for question in range(MAX_QUESTIONS + 10):
        places.note(question, 1, 1, ("a",))
    assert places.before(0, 5) is None
    assert places.before(MAX_QUESTIONS, 5) == (1, ("a",))
    for offset in range(2 * MAX_PLACES):
        places.note("long", 1, offset, (offset,))
    assert places.before("long", 10**9) == (MAX_PLACES - 1, (MAX_PLACES - 1,))
    assert places.before("long", 3) == (3, (3,))
