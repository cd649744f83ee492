"""An OpenID provider on this machine: discovery, keys, introspection; and a listener that hopes to be asked."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.config.access import IssuerSettings

Answer = bytes | dict[str, Any] | Callable[[BaseHTTPRequestHandler], None]
AUDIENCE = "gateway"
DISCOVERY, KEYS, INTROSPECT = "/.well-known/openid-configuration", "/keys", "/introspect"
SIGNED_BY_ALL = ("RS256", "RS512", "PS256", "ES256", "EdDSA", "Ed25519", "HS256", "none")


class Listener:
    """An HTTP server that answers what it was told to, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.forms: list[dict[str, list[str]]] = []
        self.authorizations: list[str] = []
        self.answers: dict[str, Answer] = {}
        self.delay_s = 0.0
        self.is_down = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked[self.path] += 1
                time.sleep(outer.delay_s)
                answer = outer.answers.get(self.path)
                if outer.is_down or answer is None:
                    self.send_error(500)
                elif callable(answer):
                    answer(self)
                else:
                    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def do_POST(self) -> None:
                outer.forms.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
                outer.authorizations.append(self.headers.get("Authorization", ""))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Issuer(Listener):
    """A provider with one RSA key, unless told otherwise."""

    def __init__(self, key: RSAKey) -> None:
        super().__init__()
        self.key = key
        self.answers[DISCOVERY] = {"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}"}
        self.publish(key)

    def publish(self, *keys: RSAKey | ECKey | OKPKey | dict[str, Any]) -> None:
        """Have these keys, and no other."""
        found = [each if isinstance(each, dict) else each.as_dict(private=False) for each in keys]
        self.answers[KEYS] = {"keys": found}

    def settings(self, **values: Any) -> IssuerSettings:
        """Settings of a gateway that accepts its tokens."""
        return IssuerSettings.model_validate({"issuer": self.url, "audience": AUDIENCE, **values})

    def claims(self, **values: Any) -> dict[str, Any]:
        """Claims that are all right; None leaves one out."""
        now_s = int(time.time())
        found = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "exp": now_s + 300,
            "iat": now_s,
            "roles": ["viewer"],
            **values,
        }
        return {name: value for name, value in found.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """A token that it signed."""
        return self.signed(json.dumps(self.claims(**claims)).encode(), header, key)

    def signed(self, payload: bytes, header: dict[str, Any] | None = None, key: Any = None) -> str:
        """Any bytes, signed."""
        key = key or self.key
        found = {"alg": "RS256", "typ": "at+jwt", "kid": key.kid, **(header or {})}
        return sign({name: value for name, value in found.items() if value is not None}, payload, key)


def sign(header: dict[str, Any], payload: bytes, key: RSAKey | ECKey | OKPKey | OctKey) -> str:
    """A compact JWS, however unwise."""
    registry = jws.JWSRegistry(algorithms=list(SIGNED_BY_ALL), strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = 1 << 20
    return jws.serialize_compact(header, payload, key, registry=registry)


def rsa_key(name: str = "one", bits: int = 2048) -> RSAKey:
    """A fresh key."""
    return RSAKey.generate_key(bits, {"kid": name})


@contextmanager
def issuer(key: RSAKey) -> Iterator[Issuer]:
    """A provider for a while."""
    found = Issuer(key)
    yield found
    found.close()
