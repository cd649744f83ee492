"""Share links: made, listed and revoked by who may share; opened by who has one."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import Field

from gateway.access.actions import Action
from gateway.access.attempts import digest
from gateway.access.shares import TOKEN_FORM, Share, remaining_s
from gateway.context import Caller, Principal, PrincipalKind
from gateway.entrance import bodies, pages
from gateway.entrance.bodies import Body
from gateway.errors import NotFound, TooManyRequests, Unauthenticated
from gateway.http import callers, roots
from gateway.http.keys import CALLER, CORE, OFFLOAD
from gateway.http.offload import Lane
from gateway.http.route import SHARED, SHARED_PATH, TOKEN, Handler, Route
from storage.dicom import identifiers as ids

_SHARED, _NOTHING = "Somebody shares images with you", "This link shows nothing"


class Wanted(Body):
    """A link to be made."""

    studies: Annotated[tuple[str, ...], Field(min_length=1)]
    days: float = 7.0
    actions: frozenset[Action] = frozenset((Action.SEARCH, Action.READ, Action.RENDER))
    uses: int | None = None
    pin: str = ""
    label: str = ""
    view: str = ""


class Opening(Body):
    """What opens a link."""

    pin: str = ""


async def make(request: web.Request) -> web.StreamResponse:
    """Make a link to studies of the caller's scope."""
    wanted = await bodies.read(request, Wanted)
    core, caller = request.app[CORE], request[CALLER]
    token, made = await request.app[OFFLOAD].run(
        Lane.ACCESS,
        core.sharing.share,
        caller,
        caller.principal.tenant,
        [ids.study_uid(each) for each in wanted.studies],
        days=wanted.days,
        actions=wanted.actions,
        most_uses=wanted.uses,
        pin=wanted.pin,
        label=wanted.label,
        view=wanted.view,
    )
    url = f"{roots.root(request)}{SHARED}/{token}/"
    told = {"url": url, "qr": await request.app[OFFLOAD].run(Lane.ACCESS, _qr, url), **_told(made)}
    return web.json_response(told, status=201, headers={"Cache-Control": "no-store"})


def _qr(url: str) -> str:
    """A link as a picture for the camera of a phone (ISO/IEC 18004); made here, so that nobody else sees it."""
    import segno  # noqa: PLC0415 - few processes ever make one

    return segno.make(url, error="m", micro=False).svg_data_uri(scale=5, border=4, light="#fff")


async def listed(request: web.Request) -> web.StreamResponse:
    """Links, latest first."""
    core, caller = request.app[CORE], request[CALLER]
    found = await request.app[OFFLOAD].run(Lane.ACCESS, core.sharing.every, caller, caller.principal.tenant)
    return web.json_response({"shares": [_told(each) for each in found]}, headers={"Cache-Control": "no-store"})


async def revoke(request: web.Request) -> web.StreamResponse:
    """Make a link no good."""
    core, caller = request.app[CORE], request[CALLER]
    link = request.match_info["link"]
    await request.app[OFFLOAD].run(Lane.ACCESS, core.sharing.revoke, caller, caller.principal.tenant, link)
    return web.Response(status=204)


def _told(share: Share) -> dict[str, object]:
    return {
        "id": share.id,
        "studies": share.studies,
        "actions": sorted(share.actions),
        "label": share.label,
        "view": share.view,
        "madeBy": share.made_by,
        "made": _moment(share.made_at_s),
        "ends": _moment(share.ends_at_s),
        "uses": share.uses,
        "mostUses": share.most_uses,
        "pin": share.has_pin,
        "state": share.fault() or "good",
    }


def _moment(unix_s: float) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).isoformat(timespec="seconds")


# For who has a link


async def to_folder(request: web.Request) -> web.StreamResponse:
    """The page's own links are relative to the folder that it stands in."""
    if not TOKEN_FORM.fullmatch(request.match_info[TOKEN]):
        raise NotFound("there is no such link")  # and no address made of whatever stood there
    return web.Response(status=308, headers={"Location": f"{request.match_info[TOKEN]}/"})


def _looking(page: Callable[[web.Request], web.Response]) -> Handler:
    async def look(request: web.Request) -> web.StreamResponse:
        """The console within a link, or a form to open the link first."""
        try:
            await callers.by_link(request)
        except Unauthenticated:
            return _form()
        except (NotFound, TooManyRequests) as error:
            return pages.refused(error, _NOTHING)
        return page(request)

    return look


async def open_link(request: web.Request) -> web.StreamResponse:
    """Use a link once: JSON for a program, a page for a person."""
    given = await bodies.read(request, Opening)
    core, where = request.app[CORE], callers.source(request)
    token = request.match_info[TOKEN]
    nobody = Caller(Principal("bearer of a link", PrincipalKind.SHARE), where)
    is_form = request.content_type != "application/json"
    try:
        share, secret, ends_at_s = await callers.attempt(
            request, where, digest(token), lambda: core.sharing.open(nobody, token, given.pin)
        )
    except (Unauthenticated, NotFound, TooManyRequests) as error:
        if not is_form:
            raise
        return _form(error) if isinstance(error, Unauthenticated) else pages.refused(error, _NOTHING)
    response: web.Response
    if is_form:
        response = web.Response(status=303, headers={"Location": "./", "Cache-Control": "no-store"})
    else:
        response = web.json_response(
            {"root": f"{roots.root(request)}/dicomweb", **_told(share)}, headers={"Cache-Control": "no-store"}
        )
    response.set_cookie(
        callers.OPENED,
        secret,
        max_age=int(remaining_s(ends_at_s)),
        path=f"{roots.path(request)}/",
        httponly=True,
        samesite="Lax",
        secure=roots.is_secure(request),
    )
    return response


def _form(wrong: Unauthenticated | None = None) -> web.Response:
    content = (
        '<form method="post" action="./">'
        + pages.field(
            "pin",
            "PIN",
            note="if you were given one",
            kind="password",
            more='autocomplete="off" maxlength="64" autofocus',
        )
        + '<button type="submit">Open</button></form>'
        '<p class="muted">Openings are counted. This one is over in 12 hours, or when the link ends.</p>'
    )
    return pages.page(_SHARED, content) if wrong is None else pages.refused(wrong, _SHARED, content)


def routes(page: Callable[[web.Request], web.Response]) -> list[Route]:
    """Links as resources of who may share, and below each link a page, which asks the service root beside it."""
    return [
        Route("POST", "/shares", make, Action.SHARE),
        Route("GET", "/shares", listed, Action.SHARE),
        Route("DELETE", "/shares/{link}", revoke, Action.SHARE),
        Route("GET", SHARED_PATH, to_folder, None),
        Route("GET", f"{SHARED_PATH}/", _looking(page), None),
        Route("POST", f"{SHARED_PATH}/", open_link, None),
    ]
