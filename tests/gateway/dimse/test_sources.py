"""Scopes on who sent a series: what an outpost sends is the outpost's, until somebody else adds to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.context import Caller, Source
from gateway.dimse.server import DimseServer
from gateway.services.question import Query
from storage.dicom.attributes import Level
from storage.dicom.file_meta import EXPLICIT_VR_LITTLE_ENDIAN
from tests.gateway.dimse.conftest import Serve
from tests.instances import CT, data_set, encode
from tests.raw_scu import RawScu

POLICY = """
[[principal]]
name = "outpost"
kind = "ae"
ae_title = "OUT_1"
networks = ["127.0.0.0/8"]
actions = ["store"]
scope = { SourceApplicationEntityTitle = ["OUT_*"] }

[[principal]]
name = "scanner"
kind = "ae"
ae_title = "CT1"
networks = ["127.0.0.0/8"]
actions = ["store"]

[[principal]]
name = "stranger"
kind = "ae"
ae_title = "CT2"
networks = ["127.0.0.0/8"]
actions = ["store"]
scope = { SourceApplicationEntityTitle = ["OUT_*"] }

[[principal]]
name = "nurse"
kind = "loopback"
actions = ["search", "read"]
scope = { SourceApplicationEntityTitle = ["OUT_*"] }
"""


@pytest.fixture
def scoped(settings: Settings, tmp_path: Path) -> Iterator[Core]:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY)
    core = assembly.build(settings.model_copy(update={"access": AccessSettings(policy_file=file)}), "test")
    yield core
    core.close()


def sent(server: DimseServer, title: str, found: Dataset) -> int:
    """The status of a C-STORE by an AE."""
    with RawScu(server.address, CT, EXPLICIT_VR_LITTLE_ENDIAN, calling=title) as scu:
        response = scu.store(found.SOPInstanceUID, encode(found))
    assert response is not None
    status: int = response.Status
    return status


def seen(core: Core) -> set[str]:
    """The series that the nurse finds."""
    nurse = core.door.policy.by_loopback("127.0.0.1")
    assert nurse is not None
    query = Query(Level.SERIES)
    decision = core.projections.stored.query.enter(Caller(nurse, Source("test", "127.0.0.1")), query)
    return {result["0020000E"]["Value"][0] for result in core.projections.stored.query.search(decision, query).results}


def test_a_series_is_the_outposts_as_long_as_nobody_else_has_sent_of_it(scoped: Core, serve: Serve) -> None:
    ours, others = data_set(), data_set()
    with serve(scoped) as server:
        assert sent(server, "OUT_1", ours) == 0x0000
        assert sent(server, "CT1", others) == 0x0000
        assert seen(scoped) == {ours.SeriesInstanceUID}
        place = {"StudyInstanceUID": ours.StudyInstanceUID, "SeriesInstanceUID": ours.SeriesInstanceUID}
        assert sent(server, "OUT_1", data_set(**place)) == 0x0000
        assert seen(scoped) == {ours.SeriesInstanceUID}
        assert sent(server, "CT2", data_set()) == 0x0124, "Refused: Not Authorized"
        assert sent(server, "CT1", data_set(**place)) == 0x0000
        assert seen(scoped) == set()
        assert sent(server, "OUT_1", data_set(**place)) == 0x0124, "what is another's too is not added to"
        beside = data_set(StudyInstanceUID=ours.StudyInstanceUID)
        assert sent(server, "CT1", beside) == 0x0000
