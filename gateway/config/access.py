"""Sections of the settings: who may do what, and who vouches for whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from gateway.config.section import LOOPBACK, Section, TenantName

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
ClaimPath = Annotated[str, Field(min_length=1, max_length=128)]


def secure(url: HttpUrl) -> HttpUrl:
    """An address that keys and secrets may come from or go to. Raises ValueError."""
    if url.scheme != "https" and url.host not in LOOPBACK and url.host != "[::1]":
        raise ValueError("https is needed, but for a host on this machine")
    return url


class IssuerSettings(Section):
    """An OpenID provider whose tokens are accepted: a table ``[[access.issuers]]`` of its own."""

    issuer: str = Field(pattern=r"^https?://\S+$", max_length=512)
    """Its issuer identifier, exactly as it stands in the tokens."""
    audience: str = Field(min_length=1, max_length=256)
    """What has to be in the tokens' ``aud``: how the provider knows this gateway."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
    """Signatures that are accepted. Ed25519 is the newer name of EdDSA (RFC 9864)."""
    jwks_url: HttpUrl | None = None
    """Where its keys are; found by discovery (``/.well-known/openid-configuration``) when absent."""
    ca_bundle: Path | None = None
    """Certificates that it is trusted by, instead of the system's."""
    refresh_s: float = Field(default=10.0, ge=1)
    """Shortest time between two fetches of its keys, however many tokens name a key that is not known."""
    stale_s: float = Field(default=3600.0, ge=0)
    """How long keys that cannot be fetched anew stay good."""
    max_lifetime_s: float = Field(default=86_400.0, gt=0)
    """A token that ends later than so long from now is refused."""
    leeway_s: float = Field(default=60.0, ge=0, le=300)
    """How far its clock and ours may be apart."""
    tenant: TenantName = "main"
    """The tenant of its users, unless ``tenant_claim`` says so."""
    tenant_claim: ClaimPath | None = None
    """The claim that names the tenant; a token without it is refused."""
    name_claim: ClaimPath = "sub"
    """The claim that names the principal in the audit trail."""
    roles_claim: ClaimPath = "roles"
    """The claim with the names of roles, such as realm_access.roles; a list, or words with spaces between."""
    person_claim: ClaimPath = "name"
    """The claim with the person's name as in a data set, for scopes with ``${person}``."""
    attributes: dict[Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")], ClaimPath] = Field(default_factory=dict)
    """More that scopes may ask for: the name after ``$`` and the claim that it comes from."""
    smart: bool = False
    """Whether SMART on FHIR scopes in ``scope`` bound what a token may do, and ``patient`` whom it is about."""
    introspection_url: HttpUrl | None = None
    """Where tokens that are no JWT are asked for (RFC 7662); without it they are refused."""
    client_id: str = ""
    """As whom the gateway asks, there and when somebody logs in with a browser."""
    client_secret: SecretStr = SecretStr("")
    """Its secret; better by ``client_secret_file``."""
    client_secret_file: Path | None = None
    """A file with its secret."""
    login: bool = False
    """Whether the pages offer to log in with this provider; needs ``client_id`` and ``http.public_url``."""
    title: str = Field(default="", max_length=64)
    """How the login page calls it."""

    @field_validator("jwks_url", "introspection_url")
    @classmethod
    def _secure(cls, value: HttpUrl | None) -> HttpUrl | None:
        return None if value is None else secure(value)

    @model_validator(mode="after")
    def _complete(self) -> IssuerSettings:
        secure(HttpUrl(self.issuer))
        if (self.introspection_url or self.login) and not self.client_id:
            raise ValueError("client_id: needed with introspection_url and with login")
        return self


class AccessSettings(Section):
    """Who may do what."""

    policy_file: Path | None = None
    """The policy; without one, callers on this machine may do everything and nobody else anything without a key."""
    issuers: tuple[IssuerSettings, ...] = ()
    """OpenID providers, each in a table ``[[access.issuers]]``."""

    @model_validator(mode="after")
    def _different(self) -> AccessSettings:
        names = [each.issuer for each in self.issuers]
        if len(names) != len(set(names)):
            raise ValueError("issuers: the same issuer stands twice")
        return self
