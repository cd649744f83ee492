"""A search from its parameters to its Bundle, the same for studies and patients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web

from gateway.access.door import Decision
from gateway.fhir import answers, media_types
from gateway.fhir.asked import Asked, given, parsed
from gateway.fhir.elements import Element
from gateway.fhir.seen import Seen
from gateway.http.keys import OFFLOAD, SHOWN
from gateway.http.offload import Lane
from gateway.services.query import Answer
from gateway.services.question import Query


@dataclass(frozen=True, slots=True)
class Wanted:
    """A question, and the patients that it names: lists of ids, of each of which one has to be the patient's.

    ``literally`` takes Patient IDs among these too.
    """

    query: Query
    patients: Sequence[Sequence[str]] = ()
    literally: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """The resources of a page, as many of its results as fit, and what comes with them."""

    resources: Sequence[Element]
    included: Sequence[Element] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """How resources of a kind are searched for.

    ``parameters`` are names with their modifiers; those ``only_as_stored`` are none of a view. ``wanted`` makes the
    question, ``made`` the resources of some first results of an answer.
    """

    name: str
    parameters: Collection[str]
    wanted: Callable[[web.Request, Asked], Wanted]
    made: Callable[[web.Request, Seen, Decision, Answer, int, Asked], Made]
    only_as_stored: frozenset[str] = frozenset()


async def respond(request: web.Request, kind: Kind) -> web.StreamResponse:
    """Answer a search."""
    parameters = await given(request)
    media_type = media_types.chosen(request, parameters)
    known = frozenset(kind.parameters) - (kind.only_as_stored if request[SHOWN].view.name else frozenset())
    asked = parsed(request, parameters, known)
    wanted = kind.wanted(request, asked)
    bundle = await request.app[OFFLOAD].run(Lane.INDEX, _bundle, request, kind, asked, wanted)
    return answers.answer(bundle, media_type)


def _bundle(request: web.Request, kind: Kind, asked: Asked, wanted: Wanted) -> bytes:
    seen, where = Seen(request), answers.base(request)
    pages = seen.page_names(kind.name)
    after = pages.position(asked.page)
    seen.check_patient(wanted.query.level, [each for named in wanted.patients for each in named])
    service = seen.shown.query
    decision = service.enter(seen.caller, wanted.query)
    of_them = tuple(seen.of_patients(decision, named, literally=wanted.literally) for named in wanted.patients)
    query = dataclasses.replace(wanted.query, conditions=wanted.query.conditions + of_them)
    this = f"{kind.name}?{asked.query()}" if asked.understood else kind.name
    if not asked.count:
        return orjson.dumps(answers.searchset(where, this, None, service.count(decision, query), ()))
    # One more than are shown says whether there are any after them.
    answer = service.search(decision, dataclasses.replace(query, limit=asked.count + 1, after=after))
    made = kind.made(request, seen, decision, answer, min(asked.count, len(answer.results)), asked)
    following = None
    if len(answer.results) > (shown := len(made.resources)) or answer.cut:
        following = f"{kind.name}?{asked.query(pages.after(answer.positions[shown - 1]))}"
    total = answer.total if answer.exact else None
    if total is None and asked.total == "accurate":
        total = service.count(decision, query)
    if asked.total == "none":
        total = None
    return orjson.dumps(answers.searchset(where, this, following, total, made.resources, made.included))
