"""The pairs of engines that a gateway under test runs on, each time with a directory, bucket and schema of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import assembly
from gateway.config import Settings
from gateway.config.storing import IndexSettings, S3Section, StorageSettings
from storage.index.base import Index
from storage.objects.base import ObjectStore
from tests.postgres import drop_schema, new_schema
from tests.seaweedfs import new_bucket

PAIRS = ("local+sqlite", "s3+sqlite", "s3+postgres")


@dataclass(frozen=True)
class Engines:
    """Where objects and rows of one gateway are, as its settings say it: names and values by section."""

    sections: Mapping[str, Mapping[str, str]]

    def environment(self) -> dict[str, str]:
        """The settings as environment variables."""
        return {
            f"GATEWAY_{section}__{name}".upper(): value
            for section, values in self.sections.items()
            for name, value in values.items()
        }

    def settings(self, directory: Path) -> Settings:
        """The settings of a gateway whose files are in ``directory``."""
        sections = self.sections
        return Settings(
            storage=StorageSettings.model_validate({"directory": directory, **sections.get("storage", {})}),
            s3=S3Section.model_validate(sections.get("s3", {})),
            index=IndexSettings.model_validate(sections.get("index", {})),
        )

    @contextmanager
    def objects(self, directory: Path) -> Iterator[ObjectStore]:
        """The objects, looked at behind the gateway's back."""
        store = assembly.object_store(self.settings(directory))
        yield store
        store.close()

    @contextmanager
    def index(self, directory: Path) -> Iterator[Index]:
        """The rows, looked at behind the gateway's back."""
        index = assembly.index(self.settings(directory), any_age=True)
        yield index
        index.close()


EMBEDDED = Engines({})
"""A local directory and SQLite."""


@contextmanager
def made(pair: str, request: pytest.FixtureRequest) -> Iterator[Engines]:
    """A pair of engines by its name, empty; the servers behind it are those that the whole test run shares."""
    objects, index = pair.split("+")
    sections: dict[str, dict[str, str]] = {}
    if objects == "s3":
        bucket = new_bucket(request.getfixturevalue("seaweedfs"))
        assert bucket.endpoint_url is not None
        assert bucket.access_key_id is not None
        assert bucket.secret_access_key is not None
        sections["storage"] = {"objects": "s3"}
        sections["s3"] = {
            "endpoint_url": bucket.endpoint_url,
            "bucket": bucket.bucket,
            "access_key_id": bucket.access_key_id,
            "secret_access_key": bucket.secret_access_key,
        }
    if index != "postgres":
        yield Engines(sections)
        return
    schema = new_schema(request.getfixturevalue("postgres"))
    sections["index"] = {"engine": "postgres", "url": schema.conninfo, "db_schema": schema.schema}
    yield Engines(sections)
    drop_schema(schema)
