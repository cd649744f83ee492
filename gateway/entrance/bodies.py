"""Bodies of requests as values: JSON or a form, checked."""

from __future__ import annotations

from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.errors import InvalidParameter, UnsupportedMediaType

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_MOST_FAULTS = 5
_LONGEST_PLACE = 64


class Body(BaseModel):
    """A body: unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


T = TypeVar("T", bound=Body)


async def read(request: web.Request, kind: type[T]) -> T:
    """The body of a request as JSON, or as a form where every value is a text and an empty one is none.

    Raises
    ------
    InvalidParameter
        It is not what is wanted; the message names each place, up to five.
    UnsupportedMediaType
        It is of another type.
    """
    try:
        if request.content_type == FORM:
            return kind.model_validate({name: value for name, value in (await request.post()).items() if value})
        if request.content_type != JSON:
            raise UnsupportedMediaType(f"{JSON} or {FORM}")
        return kind.model_validate_json(await request.read(), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidParameter("; ".join(map(_fault, found[:_MOST_FAULTS]))) from error
    except (UnicodeDecodeError, LookupError) as error:
        raise InvalidParameter("the body is not UTF-8") from error


def _fault(found: Any) -> str:
    place = ".".join(map(str, found["loc"])) or "body"
    return f"{place[:_LONGEST_PLACE]}: {found['msg']}"
