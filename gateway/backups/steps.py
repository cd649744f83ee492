"""Procedure steps in a backup, one a line: what is scheduled and what was performed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from storage.control.steps import Kind, Step, Steps
from storage.dicom.identifiers import Tenant


def lines(steps: Steps) -> Iterator[bytes]:
    """Every step, with whose it is: as secret as the archive."""
    for each in steps.every():
        said = {"tenant": each.tenant, "kind": each.kind, "uid": each.uid, "state": each.state, "body": each.body}
        yield json.dumps(said).encode() + b"\n"


def put_back(steps: Steps, file: Iterable[bytes]) -> tuple[int, int]:
    """Put those back that are not there; how many, and how many were there and stay as they are."""
    put = known = 0
    for line in file:
        said = json.loads(line)
        step = Step(Tenant(said["tenant"]), Kind(said["kind"]), said["uid"], said["state"], said["body"])
        if steps.put((step, None)):
            put += 1
        else:
            known += 1
    return put, known
