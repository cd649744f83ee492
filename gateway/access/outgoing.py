"""Requests to identity providers: to addresses of the settings and what these say themselves, never of a token."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import urllib3
from pydantic import HttpUrl, ValidationError

from gateway.config.access import secure
from gateway.errors import IdentityUnavailable

_TIMEOUT_S = 5.0
_MAX_BYTES = 1 << 20
_BLOCK_BYTES = 64 << 10


class Outgoing:
    """Fetches JSON, with bounds on time and size; follows no redirect. Safe to use from several threads."""

    def __init__(self, ca_bundle: Path | None = None) -> None:
        context = ssl.create_default_context(cafile=None if ca_bundle is None else str(ca_bundle))
        self._pool = urllib3.PoolManager(
            ssl_context=context, timeout=urllib3.Timeout(total=_TIMEOUT_S), retries=False, maxsize=2
        )

    def get(self, url: str) -> dict[str, Any]:
        """A JSON object from an address. Raises IdentityUnavailable."""
        return self._ask("GET", url)

    def post(self, url: str, form: Mapping[str, str], credentials: tuple[str, str] | None) -> dict[str, Any]:
        """The JSON object that a form is answered with. Raises IdentityUnavailable."""
        headers = {}
        if credentials is not None:
            # RFC 6749, 2.3.1: both parts as a form has them.
            headers = urllib3.make_headers(basic_auth=":".join(map(quote_plus, credentials)))
        return self._ask("POST", url, fields=dict(form), encode_multipart=False, headers=headers)

    def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            secure(HttpUrl(url))
            response = self._pool.request(method, url, redirect=False, preload_content=False, **options)
            try:
                found = json.loads(_body(response)) if response.status == 200 else None
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, ValidationError, ValueError, OSError, RecursionError) as error:
            raise IdentityUnavailable("the identity provider does not answer") from error
        if not isinstance(found, dict):
            raise IdentityUnavailable(f"the identity provider answers with status {response.status}, or not with JSON")
        return found

    def close(self) -> None:
        """Let go of its connections."""
        self._pool.clear()


def _body(response: urllib3.BaseHTTPResponse) -> bytes:
    """What is left of a body, as it was sent: nothing is unpacked. Raises ValueError for too much, or too slow."""
    body, until_s = bytearray(), time.monotonic() + _TIMEOUT_S
    while block := response.read1(_BLOCK_BYTES, decode_content=False):
        body += block
        if len(body) > _MAX_BYTES or time.monotonic() > until_s:
            raise ValueError("the answer is too long")
    return bytes(body)
