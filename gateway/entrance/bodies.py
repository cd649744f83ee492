"""Bodies of requests as values: JSON or a form, checked."""

from __future__ import annotations

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway.errors import InvalidParameter, UnsupportedMediaType

_FORM = "application/x-www-form-urlencoded"


class Body(BaseModel):
    """A body: unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


T = TypeVar("T", bound=Body)


async def read(request: web.Request, kind: type[T]) -> T:
    """The body of a request as JSON, or as a form where every value is a text.

    Raises
    ------
    InvalidParameter
        It is not what is wanted; the message names each place.
    UnsupportedMediaType
        It is of another type.
    """
    try:
        if request.content_type == _FORM:
            return kind.model_validate({name: value for name, value in (await request.post()).items() if value})
        if request.content_type != "application/json":
            raise UnsupportedMediaType(f"application/json or {_FORM}")
        return kind.model_validate_json(await request.read())
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors())
        raise InvalidParameter(faults) from error
    except UnicodeDecodeError as error:
        raise InvalidParameter("the body is not UTF-8") from error
