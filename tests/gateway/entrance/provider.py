"""An OpenID provider that people log in at: code flow with PKCE, and whatever a broken or hostile one would answer."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT = "gateway-pages"
KEY = RSAKey.generate_key(2048, {"kid": "one"})


class Provider:
    """One provider; ``url`` is known once it is served."""

    def __init__(self) -> None:
        self.url = ""
        self.is_down = False
        self.claims: dict[str, Any] = {}
        """Claims of the ID token in place of the right ones; None leaves one out."""
        self.answer: dict[str, Any] | None = None
        """Of the token endpoint, in place of tokens."""
        self.forms: list[dict[str, str]] = []
        self.authorizations: list[str] = []
        self._asked: dict[str, dict[str, str]] = {}

    def application(self) -> web.Application:
        """What serves it."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/token", self._token)
        return app

    def authorize(self, address: str) -> tuple[str, str]:
        """Somebody logs in at an address that the gateway sent the browser to; the state and a code."""
        asked = dict(parse_qsl(urlsplit(address).query))
        code = f"code-{len(self._asked)}"
        self._asked[code] = asked
        return asked["state"], code

    async def _discovery(self, _request: web.Request) -> web.Response:
        if self.is_down:
            return web.Response(status=500)
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
            }
        )

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [KEY.as_dict(private=False)]})

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.is_down:
            return web.Response(status=502)
        if self.answer is not None:
            return web.json_response(self.answer)
        asked = self._asked.pop(form["code"], None)
        if asked is None or not _is_right(asked, form):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now_s = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": "ann",
            "roles": ["viewer"],
            "exp": now_s + 300,
            "iat": now_s,
            "nonce": asked["nonce"],
            **self.claims,
        }
        token = jwt.encode(
            {"alg": "RS256", "kid": "one"}, {name: each for name, each in claims.items() if each is not None}, KEY
        )
        return web.Response(text=json.dumps({"id_token": token}), content_type="application/json")


def _is_right(asked: dict[str, str], form: dict[str, str]) -> bool:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
    return (
        asked["code_challenge_method"] == "S256"
        and asked["code_challenge"] == challenge
        and asked["redirect_uri"] == form["redirect_uri"]
        and form["grant_type"] == "authorization_code"
        and form["client_id"] == asked["client_id"]
    )
