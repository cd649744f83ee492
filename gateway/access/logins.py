"""Logging in with an OpenID provider: the authorization code flow with PKCE (RFC 6749 4.1, RFC 7636)."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

from gateway.access.tokens import Tokens, client_secret
from gateway.context import Principal
from gateway.errors import NotFound, Unauthenticated
from storage.control.base import ControlStore, now_s

KIND = "login"
_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A provider that the login page offers: its place in the settings, and how it is called."""

    number: int
    title: str


class Logins:
    """Logins under way. Safe to use from several threads; may wait for a provider."""

    def __init__(self, tokens: Tokens, control: ControlStore) -> None:
        self._providers = list(tokens.providers.values())
        self._tokens = tokens
        self._control = control

    @property
    def choices(self) -> list[Choice]:
        """The providers that somebody can log in with."""
        return [
            Choice(number, each.settings.title or each.settings.issuer)
            for number, each in enumerate(self._providers)
            if each.settings.login
        ]

    def begin(self, number: int, redirect_uri: str, to: str) -> tuple[str, str]:
        """Where to send a browser, and what a cookie has to hold until it is back.

        Raises
        ------
        NotFound
            The provider is none that can be logged in with.
        IdentityUnavailable, storage.errors.StorageUnavailable
        """
        if number not in {each.number for each in self.choices}:
            raise NotFound("there is no such provider")
        provider = self._providers[number]
        address = str(provider.configuration().get("authorization_endpoint", ""))
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        body = {"provider": number, "nonce": nonce, "verifier": verifier, "redirect_uri": redirect_uri, "to": to}
        self._control.put(KIND, _key(state), body, expected=None, expires_at_s=now_s() + _WITHIN_S)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": provider.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}", state

    def complete(self, state: str, code: str) -> tuple[Principal, str]:
        """Who logged in, and where to go on; each state is good once.

        Raises
        ------
        Unauthenticated
            No such login is under way, or the provider's answer is no good.
        IdentityUnavailable, storage.errors.StorageUnavailable
        """
        found = self._control.get(KIND, _key(state))
        if found is None or not self._control.delete(KIND, found.key):
            raise Unauthenticated("no such login is under way; begin again")
        body = found.body
        provider = self._providers[body["provider"]]
        answered = provider.outgoing.post(
            str(provider.configuration().get("token_endpoint", "")),
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": body["redirect_uri"],
                "client_id": provider.settings.client_id,
                "code_verifier": body["verifier"],
            },
            (provider.settings.client_id, client_secret(provider.settings))
            if client_secret(provider.settings)
            else None,
        )
        return self._tokens.logged_in(provider, str(answered.get("id_token", "")), body["nonce"]), body["to"]


def _key(state: str) -> str:
    return hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
