"""Checkpoints: the heads of all chains, joined, signed and put where whoever can alter the files cannot.

A checkpoint is an object ``.audit/TRAIL/ULID.json``, where no tenant's objects are. Its body is one signed line as in
a chain: the heads that are new since the one before it, and that one's name and hash.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.audit import chain
from gateway.audit.chain import Head
from gateway.audit.key import AuditKey
from gateway.audit.trail import trail_id
from gateway.errors import AuditUnavailable
from storage import records
from storage.dicom import identifiers as ids
from storage.errors import ObjectDamaged, StorageError
from storage.objects.base import ObjectStore

_log = logging.getLogger("gateway.audit")

_LATELY_S = (86_400.0, 40 * 86_400.0)
"""A trail's last checkpoint is looked for among those of so long, one after the other, before all of them."""
_AFTER_ALL = "Z" * 32
"""Greater than every name in a trail's folder."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Heads that were there at a time. ``before`` is the object key and hash of the checkpoint before it."""

    key: str
    heads: tuple[Head, ...]
    before: tuple[str, str] | None
    hash: str
    body: bytes
    key_id: str


def prefix(trail: str) -> str:
    """The common beginning of the keys of a trail's checkpoints."""
    return f"{records.BESIDE}{trail}/"


def dumps(
    object_key: str, heads: Iterable[Head], before: tuple[str, str] | None, signing: AuditKey, time: str
) -> bytes:
    """A checkpoint's body."""
    fields = {
        "time": time,
        "key": signing.id,
        "heads": [each.fields() for each in heads],
        "before": list(before) if before else None,
    }
    return chain.signed(object_key, orjson.dumps(fields)[:-1], signing)


def loads(object_key: str, text: bytes) -> Checkpoint:
    """A checkpoint from its body, its signature not checked. Raises ValueError when it is none."""
    try:
        found = orjson.loads(text)
        heads = tuple(chain.head_of(each) for each in found["heads"])
        before = (str(found["before"][0]), str(found["before"][1])) if found["before"] else None
        key_id = str(found["key"])
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("not a checkpoint") from error
    return Checkpoint(object_key, heads, before, hashlib.sha256(text).hexdigest(), text, key_id)


def is_signed(found: Checkpoint, keys: Mapping[str, AuditKey]) -> bool:
    """Whether one of the keys signed a checkpoint, under this very object key."""
    signing = keys.get(found.key_id)
    return signing is not None and chain.is_signed(found.key, found.body, signing)


def load(objects: ObjectStore, trail: str, since: str = "") -> Iterator[tuple[str, Checkpoint | None]]:
    """The checkpoints of a trail in their order, None for one that cannot be read as such. Raises StorageUnavailable.

    ``since`` is a ULID: those before it are left out.
    """
    for info in objects.list(prefix(trail), f"{prefix(trail)}{since}" if since else ""):
        try:
            yield info.key, loads(info.key, objects.get(info.key))
        except (ValueError, ObjectDamaged):
            yield info.key, None


def trails(objects: ObjectStore) -> list[str]:
    """The trails that have checkpoints. Raises StorageUnavailable."""
    found: list[str] = []
    after = ""
    while (info := next(iter(objects.list(records.BESIDE, after)), None)) is not None:
        found.append(info.key.removeprefix(records.BESIDE).partition("/")[0])
        after = prefix(found[-1]) + _AFTER_ALL
    return found


def span(objects: ObjectStore, trail: str, known: tuple[str, str] | None = None) -> tuple[str, str]:
    """The keys of the first and the last checkpoint of a trail that has any. Raises StorageUnavailable.

    ``known`` is what was found before: only those that came since are looked for.
    """
    if known is not None:
        later = deque(objects.list(prefix(trail), known[1]), maxlen=1)
        return known[0], later[0].key if later else known[1]
    last = _last_key(objects, trail)
    assert last is not None
    return next(iter(objects.list(prefix(trail)))).key, last


def _last_key(objects: ObjectStore, trail: str) -> str | None:
    for since in (*(ids.before_time(time.time() - each) for each in _LATELY_S), ""):
        last = deque(objects.list(prefix(trail), f"{prefix(trail)}{since}"), maxlen=1)
        if last:
            return last[0].key
    return None


def _last(objects: ObjectStore, trail: str) -> tuple[str, str] | None:
    """Key and hash of a trail's last checkpoint."""
    found = _last_key(objects, trail)
    return None if found is None else (found, hashlib.sha256(objects.get(found)).hexdigest())


class Checkpointer:
    """Puts checkpoints of a directory's chains, from a thread of its own and once more at the end.

    Parameters
    ----------
    open_objects
        Called when there is something to put; its error puts it off.
    """

    def __init__(
        self, directory: Path, signing: AuditKey, open_objects: Callable[[], ObjectStore], interval_s: float
    ) -> None:
        self._directory = directory
        self._key = signing
        self._open_objects = open_objects
        self._interval_s = interval_s
        self._known: dict[str, Head] = {}
        self._sizes: dict[Path, int] = {}
        self._before: tuple[str, str] | None = None
        self._looked = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-checkpoints", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._try()

    def stop(self) -> None:
        """Put a last one, when all other processes have ended. Idempotent; what fails is logged."""
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._try()

    def _try(self) -> None:
        try:
            self.put()
        except (StorageError, AuditUnavailable, OSError):
            _log.error("the audit trail's checkpoint could not be put into the object store", exc_info=True)

    def put(self) -> str | None:
        """Put a checkpoint of what is new, if anything is; its object key. Raises OSError, StorageError."""
        new, sizes = self._new_heads()
        if not new:
            return None
        trail = trail_id(self._directory)
        with closing(self._open_objects()) as objects:
            if not self._looked:
                self._before = _last(objects, trail)
                self._looked = True
            object_key = f"{prefix(trail)}{chain.CLOCK.next()}.json"
            time = moment(object_key).isoformat(timespec="milliseconds")
            body = dumps(object_key, new, self._before, self._key, time)
            objects.put(object_key, [body])
        self._before = (object_key, hashlib.sha256(body).hexdigest())
        self._known.update((head.chain, head) for head in new)
        self._sizes.update(sizes)
        return object_key

    def _new_heads(self) -> tuple[list[Head], dict[Path, int]]:
        latest = {each.chain: each for each in chain.files(self._directory)}  # in the order of days
        new: list[Head] = []
        sizes: dict[Path, int] = {}
        for each in latest.values():
            size = each.path.stat().st_size
            if self._sizes.get(each.path) == size:
                continue
            # What a checkpoint names and a power cut takes back would look like what somebody cut off.
            head, _ = chain.durable_head(each.path)
            sizes[each.path] = size
            if head is not None and self._known.get(head.chain) != head:
                new.append(head)
        return new, sizes


def moment(object_key: str) -> datetime.datetime:
    """When a checkpoint was put."""
    ulid = ids.version(object_key.rpartition("/")[2].removesuffix(".json"))
    return datetime.datetime.fromtimestamp(ids.version_time_s(ulid), datetime.UTC)
