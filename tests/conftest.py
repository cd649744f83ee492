"""Fixtures that several parts of the suite share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from storage.objects.s3 import S3Settings
from tests.seaweedfs import SeaweedFS, new_bucket


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of a SeaweedFS server, started when the first test asks; xdist workers share one.

    The worker that starts it stops it again when no other worker uses it any more.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "seaweedfs"
    folder.mkdir(exist_ok=True)
    users = (folder / "users.lock").open("w")
    with users, (folder / "start.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        address = folder / "endpoint"
        server = None
        if not address.exists():
            server = SeaweedFS(base / "seaweedfs-data")
            address.write_text(server.endpoint_url)
        endpoint_url = address.read_text()
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(starting, fcntl.LOCK_UN)
        try:
            yield endpoint_url
        finally:
            if server is not None:
                # The first keeps newcomers away, the second is granted when every other worker is done.
                fcntl.flock(starting, fcntl.LOCK_EX)
                fcntl.flock(users, fcntl.LOCK_EX)
                address.unlink()
                server.stop()


@pytest.fixture
def seaweedfs_bucket(seaweedfs: str) -> S3Settings:
    """Settings for a fresh, empty bucket of this test's own."""
    return new_bucket(seaweedfs)
