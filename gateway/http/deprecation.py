"""Operations that will go, and how their answers say so.

References
----------
RFC 9745 "The Deprecation HTTP Response Header Field", RFC 8594 "The Sunset HTTP Header Field", docs/api.md
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import format_datetime

from aiohttp import web

LEAST_DAYS = 365
"""So long at least an operation stays after it was deprecated."""


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Since when an operation is deprecated, when it may go, what takes its place, and where that is written.

    ``sunset`` is None while it is not known. Raises ValueError for one that comes too soon.
    """

    since: datetime.date
    instead: str
    see: str
    sunset: datetime.date | None = None

    def __post_init__(self) -> None:
        if self.sunset is not None and (self.sunset - self.since).days < LEAST_DAYS:
            raise ValueError(f"an operation stays {LEAST_DAYS} days after it was deprecated; see docs/api.md")

    @property
    def headers(self) -> Mapping[str, str]:
        """What each answer of the operation says, errors too."""
        found = {
            "Deprecation": f"@{int(_midnight(self.since).timestamp())}",
            "Link": f'<{self.see}>; rel="deprecation"; type="text/html"',
        }
        if self.sunset is not None:
            found["Sunset"] = format_datetime(_midnight(self.sunset), usegmt=True)
        return found

    @property
    def text(self) -> str:
        """The same as a sentence of the OpenAPI document."""
        gone = f", and goes on {self.sunset.isoformat()} at the earliest" if self.sunset is not None else ""
        return f"Deprecated since {self.since.isoformat()}{gone}; instead: {self.instead}."


DEPRECATED = web.RequestKey("deprecated", Deprecation)
"""That of the operation that a request asks for."""


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)
