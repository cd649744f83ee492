"""Notes that a view keeps of its own, beside its objects: small, rewritten, and made again when they are lost."""

from __future__ import annotations

import json
from typing import Any

from storage.errors import ObjectExists, ObjectNotFound
from storage.objects.base import ObjectStore

Note = dict[str, Any]
_TRIES = 5


class Notes:
    """Notes by name, each with a revision, as objects that are never rewritten: the latest one counts.

    Parameters
    ----------
    folder
        Before every key, with a slash at its end.
    """

    def __init__(self, objects: ObjectStore, folder: str) -> None:
        self._objects = objects
        self._folder = folder

    def read(self, name: str) -> tuple[Note, int]:
        """The note of a name and its revision, counted from 1; an empty one and 0 where there is none."""
        for _ in range(_TRIES):
            keys = self._keys(name)
            if not keys:
                break
            try:
                return json.loads(self._objects.get(keys[-1])), _revision(keys[-1])
            except ObjectNotFound:
                continue  # a later one took its place just now
        return {}, 0

    def write(self, name: str, note: Note, revision: int) -> bool:
        """Put a note in the place of the one of a revision; False when somebody else did before."""
        before = self._keys(name)
        if before and _revision(before[-1]) > revision:
            return False
        try:
            self._objects.put(f"{self._folder}{name}/{revision + 1:012}", [json.dumps(note).encode()])
        except ObjectExists:
            return False
        for key in before:
            self._objects.delete(key)
        return True

    def forget(self, name: str) -> None:
        """Remove a note; none is no error."""
        for key in self._keys(name):
            self._objects.delete(key)

    def _keys(self, name: str) -> list[str]:
        return [info.key for info in self._objects.list(f"{self._folder}{name}/")]


def _revision(key: str) -> int:
    return int(key.rpartition("/")[2])
