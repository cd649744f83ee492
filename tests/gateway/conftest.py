"""A gateway's services on a directory of their own, and identity providers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import argon2
import pytest
from joserfc.jwk import RSAKey

from gateway import assembly
from gateway.access import shares, users
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.serving import DimseSettings, HttpSettings
from gateway.config.storing import StorageSettings
from tests import issuer as issuers
from tests.issuer import Issuer, Listener, rsa_key


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Local objects, SQLite, any free ports; without fsync, since no test here is about durability."""
    return Settings(
        http=HttpSettings(port=0),
        dimse=DimseSettings(port=0),
        storage=StorageSettings(directory=tmp_path / "data", fsync=False, max_instance_bytes=1 << 20),
    )


@pytest.fixture
def core(settings: Settings) -> Iterator[Core]:
    """Everything below the faces, built from ``settings``."""
    built = assembly.build(settings, "test")
    yield built
    built.close()


@pytest.fixture(scope="session")
def key() -> RSAKey:
    """The provider's key."""
    return rsa_key("one")


@pytest.fixture(scope="session")
def other_key() -> RSAKey:
    """A key that the provider does not have, under the name of one that it has."""
    return rsa_key("one")


@pytest.fixture
def issuer(key: RSAKey) -> Iterator[Issuer]:
    """A provider."""
    with issuers.issuer(key) as found:
        yield found


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A server of an attacker."""
    found = Listener()
    yield found
    found.close()


@pytest.fixture(scope="module")
def cheap_hashes() -> Iterator[None]:
    """Passwords and PINs cost less than a millisecond."""
    before = users._hasher
    users._nobodys.cache_clear()
    users._hasher = shares._hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    yield
    users._hasher, shares._hasher = before, before
    users._nobodys.cache_clear()
