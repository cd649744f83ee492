"""Query: what QIDO-RS and C-FIND ask, answered from the index under the caller's scope."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass

from gateway.access.actions import Action
from gateway.access.door import Decision, Door
from gateway.config.serving import SearchSettings
from gateway.context import Caller
from gateway.services import results, search_record
from gateway.services.places import Places
from gateway.services.question import Query, asked
from storage.dicom import json_model
from storage.dicom.attributes import Level
from storage.dicom.identifiers import StudyUid
from storage.index.base import Index
from storage.index.questions import Cost, Page, Position, Search, State, Target
from storage.index.stored import Existence

_ROW_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """The results: data sets in the DICOM JSON Model, their RetrieveURLs relative to the service root.

    ``total`` counts all rows (``exact``, or at least so many); ``remaining`` those after this page, unless it began
    after a position; ``unmatched`` describes keys that could not be matched; ``state`` is the one that answered.
    ``positions`` are those of the results, ``changed_at_s`` when each changed last, where that was asked for. ``cut``
    says that the results end before the limit and others follow, since these are long.
    """

    results: tuple[json_model.JsonDataSet, ...]
    total: int
    exact: bool
    remaining: int
    unmatched: tuple[str, ...]
    state: State
    positions: tuple[Position, ...] = ()
    changed_at_s: tuple[float | None, ...] = ()
    cut: bool = False


class QueryService:
    """Searches the index. ``record_values`` puts every value that is asked for on the audit trail."""

    def __init__(self, index: Index, door: Door, settings: SearchSettings, *, record_values: bool = False) -> None:
        self._index = index
        self._door = door
        self._cost = Cost(settings.max_inspected, settings.max_counted, settings.timeout_s)
        self._max_answer_bytes = settings.max_answer_bytes
        self._record_values = record_values
        self._places = Places()

    def enter(self, caller: Caller, query: Query) -> Decision:
        """Ask to search; one decision serves all pages of a question. Raises Forbidden, AuditUnavailable."""
        keys = (*query.keys, *query.told)
        subject = tuple(text for path, text in keys if path in ("0020000D", "0020000E") and len(text) <= 64)
        told = search_record.text(keys, values=self._record_values)
        return self._door.enter(caller, Action.SEARCH, (query.level.name, *subject), told)

    def enter_to_read(self, caller: Caller, level: Level, name: str) -> Decision:
        """Ask to read what is known of one patient or study, by a name that tells nothing of whom.

        Raises Forbidden, AuditUnavailable.
        """
        return self._door.enter(caller, Action.READ, (level.name, name))

    def existence(self, decision: Decision, study_uid: StudyUid) -> Existence:
        """Whether a study is, or was, within the scope of a decision."""
        return self._index.existence(Target(decision.tenant, study_uid), decision.scope)

    def state(self) -> State:
        """The state of the index that a search would be answered from now."""
        return self._index.state()

    def search(self, decision: Decision, query: Query) -> Answer:
        """Answer a question, or a page of one.

        The page may be shorter than the limit where its results are long; what is left remains.

        Raises
        ------
        InvalidQuery
            A key's value is not of its attribute's form, or there are too many.
        storage.errors.SearchTooBroad
            It would cost more than a search may.
        storage.errors.StorageUnavailable
        """
        wanted = results.wanted(query)
        search, unmatched = self._search(decision, query)
        search = dataclasses.replace(search, computed=wanted.computed, versions=wanted.needs_metadata)
        page = self._page(search, query.counted)
        found: list[json_model.JsonDataSet] = []
        room = self._max_answer_bytes
        for row in page.rows:
            result = results.result(row, query, wanted, self._stored)
            # Only what comes from the metadata can be long.
            room -= len(json_model.dumps(result)) if wanted.needs_metadata else _ROW_BYTES
            if found and room < 0:
                break
            found.append(result)
        decision.access.took(matches=len(found))
        remaining = max(0, page.total - query.offset - len(found)) if query.limit or found else 0
        given = page.rows[: len(found)]
        positions, changed = tuple(row.position for row in given), tuple(row.changed_at_s for row in given)
        cut = len(found) < len(page.rows)
        return Answer(tuple(found), page.total, page.exact, remaining, unmatched, page.state, positions, changed, cut)

    def count(self, decision: Decision, query: Query) -> int:
        """How many results a question has, however many. Raises as ``search``."""
        return self._index.count(self._search(decision, query)[0])

    def _search(self, decision: Decision, query: Query) -> tuple[Search, tuple[str, ...]]:
        found = asked(query)
        search = Search(
            tenant=decision.tenant,
            level=query.level,
            conditions=tuple(found.conditions),
            in_study=tuple(found.in_study),
            metadata=tuple(found.metadata),
            scope=decision.scope,
            limit=query.limit,
            offset=query.offset,
            after=query.after,
            snapshot=query.snapshot,
            changes=query.changes,
            changed=query.changed,
            cost=self._cost,
        )
        return search, tuple(found.unmatched)

    def _stored(self, version_id: int | None) -> bytes:
        if version_id is None:
            return b"{}"
        (text,) = self._index.metadata([version_id])
        return text

    def _page(self, search: Search, counted: int) -> Page:
        """A page of a search, entered at the nearest known place before it."""
        # Whatever the bound, there is an answer to whether anything remains.
        counted = max(search.cost.max_counted, search.offset + search.limit + 1, counted)
        search = dataclasses.replace(search, cost=dataclasses.replace(search.cost, max_counted=counted))
        if search.after is not None:
            return self._index.page(search)
        if search.offset:
            state = self._index.state()
            question = _question(search, state)
            total = self._places.total(question)
            place = self._places.before(question, search.offset)
            if place is not None:
                nearer = dataclasses.replace(search, offset=search.offset - place[0], after=place[1])
                page = self._index.page(nearer, total)
                if page.state == state:
                    self._note(search, page)
                    return page
        page = self._index.page(search)
        self._note(search, page)
        return page

    def _note(self, search: Search, page: Page) -> None:
        if page.rows:
            question = _question(search, page.state)
            position = page.rows[-1].position
            total = page.total if page.exact else None
            self._places.note(question, total, search.offset + len(page.rows), position)


def _question(search: Search, state: State) -> Hashable:
    """What names the rows of a question in their order, whichever page is asked for."""
    return dataclasses.replace(
        search, limit=0, offset=0, after=None, computed=frozenset(), versions=False, cost=Cost()
    ), state
