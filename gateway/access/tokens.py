"""Tokens of OpenID providers: who shows one, proven by the provider's keys or by asking it.

A JWT access token is taken as RFC 9068 and RFC 8725 have it: an accepted algorithm of a key of the very issuer, an
exact issuer and audience, an end that is near. What a token itself says of keys (jwk, jku, x5u, x5c) is of no account.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning

from gateway.access.claims import principal
from gateway.access.providers import Provider
from gateway.config.access import IssuerSettings
from gateway.context import Principal
from gateway.errors import IdentityUnavailable, Unauthenticated

MAX_TOKEN_BYTES = 16 << 10
_INTROSPECTED_FOR_S = 30.0
_TYPES = frozenset(("jwt", "at+jwt", "application/at+jwt"))
_ENCODED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

Claims = Mapping[str, Any]

warnings.filterwarnings("ignore", category=SecurityWarning)  # which algorithms and keys are good enough, we say


class Tokens:
    """Proves tokens of some providers. Safe to use from several threads; may wait for a provider."""

    def __init__(self, issuers: Sequence[IssuerSettings]) -> None:
        self.providers = {each.issuer: Provider(each) for each in issuers}

    def principal(self, token: str) -> tuple[Principal, float]:
        """Whom a token is of, and until when (Unix time) that may be remembered.

        Raises
        ------
        Unauthenticated
            The token is none, or not of a provider of the settings, or no good.
        IdentityUnavailable
            Whether it is good cannot be found out now.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated("the token is too long")
        parts = token.split(".")
        if len(parts) != 3:
            return self._introspected(token)
        header, claims = _unproven(parts[0]), _unproven(parts[1])
        issuer = claims.get("iss")
        provider = self.providers.get(issuer) if isinstance(issuer, str) else None
        if provider is None:
            raise Unauthenticated("the token is of no issuer that is accepted here")
        _check_signature(token, header, provider)
        until_s = _check_claims(claims, provider.settings)
        return principal(claims, provider.settings), until_s

    def logged_in(self, provider: Provider, id_token: str, nonce: str) -> Principal:
        """Whom an ID token is of, which a provider gave for a login of ours (OpenID Connect Core 1.0, 3.1.3.7).

        Raises
        ------
        Unauthenticated
            It is none, of somebody else, for somebody else, or of another login.
        IdentityUnavailable
        """
        parts = id_token.split(".")
        if len(id_token) > MAX_TOKEN_BYTES or len(parts) != 3:
            raise Unauthenticated("the identity provider gave no ID token")
        header, claims = _unproven(parts[0]), _unproven(parts[1])
        _check_signature(id_token, header, provider)
        settings = provider.settings
        _check_claims(claims, settings.model_copy(update={"audience": settings.client_id}))
        # For several audiences the token has to say that it was given to us.
        is_alone = claims["aud"] in (settings.client_id, [settings.client_id])
        to = claims.get("azp", settings.client_id if is_alone else None)
        if claims.get("nonce") != nonce or to != settings.client_id:
            raise Unauthenticated("the ID token is of another login")
        # Scopes bound what an access token may do; who logs in here does it as itself.
        return principal(claims, settings.model_copy(update={"smart": False}))

    def _introspected(self, token: str) -> tuple[Principal, float]:
        asked = [each for each in self.providers.values() if each.settings.introspection_url is not None]
        if not asked:
            raise Unauthenticated("neither a key nor a token that is known here")
        silent: IdentityUnavailable | None = None
        for provider in asked:
            settings = provider.settings
            try:
                claims = provider.outgoing.post(
                    str(settings.introspection_url), {"token": token}, (settings.client_id, client_secret(settings))
                )
            except IdentityUnavailable as error:
                silent = error  # another one may know it
                continue
            if claims.get("active") is True:
                # Optional in RFC 7662, 2.2: what is said has to be right.
                claims = {"iss": settings.issuer, "aud": settings.audience, "exp": time.time() + 1.0, **claims}
                until_s = min(_check_claims(claims, settings), time.time() + _INTROSPECTED_FOR_S)
                return principal(claims, settings), until_s
        if silent is not None:
            raise silent
        raise Unauthenticated("the token is not active")

    def close(self) -> None:
        """Let go of connections."""
        for provider in self.providers.values():
            provider.close()


def client_secret(settings: IssuerSettings) -> str:
    """The gateway's own secret at a provider. Raises IdentityUnavailable."""
    if settings.client_secret_file is None:
        return settings.client_secret.get_secret_value()
    try:
        return settings.client_secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityUnavailable("access.issuers.client_secret_file cannot be read") from error


def digest(token: str) -> bytes:
    """What a token is remembered by."""
    return hashlib.sha256(token.encode()).digest()


def _unproven(part: str) -> dict[str, Any]:
    """A part of a JWT, nothing of which is proven yet. A name that stands twice would let two readers differ."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name stands twice")
        return found

    try:
        if not _ENCODED.issuperset(part.encode("ascii")):
            raise ValueError("not base64url")
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=once)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise Unauthenticated("the token cannot be read") from error
    if not isinstance(found, dict):
        raise Unauthenticated("the token cannot be read")
    return found


def _check_signature(token: str, header: Claims, provider: Provider) -> None:
    algorithm, key_id = header.get("alg"), header.get("kid")
    if algorithm not in provider.settings.algorithms:
        raise Unauthenticated("the token's algorithm is not accepted")
    if "crit" in header or "b64" in header:
        raise Unauthenticated("the token asks for an extension")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise Unauthenticated("the token is of another type")
    if not (key_id is None or isinstance(key_id, str)):
        raise Unauthenticated("the token's key id is none")
    registry = _only(algorithm)
    for key in provider.keys(key_id):
        try:
            jws.deserialize_compact(token, key, registry=registry)
        except (JoseError, ValueError, TypeError):
            continue
        return
    raise Unauthenticated("the token's signature is not of a key of its issuer")


@cache
def _only(algorithm: str) -> jws.JWSRegistry:
    """One algorithm of the settings, also where joserfc does not recommend it to those who have not asked for it.

    Header parameters that we do not know, such as those of certificates, are of no account; ``crit`` was looked for.
    """
    made = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    made.max_header_length = made.max_payload_length = MAX_TOKEN_BYTES
    return made


def _check_claims(claims: Claims, settings: IssuerSettings) -> float:
    """Refuse what is not meant for us or not now; when it ends (RFC 7519, 4.1)."""
    now_s, leeway_s = time.time(), settings.leeway_s
    if claims.get("iss") != settings.issuer:
        raise Unauthenticated("the token is of another issuer")
    audience = claims.get("aud")
    if settings.audience not in (audience if isinstance(audience, list) else [audience]):
        raise Unauthenticated("the token is for another audience")
    ends_s = _moment(claims, "exp")
    if ends_s is None:
        raise Unauthenticated("the token has no end")
    if ends_s <= now_s - leeway_s:
        raise Unauthenticated("the token has expired")
    if ends_s > now_s + settings.max_lifetime_s + leeway_s:
        raise Unauthenticated("the token ends too late")
    for name in ("nbf", "iat"):
        begins_s = _moment(claims, name)
        if begins_s is not None and begins_s > now_s + leeway_s:
            raise Unauthenticated("the token is not valid yet")
    return ends_s


def _moment(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
        raise Unauthenticated(f"the token's {name} is no time")
    return float(value)
