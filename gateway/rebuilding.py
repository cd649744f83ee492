"""A new index beside the old one, which takes its place when it is whole, and neither while a gateway runs on it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from gateway import assembly, stores
from gateway.config import InvalidSettings, Settings
from storage.archive import Archive
from storage.index.base import Index

_IN_USE = "gateway.lock"
_LEAVING_S = 5.0
"""For so long a server may not have noticed that a session was closed; it takes longer when it is busy."""
_PAUSE_S = 0.05


@contextmanager
def not_meanwhile(settings: Settings) -> Iterator[None]:
    """Keep the index from being rebuilt as long as the block runs. Raises InvalidSettings when it is just now."""
    with _held(settings, fcntl.LOCK_SH, "the index is being rebuilt; wait until `gateway reindex` has ended"):
        yield


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep gateways and rebuilds of the index away as long as the block runs. Raises InvalidSettings."""
    with _held(settings, fcntl.LOCK_EX, "a gateway runs on this directory, or a reindex; stop it first"):
        yield


@contextmanager
def rebuilding(settings: Settings, *, anew: bool = False, leaving_s: float = _LEAVING_S) -> Iterator[Archive]:
    """An archive with a new index, which takes the place of the old one when the block ends well.

    The old one is kept beside it under the time's name. When the block breaks off the old one stays where it was, and
    the next block goes on with what there is of the new one, unless ``anew``.

    On PostgreSQL the sessions of a gateway or a rebuild that was stopped just now have ``leaving_s`` to end.

    Raises
    ------
    InvalidSettings
        A gateway runs on the index, or another rebuild.
    """
    stores.check_places(settings)
    with _held(settings, fcntl.LOCK_EX, "a gateway runs on this directory, or another reindex; stop it first"):
        if settings.index.engine == "sqlite":
            yield from _sqlite(settings, anew)
        else:
            yield from _postgres(settings, anew, leaving_s)


@contextmanager
def _held(settings: Settings, how: int, otherwise: str) -> Iterator[None]:
    directory = settings.storage.directory
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    handle = os.open(directory / _IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidSettings([f"storage.directory: {otherwise}"]) from error
        yield
    finally:
        os.close(handle)


def _sqlite(settings: Settings, anew: bool) -> Iterator[Archive]:
    path = assembly.index_path(settings)
    fresh = path.with_name(path.name + ".rebuilding")
    if anew:
        for suffix in ("", "-wal", "-shm"):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    yield from _filled(settings, assembly.index(settings, fresh, any_age=True))
    aside = (path.with_name(f"{path.name}.{name}") for name in _names())
    _rename(path, next(each for each in aside if not each.exists()))
    _rename(fresh, path)


def _names() -> Iterator[str]:
    """The time's name, and others for when that is taken."""
    now = time.strftime("%Y%m%dT%H%M%S")
    yield now
    yield from (f"{now}-{number}" for number in count(2))


def _postgres(settings: Settings, anew: bool, leaving_s: float) -> Iterator[Archive]:
    where = assembly.postgres_settings(settings)
    from storage.index.postgres_schemas import Schemas  # noqa: PLC0415 - psycopg is an extra

    schema, fresh = where.schema, f"{where.schema}_rebuilding"
    with Schemas(where) as schemas:
        _refuse(
            not _comes(lambda: not schemas.in_use(schema), leaving_s),
            f"a gateway runs on schema {schema}, and has not left it within {leaving_s:g} s; stop every one, and give"
            " the command again",
        )
        _refuse(not _comes(lambda: schemas.take(schema), leaving_s), f"another reindex of schema {schema} is at work")
        if anew:
            schemas.drop(fresh)
        index = assembly.index(_rebuilt(settings, fresh), any_age=True)
        index.ping()  # makes the tables, also when there is nothing to put in them
        yield from _filled(settings, index)
        # What it has stored meanwhile is not in the new one, also when it is about to leave: the next run finds it, and
        # nothing else is to be done.
        _refuse(
            schemas.in_use(schema), f"a gateway was started on schema {schema}; stop it, and give the command again"
        )
        schemas.replace(schema, fresh)


def _rebuilt(settings: Settings, schema: str) -> Settings:
    """Settings of an index in another schema whose commits are not waited for.

    What a crash of the server takes of it the next run does again; ``Schemas.replace`` makes the whole of it durable.
    """
    index = settings.index.model_copy(update={"db_schema": schema})
    storage = settings.storage.model_copy(update={"fsync": False})
    return settings.model_copy(update={"index": index, "storage": storage})


def _comes(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether a condition holds, now or soon."""
    end_s = time.monotonic() + within_s
    while not (holds := condition()) and time.monotonic() < end_s:
        time.sleep(_PAUSE_S)
    return holds


def _refuse(when: bool, why: str) -> None:
    if when:
        raise InvalidSettings([f"index: {why}"])


def _filled(settings: Settings, index: Index) -> Iterator[Archive]:
    archive = Archive(stores.object_store(settings, reading_cache=False), index, assembly.limits(settings))
    try:
        yield archive
    finally:
        archive.index.close()
        archive.objects.close()


def _rename(path: Path, to: Path) -> None:
    """Rename a database with what belongs to it; the file itself last, so that nothing is ever missing beside it."""
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(to.with_name(to.name + suffix))
