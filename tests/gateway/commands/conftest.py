"""A site with de-identified views, for the commands that are given beside its gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from gateway import assembly, cli, config
from gateway.context import command_line
from storage.dicom import identifiers as ids
from tests.gateway.dimse.conftest import serve
from tests.instances import data_set, part10_file

__all__ = ["serve"]
MAIN = ids.tenant("main")
SETTINGS = """
[storage]
directory = "data"
fsync = false
[views.research]
[views.teaching]
options = []
scope = { Modality = ["US"] }
"""


class Site:
    """A settings file with views, the services of a gateway on it, and commands given beside them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "gateway.toml"
        self.file.write_text(SETTINGS)
        self.core = assembly.build(config.load(self.file), "test")
        self._capsys = capsys

    def store(self, **values: Any) -> Dataset:
        found = data_set(**{"PatientName": "Gray^Ann", "PatientID": "MRN-4711", **values})
        spooling = self.core.spool.begin()
        spooling.write(part10_file(found))
        with spooling.finish() as spooled:
            self.core.ingest.store(self.core.ingest.enter_by_command(command_line("test"), MAIN), spooled)
        return found

    def command(self, *arguments: str) -> tuple[int, str, str]:
        status = cli.main([*arguments, "-c", str(self.file)])
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    found = Site(tmp_path, capsys)
    with closing(found.core):
        yield found
