"""What one host erases leaves the read caches of the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway import assembly, caching
from gateway.config import Settings
from gateway.config.storing import IndexSettings, S3Section, StorageSettings
from storage import reconcile
from storage.archive import Archive, Sender
from storage.dicom import identifiers as ids
from storage.index.arrivals import Conflict
from storage.index.postgres import PostgresSettings
from storage.objects.s3 import S3Settings
from tests.instances import data_set, encode, extract

MAIN = ids.tenant("main")


@pytest.fixture
def hosts(
    tmp_path: Path, seaweedfs_bucket: S3Settings, postgres_schema: PostgresSettings
) -> Iterator[tuple[assembly.Core, assembly.Core]]:
    """Two hosts of one archive; the second one looks often."""
    bucket = S3Section(
        endpoint_url=seaweedfs_bucket.endpoint_url or "",
        bucket=seaweedfs_bucket.bucket,
        access_key_id=seaweedfs_bucket.access_key_id or "",
        secret_access_key=SecretStr(seaweedfs_bucket.secret_access_key or ""),
        cache_compare_interval_s=0.2,
    )
    index = IndexSettings(engine="postgres", url=SecretStr(postgres_schema.conninfo), db_schema=postgres_schema.schema)
    cores = []
    for name in ("one", "two"):
        storage = StorageSettings(directory=tmp_path / name, objects="s3")
        cores.append(assembly.build(Settings(storage=storage, s3=bucket, index=index), name))
    yield cores[0], cores[1]
    for core in cores:
        core.close()


def store(archive: Archive, study: str) -> str:
    """An object of a study; its key."""
    body = encode(data_set(StudyInstanceUID=study))
    version = archive.new_version()
    extracted = extract(body)
    archive.store(MAIN, version, extracted, [body], Sender(), Conflict.VERSION)
    return ids.InstanceKey(MAIN, extracted.study_uid, extracted.series_uid, extracted.sop_uid).object_key(version)


def blocks(core: assembly.Core) -> list[str]:
    """Versions of which the host has blocks in its cache."""
    found = (core.settings.storage.directory / "cache").glob("??/*-*-*")
    return sorted(path.name.split("-")[1] for path in found)


def wait_for(core: assembly.Core, versions: list[str]) -> None:
    """Until the host's cache has blocks of these versions and no others."""
    deadline_s = time.monotonic() + 60
    while blocks(core) != versions and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert blocks(core) == versions


def test_what_one_host_erases_leaves_the_cache_of_another(hosts: tuple[assembly.Core, assembly.Core]) -> None:
    one, two = hosts
    keys = [store(one.archive, study) for study in ("1.1", "2.2")]
    versions = [ids.parse_object_key(key)[1] for key in keys]
    for host in hosts:
        for key in keys:
            host.archive.objects.get(key)
        wait_for(host, versions)
    reconcile.erase(one.archive, reconcile.find(one.archive, MAIN, ids.study_uid("1.1")))
    assert blocks(one) == versions[1:]
    with caching.compared(two):
        wait_for(two, versions[1:])
    assert blocks(two) == versions[1:]
