"""A rebuilt index takes the place of the old one when it is whole, and not under a running gateway."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from gateway import assembly, stores
from gateway.config import InvalidSettings, Settings
from gateway.config.storing import IndexSettings, StorageSettings
from gateway.rebuilding import not_meanwhile, rebuilding
from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Conflict
from storage.index.migrations import SCHEMA_VERSION
from storage.index.postgres import PostgresSettings
from storage.index.postgres_schemas import Schemas
from storage.index.questions import Target
from storage.index.stored import Existence
from tests.instances import data_set, encode, extract
from tests.postgres import Postgres

TENANT = ids.tenant("main")
STUDY = ids.study_uid("1.1")


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    index: dict[str, object] = {"engine": "sqlite"}
    if request.param == "postgres":
        where: PostgresSettings = request.getfixturevalue("postgres_schema")
        index = {"engine": "postgres", "url": where.conninfo, "db_schema": where.schema}
    return Settings(storage=StorageSettings(directory=tmp_path), index=IndexSettings(**index))


def store(settings: Settings, study: str = STUDY) -> None:
    archive = Archive(stores.object_store(settings), assembly.index(settings), assembly.limits(settings))
    body = encode(data_set(StudyInstanceUID=study))
    archive.store(TENANT, archive.new_version(), extract(body), [body], Sender(), Conflict.VERSION)
    archive.index.close()


def existence(settings: Settings, study: str = STUDY) -> Existence:
    index = assembly.index(settings)
    try:
        return index.existence(Target(TENANT, ids.study_uid(study)), EVERYTHING)
    finally:
        index.close()


def rebuild(settings: Settings, *, anew: bool = False, leaving_s: float = 5.0) -> reconcile.Report:
    with rebuilding(settings, anew=anew, leaving_s=leaving_s) as archive:
        return reconcile.reindex(archive)


def break_off(settings: Settings) -> None:
    with rebuilding(settings) as archive:
        reconcile.reindex(archive)
        raise KeyboardInterrupt


def kept(settings: Settings) -> list[str]:
    """Names of indexes beside the one in use."""
    if settings.index.engine == "sqlite":
        return sorted(path.name for path in settings.storage.directory.glob("index.sqlite.2*[0-9]"))
    with psycopg.connect(settings.index.url.get_secret_value()) as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (settings.index.db_schema + "_",)
        ).fetchall()
    return sorted(name for (name,) in found)


def drop(settings: Settings) -> None:
    if settings.index.engine == "postgres":
        with psycopg.connect(settings.index.url.get_secret_value(), autocommit=True) as connection:
            for name in kept(settings):
                connection.execute(f'DROP SCHEMA "{name}" CASCADE')


def test_a_rebuilt_index_takes_the_place_of_the_old_one_which_is_kept(settings: Settings) -> None:
    store(settings)
    assert rebuild(settings).indexed == 1
    assert existence(settings) is Existence.LIVE
    assert len(kept(settings)) == 1
    drop(settings)


def test_an_interrupted_rebuild_leaves_the_old_index_and_goes_on_with_the_new_one(settings: Settings) -> None:
    store(settings)
    with pytest.raises(KeyboardInterrupt):
        break_off(settings)
    store(settings, "2.2")
    assert existence(settings, "2.2") is Existence.LIVE
    report = rebuild(settings)
    assert (report.known, report.indexed) == (1, 1)
    assert rebuild(settings, anew=True).indexed == 2
    drop(settings)


def test_objects_without_an_index_are_no_reason_to_start(settings: Settings) -> None:
    assembly.check_index(settings)
    objects = stores.object_store(settings)
    objects.put("main/1/2/3.dcm", [b""])
    objects.close()
    with pytest.raises(InvalidSettings, match="gateway reindex"):
        assembly.check_index(settings)
    rebuild(settings)
    assembly.check_index(settings)
    assert kept(settings) == []


def test_no_index_is_rebuilt_under_a_gateway_and_no_gateway_starts_on_one_that_is_rebuilt(settings: Settings) -> None:
    with not_meanwhile(settings), pytest.raises(InvalidSettings, match="stop it first"), rebuilding(settings):
        pass
    with rebuilding(settings), pytest.raises(InvalidSettings, match="being rebuilt"), not_meanwhile(settings):
        pass


def on_one_schema(folder: Path, where: PostgresSettings) -> tuple[Settings, Settings]:
    """Settings of two hosts."""
    index = IndexSettings.model_validate({"engine": "postgres", "url": where.conninfo, "db_schema": where.schema})
    here, there = (StorageSettings(directory=folder / name) for name in ("here", "there"))
    return Settings(storage=here, index=index), Settings(storage=there, index=index)


def test_a_gateway_on_another_host_keeps_its_schema_from_being_rebuilt(
    tmp_path: Path, postgres_schema: PostgresSettings
) -> None:
    here, there = on_one_schema(tmp_path, postgres_schema)
    running = assembly.index(there)
    running.ping()
    with pytest.raises(InvalidSettings, match=r"a gateway runs on schema .* within 0\.1 s"):
        rebuild(here, leaving_s=0.1)
    running.close()
    with rebuilding(here), pytest.raises(InvalidSettings, match="another reindex"):
        rebuild(there, leaving_s=0.1)
    running = assembly.index(there)
    with pytest.raises(InvalidSettings, match="was started"), rebuilding(here):
        running.ping()
    running.close()
    rebuild(here)
    drop(here)


def test_a_gateway_and_a_reindex_that_are_just_leaving_are_waited_for(
    tmp_path: Path, postgres_schema: PostgresSettings
) -> None:
    here, there = on_one_schema(tmp_path, postgres_schema)
    running = assembly.index(there)
    running.ping()
    with ExitStack() as reindex, ThreadPoolExecutor() as pool:
        assert reindex.enter_context(Schemas(postgres_schema)).take(postgres_schema.schema)

        def leave() -> None:
            time.sleep(0.2)
            running.close()
            time.sleep(0.2)
            reindex.close()

        leaving = pool.submit(leave)
        rebuild(here)
        leaving.result()
    drop(here)


def test_the_schema_of_an_index_is_told_without_making_one(settings: Settings) -> None:
    for _ in range(2):
        assert assembly.index_version(settings) == 0
    index = assembly.index(settings)
    index.ping()
    assert assembly.index_version(settings) == SCHEMA_VERSION
    index.close()


def stop_at_rest(server: Postgres, writer: int) -> None:
    """Stop the process that writes PostgreSQL's log, at a moment at which nobody waits for it."""
    rests = "SELECT wait_event = 'WalWriterMain' FROM pg_stat_activity WHERE pid = %s"
    deadline_s = time.monotonic() + 60
    with psycopg.connect(server.admin(), autocommit=True) as connection:
        while True:
            os.kill(writer, signal.SIGSTOP)
            time.sleep(0.01)
            if connection.execute(rests, (writer,)).fetchone() == (True,):
                return
            os.kill(writer, signal.SIGCONT)
            assert time.monotonic() < deadline_s, "it is never at rest"
            time.sleep(0.01)


def test_a_rebuilt_index_is_durable_when_it_takes_its_place(tmp_path: Path) -> None:
    server = Postgres()
    try:
        with psycopg.connect(server.admin(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            connection.execute("SELECT pg_reload_conf()")
            writes = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
            (writer,) = connection.execute(writes).fetchone() or (0,)
        settings = Settings(
            storage=StorageSettings(directory=tmp_path), index=IndexSettings(engine="postgres", url=server.url)
        )
        store(settings)
        with rebuilding(settings) as archive:
            reconcile.reindex(archive)
            # From here on a commit that nobody waits for stays in the server's memory.
            stop_at_rest(server, writer)
        before = kept(settings)
        server.kill()
        server.start()
        assert existence(settings) is Existence.LIVE
        assert kept(settings) == before
    finally:
        server.stop()
