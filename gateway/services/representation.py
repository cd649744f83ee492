"""What names a representation: everything that can change the bytes that go out, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.access.door import View

CORRECTION_REVISION = 0
"""Of the corrections applied on the way out; none exist yet, the place in the tuple does."""


def etag(view: View, base_url: str, versions: Iterable[str], *parameters: str) -> str:
    """A strong entity tag, quotes included, of (versions, view, corrections, service root, parameters)."""
    digest = hashlib.sha256()
    for part in (view.name, view.version, str(CORRECTION_REVISION), base_url, *parameters):
        digest.update(f"{len(part)}:{part}".encode())
    for version in versions:
        digest.update(version.encode())
    return f'"{digest.hexdigest()[:32]}"'
