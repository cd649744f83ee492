"""Who may be tried in a sandbox: a principal for each role, with an API key and tokens of the sandbox's own issuer."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

AUDIENCE = "gateway-sandbox"
ISSUER_PATH = "/sandbox/oidc"
LIFETIME_S = 8 * 3600
ROLES: Mapping[str, str] = {
    "administrator": "everything, but whose pseudonyms are whose",
    "radiologist": "search, read, store and share",
    "viewer": "search and read",
    "ct-viewer": "the same, of series of CT alone",
    "researcher": "the view `research` at /views/research/dicomweb, de-identified",
    "modality": "store",
    "auditor": "the audit trail",
    "reidentifier": "whose the pseudonyms of a view are",
}
"""What each may do."""
_OWN_ROLES = """
[[role]]
name = "ct-viewer"
[[role.rule]]
name = "series of CT"
actions = ["search", "read", "download", "render"]
scope = { Modality = ["CT"] }

[[role]]
name = "researcher"
[[role.rule]]
name = "de-identified"
view = "research"
actions = ["search", "read_deidentified", "render"]

[[principal]]
name = "sandbox-any-ae"
kind = "ae"
ae_title = "*"
networks = ["127.0.0.0/8"]
actions = ["echo", "search", "read", "store"]
"""


@dataclass(frozen=True, slots=True)
class Identities:
    """API keys by role, the password of the administrator, and the issuer's key; the same while the directory is."""

    keys: Mapping[str, str]
    password: str
    signing: ECKey

    def policy(self) -> str:
        """The policy file: those principals, and any AE title here; to be on this machine lets nobody in over HTTP."""
        lines = [
            f'[[principal]]\nname = "sandbox-{role}"\nkind = "api_key"\n'
            f'api_key_sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\nroles = ["{role}"]\n'
            for role, key in self.keys.items()
        ]
        return _OWN_ROLES + "\n" + "\n".join(lines)

    def token(self, role: str, issuer: str, lifetime_s: float = LIFETIME_S) -> str:
        """A token of a role, a JWT; a lifetime below 0 makes one that has ended."""
        now = int(time.time())
        claims = {
            "iss": issuer,
            "aud": AUDIENCE,
            "sub": f"sandbox-{role}",
            "roles": [role],
            # One that has ended was good for an hour before.
            "iat": now - (3600 if lifetime_s < 0 else 0),
            "exp": now + int(lifetime_s),
        }
        return jwt.encode({"alg": "ES256", "kid": self.signing.kid}, claims, self.signing)

    def public_keys(self) -> dict[str, Any]:
        """The keys that its tokens are checked by (RFC 7517 5)."""
        return {"keys": [{**self.signing.as_dict(private=False), "use": "sig", "alg": "ES256"}]}


def load(path: Path) -> Identities:
    """Those of a file, which is made with new ones when it is not there; readable for its owner alone."""
    if not path.exists():
        found = {
            "keys": {role: f"sandbox-{role}-{secrets.token_urlsafe(18)}" for role in ROLES},
            "password": secrets.token_urlsafe(15),
            "signing": ECKey.generate_key("P-256", auto_kid=True).as_dict(private=True),
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
            json.dump(found, file, indent=2)
    given = json.loads(path.read_text(encoding="ascii"))
    return Identities(given["keys"], given["password"], ECKey.import_key(given["signing"]))
