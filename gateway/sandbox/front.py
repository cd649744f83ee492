"""What integrators talk to: the gateway behind, faults when they are asked for, and the sandbox's own operations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.http.problem import MEDIA_TYPE as PROBLEM
from gateway.sandbox.faults import HEADER, Faults, NotAFault, of_document, of_header
from gateway.sandbox.identities import ISSUER_PATH, LIFETIME_S, ROLES, Identities

MARK = ("X-Sandbox", "sample data and known keys; not for patients")
"""On every answer."""
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_OURS = frozenset(
    ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix")
)
_BLOCK_BYTES = 1 << 17
_RESETTING_S = 5
_BANNER = (
    b'<p role="note"><strong>SANDBOX</strong>: sample data and known keys, faults on demand. Not for patients.</p>'
)
_CREDENTIALS = ("Authorization", "X-API-Key", "Cookie")


class Front:
    """Passes requests on, byte for byte, to a gateway that takes its word on who asks; ``backend`` is where that is."""

    def __init__(self, backend: URL, issuer: str, identities: Identities, reset: Callable[[], Awaitable[None]]) -> None:
        self.faults = Faults()
        self.ready = asyncio.Event()
        self._backend = backend
        self._issuer = issuer
        self._identities = identities
        self._reset = reset
        self._resetting = asyncio.Lock()
        self._asked = 0
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """It, as it is served."""
        app = web.Application(client_max_size=1 << 16)
        app.cleanup_ctx.append(self._client)
        app.on_response_prepare.append(_marked)
        app.add_routes(
            [
                web.get("/sandbox", self._state),
                web.put("/sandbox/faults", self._set),
                web.delete("/sandbox/faults", self._clear),
                web.post("/sandbox/reset", self._start_over),
                web.get(f"{ISSUER_PATH}/.well-known/openid-configuration", self._discovery),
                web.get(f"{ISSUER_PATH}/keys", self._keys),
                web.post(f"{ISSUER_PATH}/token", self._token),
                web.route("*", "/{path:.*}", self._forward),
            ]
        )
        return app

    async def _client(self, _: web.Application) -> Any:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as self._session:
            yield

    # The sandbox's own operations

    async def _state(self, _: web.Request) -> web.Response:
        return web.json_response({"sandbox": True, "ready": self.ready.is_set(), "faults": self.faults.document()})

    async def _set(self, request: web.Request) -> web.Response:
        try:
            self.faults = of_document(json.loads(await request.read()))
        except ValueError as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        self._asked = 0
        return await self._state(request)

    async def _clear(self, request: web.Request) -> web.Response:
        self.faults = Faults()
        return await self._state(request)

    async def _start_over(self, request: web.Request) -> web.Response:
        async with self._resetting:
            self.ready.clear()
            self.faults = Faults()
            await self._reset()
            self.ready.set()
        return await self._state(request)

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self._issuer,
                "jwks_uri": f"{self._issuer}/keys",
                "token_endpoint": f"{self._issuer}/token",
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response(self._identities.public_keys())

    async def _token(self, request: web.Request) -> web.Response:
        """A token of a role (RFC 6749 4.4): the role is the client, ``expires_in`` is how long it may be good."""
        form = await request.post()
        role, lifetime = str(form.get("client_id", "")), str(form.get("expires_in", LIFETIME_S))
        if form.get("grant_type") != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if role not in ROLES:
            known = f"client_id is a role: {', '.join(ROLES)}"
            return web.json_response({"error": "invalid_client", "error_description": known}, status=401)
        if not lifetime.isdigit() or int(lifetime) > LIFETIME_S:
            text = f"expires_in: 0 to {LIFETIME_S} seconds"
            return web.json_response({"error": "invalid_request", "error_description": text}, status=400)
        token = self._identities.token(role, self._issuer, int(lifetime))
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": int(lifetime)})

    # Everything else

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        try:
            faults = of_header(request.headers.get(HEADER, ""), self.faults)
        except NotAFault as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error))
        if faults.slow_s:
            await asyncio.sleep(faults.slow_s)
        self._asked += 1
        if faults.unavailable_every and self._asked % faults.unavailable_every == 0:
            return _unavailable("a fault of the sandbox, as it was asked for", faults.retry_after_s)
        if not self.ready.is_set():
            return _unavailable("the sandbox is being reset", _RESETTING_S)
        page = request.method == "GET" and request.path == "/"
        try:
            return await self._passed_on(request, self._headers(request, faults, page=page), page=page)
        except aiohttp.ClientConnectorError:
            return _unavailable("the gateway behind the sandbox does not answer", _RESETTING_S)

    def _headers(self, request: web.Request, faults: Faults, *, page: bool) -> CIMultiDict[str]:
        left_out = (
            _HOP_BY_HOP | _OURS | {HEADER.lower()} | {each.lower() for each in request.headers.getall("Connection", [])}
        )
        found = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in left_out)
        found["X-Forwarded-For"] = request.remote or "127.0.0.1"
        found["X-Forwarded-Proto"] = request.scheme
        found["X-Forwarded-Host"] = request.host
        if faults.expired_token:
            for name in _CREDENTIALS:
                found.popall(name, None)
            found["Authorization"] = f"Bearer {self._identities.token('viewer', self._issuer, -600)}"
        if page:
            # Its text is changed on the way, so that it has to come as it is.
            for name in ("Accept-Encoding", "If-None-Match", "Range"):
                found.popall(name, None)
        return found

    async def _passed_on(self, request: web.Request, headers: CIMultiDict[str], *, page: bool) -> web.StreamResponse:
        assert self._session is not None
        async with self._session.request(
            request.method,
            self._backend.join(URL(request.raw_path, encoded=True)),
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as answer:
            left_out = _HOP_BY_HOP | ({"etag", "content-length"} if page else set())
            kept = CIMultiDict((name, value) for name, value in answer.headers.items() if name.lower() not in left_out)
            if page and answer.content_type == "text/html":
                text = (await answer.read()).replace(b"<title>", b"<title>SANDBOX: ", 1)
                return web.Response(
                    body=text.replace(b"<body>", b"<body>" + _BANNER, 1), status=answer.status, headers=kept
                )
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=kept)
            await response.prepare(request)
            # What breaks off behind breaks off here: the exception ends the connection.
            async for block in answer.content.iter_chunked(_BLOCK_BYTES):
                await response.write(block)
            await response.write_eof()
            return response


async def _marked(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[MARK[0]] = MARK[1]


def _unavailable(detail: str, retry_after_s: int) -> web.Response:
    found = _problem(HTTPStatus.SERVICE_UNAVAILABLE, detail)
    found.headers["Retry-After"] = str(retry_after_s)
    return found


def _problem(status: HTTPStatus, detail: str) -> web.Response:
    """An error in the form of the gateway's own (RFC 9457)."""
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "request": "sandbox",
    }
    return web.Response(status=status.value, body=json.dumps(body).encode(), content_type=PROBLEM)
