"""The control state in a backup: keys, users and share links, a document a line. Sessions are nothing to bring back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from gateway.access import keys, shares, users
from storage.control.base import ControlStore, Document

_LASTING = (keys.KIND, users.KIND, shares.KIND)
_SECRET = shares.SECRET[0]
_UNDER_WAY = ("restore", "control")


def lines(control: ControlStore) -> Iterator[bytes]:
    """Every lasting document. Passwords and keys are digests in it; secrets of codes and of links are not."""
    for found in _every(control, (*_LASTING, _SECRET)):
        said = {"kind": found.kind, "key": found.key, "expires_at_s": found.expires_at_s, "body": found.body}
        yield json.dumps(said).encode() + b"\n"


def put_back(control: ControlStore, file: Iterable[bytes]) -> tuple[int, int]:
    """Put documents back where there are none at all; how many, and how many were there already.

    Where there are some, all of them stay and none is added: what is missing among them may have been revoked since
    the backup. What an interrupted restore has begun is completed.
    """
    there = sum(1 for _ in _every(control, _LASTING))
    if there and control.get(*_UNDER_WAY) is None:
        return 0, there
    control.put(*_UNDER_WAY, {}, expected=None)
    put = 0
    for line in file:
        said = json.loads(line)
        kind, key = said["kind"], said["key"]
        found = control.get(kind, key)
        # A gateway that has started meanwhile has made a secret of its own, for links that were not there.
        if found is None or kind == _SECRET:
            expected = None if found is None else found.revision
            control.put(kind, key, said["body"], expected=expected, expires_at_s=said["expires_at_s"])
        put += kind != _SECRET
    control.delete(*_UNDER_WAY)
    return put, 0


def _every(control: ControlStore, kinds: Iterable[str]) -> Iterator[Document]:
    for kind in kinds:
        after = ""
        while page := control.list(kind, after):
            yield from page
            after = page[-1].key
