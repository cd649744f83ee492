"""Requests to identity providers: to addresses of the settings and what these say themselves, never of a token."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import urllib3
from pydantic import HttpUrl, ValidationError

from gateway.config.access import secure
from gateway.errors import IdentityUnavailable

_TIMEOUT_S = 5.0
_MAX_BYTES = 1 << 20


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
        headers = urllib3.make_headers(basic_auth=":".join(credentials)) if credentials is not None else {}
        return self._ask("POST", url, fields=dict(form), encode_multipart=False, headers=headers)

    def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            secure(HttpUrl(url))
            response = self._pool.request(method, url, redirect=False, preload_content=False, **options)
            try:
                body = response.read(_MAX_BYTES + 1, decode_content=True)
            finally:
                response.close()
            found = json.loads(body) if response.status == 200 and len(body) <= _MAX_BYTES else None
        except (urllib3.exceptions.HTTPError, ValidationError, ValueError, OSError) as error:
            raise IdentityUnavailable("the identity provider does not answer") from error
        if not isinstance(found, dict):
            raise IdentityUnavailable(f"the identity provider answers with status {response.status}, or not with JSON")
        return found

    def close(self) -> None:
        """Let go of its connections."""
        self._pool.clear()
