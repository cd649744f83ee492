"""What a search asks for whatever it is about: paging, totals, and what becomes of parameters that are not known.

FHIR R4 "Search" (https://hl7.org/fhir/R4/search.html), 3.1.1.3 "Unknown and Unsupported Parameters", 3.1.1.5 "Managing
Returned Resources". Without a preference an unknown parameter is refused: what is left out of a question about patients
has other patients' answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import orjson
from aiohttp import web
from multidict import MultiDict, MultiMapping

from gateway.errors import InvalidParameter, UnsupportedMediaType
from gateway.fhir.media_types import FORM
from gateway.services.sealing import Sealing
from storage.index.questions import Position

DEFAULT_COUNT, MOST = 50, 500
MOST_PARAMETERS = 64
MOST_VALUES = 200
"""Alternatives of all parameters about the resource together: how long an index needs grows with their square."""
PAGE = "_page"
COMMON = ("_count", "_format", "_pretty", "_summary", "_total", PAGE)
"""Parameters that every search has."""

_HANDLING = re.compile(r'(?:^|[,;])\s*handling\s*=\s*"?(strict|lenient)"?\s*(?:$|[,;])', re.IGNORECASE)
_SUMMARIES = ("count", "false", "true", "text", "data")
_TOTALS = ("none", "estimate", "accurate")
_ONE_LINE = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True)
class Asked:
    """A search's parameters, those that were passed over left out.

    ``of_resource`` are those about the resource, as they came; ``count`` is 0 where only the number is asked for.
    """

    of_resource: Sequence[tuple[str, str]]
    understood: Sequence[tuple[str, str]]
    count: int
    total: str
    page: str | None

    def query(self, page: str | None = None) -> str:
        """The query of a link: as it was understood, or of another page."""
        if page is None:
            return urlencode(self.understood)
        return urlencode([*((name, text) for name, text in self.understood if name != PAGE), (PAGE, page)])


async def given(request: web.Request) -> MultiMapping[str]:
    """The parameters of a search: those of the URL, and of the form where it is posted.

    Posted they do not stand in the logs of what is between. Raises UnsupportedMediaType, InvalidParameter.
    """
    found = MultiDict(request.query)
    if request.method == "POST" and request.can_read_body:
        if request.content_type != FORM:
            raise UnsupportedMediaType(f"a search is posted as {FORM}")
        try:
            posted = await request.post()
        except (LookupError, UnicodeError) as error:
            raise InvalidParameter("the form is not of the charset that it says, or of UTF-8") from error
        found.extend((name, text) for name, text in posted.items() if isinstance(text, str))
    return found


def parsed(
    request: web.Request,
    given: MultiMapping[str],
    known: Collection[str],
    common: Collection[str] = COMMON,
) -> Asked:
    """Read the parameters of a search. Raises InvalidParameter.

    Parameters
    ----------
    given
        The parameters.
    known
        Names of parameters about the resource, with their modifiers.
    common
        Those of every search that this one has.
    """
    if len(given) > MOST_PARAMETERS:
        raise InvalidParameter(f"more than {MOST_PARAMETERS} parameters")
    lenient, bases = _is_lenient(request), {each.partition(":")[0] for each in known}
    told = ", ".join((*sorted(known), *common))
    understood = []
    for name, text in given.items():
        if name in known or name in common:
            if not text.strip():
                raise InvalidParameter(f"{name}: needs a value")
            if not _ONE_LINE.fullmatch(text):
                raise InvalidParameter(f"{name}: no control characters")
            understood.append((name, text))
        elif name.partition(":")[0] in bases:
            # A modifier changes what is asked, so it is never passed over (3.1.1.4.5 "Modifiers").
            raise InvalidParameter(f"{name[:64]!r}: the modifier is not supported; there are {told}")
        elif not lenient:
            raise InvalidParameter(f"{name[:64]!r} is no search parameter here; there are {told}")
    of_answer = {name: text for name, text in understood if name in common}
    count = _count(of_answer.get("_count"))
    if _one_of("_summary", of_answer.get("_summary", "false"), _SUMMARIES) == "count":
        count = 0
    total = _one_of("_total", of_answer.get("_total", "estimate"), _TOTALS)
    of_resource = [each for each in understood if each[0] not in common]
    if sum(text.count(",") + 1 for _, text in of_resource) > MOST_VALUES:
        raise InvalidParameter(f"more than {MOST_VALUES} values")
    return Asked(of_resource, understood, count, total, of_answer.get(PAGE))


def _is_lenient(request: web.Request) -> bool:
    found = _HANDLING.findall(",".join(request.headers.getall("Prefer", [])))
    return bool(found) and found[0].lower() == "lenient"


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_COUNT
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidParameter("_count: a whole number from 0")
    return min(int(text), MOST)


def _one_of(name: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise InvalidParameter(f"{name}: one of {', '.join(known)}")
    return text


class Pages:
    """Names of places in an answer, which tell nothing of what stands there."""

    def __init__(self, sealing: Sealing, kind: str, tenant: str, view: str) -> None:
        self._sealing = sealing
        self._about = ("page", kind, tenant, view)

    def after(self, position: Position) -> str:
        """What the page after a position is asked for with."""
        return self._sealing.seal(orjson.dumps(position), *self._about)

    def position(self, page: str | None) -> Position | None:
        """The position that a page comes after; None for the first one. Raises InvalidParameter."""
        if page is None:
            return None
        plain = self._sealing.open(page, *self._about)
        if plain is None:
            raise InvalidParameter(f"{PAGE}: take it from a link of the answer before")
        return tuple(orjson.loads(plain))
