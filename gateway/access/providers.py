"""What an OpenID provider says of itself: its keys and addresses, fetched when needed and not too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.access.outgoing import Outgoing
from gateway.config.access import IssuerSettings
from gateway.errors import IdentityUnavailable

_log = logging.getLogger("gateway.access")

Key = RSAKey | ECKey | OKPKey
_KINDS: Mapping[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_SHORTEST_RSA_BITS = 2048
_MOST_KEYS = 64
_PATIENCE_S = 1.0
"""How long a token waits for keys that another one has fetched: a slow provider does not take every thread."""
_REFETCHED_AFTER_S = 900.0
"""Keys that the provider has dropped are good no longer than so, also when no token names an unknown one."""


class Provider:
    """One provider. Safe to use from several threads."""

    def __init__(self, settings: IssuerSettings) -> None:
        self.settings = settings
        self.outgoing = Outgoing(settings.ca_bundle)
        self._fetching = threading.Lock()
        self._keys: dict[str | None, list[Key]] = {}
        self._configuration: dict[str, Any] | None = None
        self._asking = threading.Lock()
        self._asked_s = -float("inf")
        self._tried_s = -float("inf")
        self._fetched_s = -float("inf")

    def configuration(self) -> dict[str, Any]:
        """What discovery says (OpenID Connect Discovery 1.0, 4.2). Raises IdentityUnavailable."""
        if self._configuration is None:
            base = self.settings.issuer.rstrip("/")
            found = self.outgoing.get(f"{base}/.well-known/openid-configuration")
            if found.get("issuer") != self.settings.issuer:
                raise IdentityUnavailable("the identity provider says that it is another issuer")
            self._configuration = found
        return self._configuration

    def said(self) -> Mapping[str, Any]:
        """What discovery says, or nothing while that is not known; the provider is asked once in ``refresh_s``."""
        if self._configuration is None and self._asking.acquire(blocking=False):
            try:
                if time.monotonic() - self._asked_s >= self.settings.refresh_s:
                    self._asked_s = time.monotonic()
                    self.configuration()
            except IdentityUnavailable as error:
                _log.warning("what %s says of itself cannot be fetched: %s", self.settings.issuer, error)
            finally:
                self._asking.release()
        return self._configuration or {}

    def keys(self, key_id: str | None) -> list[Key]:
        """Keys of an id, or all without one; none when the provider has no such key.

        An unknown id has the keys fetched anew, but at most once in ``refresh_s``.

        Raises
        ------
        IdentityUnavailable
            The keys are not known, or for longer than ``stale_s`` not known to be good.
        """
        if not self._of(key_id):
            if not self._refresh(_PATIENCE_S):
                raise IdentityUnavailable("the keys of the identity provider are being fetched")
        elif self._age_s() > _REFETCHED_AFTER_S:
            self._refresh(0.0)
        if self._age_s() > _REFETCHED_AFTER_S + self.settings.stale_s:
            raise IdentityUnavailable("the keys of the identity provider are not known")
        return self._of(key_id)

    def _age_s(self) -> float:
        return time.monotonic() - self._fetched_s

    def _of(self, key_id: str | None) -> list[Key]:
        if key_id is not None:
            return self._keys.get(key_id, [])
        return [key for keys in self._keys.values() for key in keys]

    def _refresh(self, wait_s: float) -> bool:
        """Fetch the keys unless that was tried lately; False when another thread is longer at it than ``wait_s``."""
        if not self._fetching.acquire(timeout=wait_s):
            return False
        try:
            if time.monotonic() - self._tried_s >= self.settings.refresh_s:
                self._fetch()
        finally:
            self._fetching.release()
        return True

    def _fetch(self) -> None:
        began_s = time.monotonic()
        try:
            url = str(self.settings.jwks_url or self.configuration().get("jwks_uri", ""))
            self._keys = _parsed(self.outgoing.get(url))
            self._fetched_s = began_s
        except IdentityUnavailable as error:
            self._configuration = None  # its keys may have moved
            _log.warning("the keys of %s cannot be fetched: %s", self.settings.issuer, error)
        finally:
            self._tried_s = time.monotonic()

    def close(self) -> None:
        """Let go of its connections."""
        self.outgoing.close()


def _parsed(found: Mapping[str, Any]) -> dict[str | None, list[Key]]:
    """The public signature keys of a key set by their ids (RFC 7517); what is anything else is left out."""
    keys: dict[str | None, list[Key]] = {}
    listed = found.get("keys")
    for each in listed[:_MOST_KEYS] if isinstance(listed, list) else ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        kind = _KINDS.get(str(each.get("kty")))
        key_id = each.get("kid")
        if kind is None or not (key_id is None or isinstance(key_id, str)):
            continue
        try:
            key = kind.import_key(each)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        # With what everybody can read, everybody could sign.
        if key.is_private or (isinstance(key, RSAKey) and key.public_key.key_size < _SHORTEST_RSA_BITS):
            continue
        keys.setdefault(key_id, []).append(key)
    return keys
