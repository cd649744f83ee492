"""``gateway migrate``: what is pulled from an old archive, what is told, and archives that do not do as they should."""

from __future__ import annotations

import datetime
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from gateway import assembly, cli
from gateway.access.actions import Action
from gateway.config import Settings
from gateway.config.serving import DestinationSettings, DimseSettings
from gateway.config.storing import StorageSettings
from gateway.context import command_line
from gateway.dimse import contexts
from gateway.dimse.asking import Conditions, RemoteArchive
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import Address
from gateway.dimse.server import DimseServer
from gateway.migrating.running import Hours
from gateway.services.spool import Spool
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import Serve
from tests.gateway.http.conftest import Authority

MAIN = ids.Tenant("main")


@dataclass
class Old:
    """An old archive with another library, and with habits."""

    instances: list[Dataset] = field(default_factory=list)
    most: int | None = None
    """Studies that it gives for a question, without a word of the others."""
    too_many: int | None = None
    """Studies from which on it refuses a question."""
    most_series: int | None = None
    most_images: int | None = None
    """Series, and instances of each, that it lists, likewise."""
    tells_numbers: bool = True
    unreadable: set[str] = field(default_factory=set)
    """Instances of which it answers what is no identifier."""
    refused: set[str] = field(default_factory=set)
    """Series of which it sends nothing when they are asked for."""
    matches_times: bool = True
    takes_lists: bool = True
    """Whether it sends the instances of a list (PS3.4 C.4.3.1.3)."""
    repeats_series: bool = False
    """Whether it gives each series twice."""
    lost: set[str] = field(default_factory=set)
    """Instances that it tells of and never sends."""
    tells_classes: bool = True
    aborts: int = 0
    """How often it aborts a C-GET after the first instance."""
    questions: list[Dataset] = field(default_factory=list)
    gets: list[Dataset] = field(default_factory=list)
    server: ThreadedAssociationServer | None = None

    @property
    def associations(self) -> int:
        """How many it has just now."""
        assert self.server is not None
        return len(self.server.active_associations)

    def found(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        self.questions.append(asked)
        matches = [each for each in self.instances if self._matches(each, asked)]
        key = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
        unique = {each[key[asked.QueryRetrieveLevel]].value: each for each in matches}
        if asked.QueryRetrieveLevel == "STUDY" and self.too_many is not None and len(unique) >= self.too_many:
            yield 0xA700, None
            return
        shown = list(unique.values())
        most = {"STUDY": self.most, "SERIES": self.most_series, "IMAGE": self.most_images}
        for each in shown[: most[asked.QueryRetrieveLevel]]:
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            for element in asked:
                if element.keyword in each and (self.tells_classes or element.keyword != "SOPClassUID"):
                    answer[element.keyword] = each[element.keyword]
            if (
                self.tells_numbers
                and "NumberOfStudyRelatedInstances" in asked
                and not each.get("NumberOfStudyRelatedInstances")
            ):
                answer.NumberOfStudyRelatedInstances = self.count(each.StudyInstanceUID)
            if asked.QueryRetrieveLevel == "IMAGE" and each.SOPInstanceUID in self.unreadable:
                answer.PixelData = encapsulate([b"no key"])
                answer["PixelData"].is_undefined_length = True
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, answer
            if asked.QueryRetrieveLevel == "SERIES" and self.repeats_series:
                yield 0xFF00, answer

    def count(self, study_uid: str) -> int:
        """Instances of a study."""
        return sum(each.StudyInstanceUID == study_uid for each in self.instances)

    def _matches(self, each: Dataset, asked: Dataset) -> bool:
        ranges = ["StudyDate", "StudyTime"] if self.matches_times else ["StudyDate"]
        for keyword in ranges:
            if asked.get(keyword):
                first, last = (
                    asked[keyword].value.split("-") if "-" in asked[keyword].value else [asked[keyword].value] * 2
                )
                if not each.get(keyword) or not first <= each[keyword].value <= (last or "9"):
                    return False
        return all(
            not asked.get(keyword) or each[keyword].value in str(asked[keyword].value).replace("'", "")
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        )

    def got(self, event: evt.Event) -> Iterator[Any]:
        asked = event.identifier
        self.gets.append(asked)
        wanted = [each for each in self.instances if self._wanted(each, asked)]
        if asked.get("SeriesInstanceUID") in self.refused:
            yield "no number"  # which pynetdicom answers with a failure
            return
        sent = [each for each in wanted if each.SOPInstanceUID not in self.lost]
        yield len(sent)
        for number, each in enumerate(sent):
            if self.aborts and number == 1:
                self.aborts -= 1
                event.assoc.abort()
                return
            yield 0xFF00, each

    def _wanted(self, each: Dataset, asked: Dataset) -> bool:
        if not self.takes_lists and isinstance(asked.get("SOPInstanceUID"), MultiValue):
            return False
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            value = asked.get(keyword)
            if value and each[keyword].value not in ([value] if isinstance(value, str) else list(value)):
                return False
        return True

    @contextmanager
    def listening(self) -> Iterator[str]:
        application_entity = AE(ae_title="OLD")
        application_entity.add_supported_context(contexts.STUDY_ROOT_FIND)
        application_entity.add_supported_context(contexts.STUDY_ROOT_GET)
        for uid in (instances.CT, "1.2.840.10008.5.1.4.1.1.4"):
            application_entity.add_supported_context(uid, [ExplicitVRLittleEndian], scu_role=True, scp_role=True)
        server = application_entity.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_FIND, self.found), (evt.EVT_C_GET, self.got)],
        )
        self.server = server
        try:
            yield f"OLD@127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def study(count: int = 1, date: str | None = "20240101", **more: Any) -> list[Dataset]:
    """Instances of one series."""
    uids = {"StudyInstanceUID": instances.uid(), "SeriesInstanceUID": instances.uid(), "StudyDate": date}
    found = [instances.data_set(**uids, InstanceNumber=number, **more) for number in range(count)]
    for each in found:
        instances.part10_file(each)  # gives it File Meta Information
    return found


@pytest.mark.parametrize("text", ["19:00-19:00", "19:00Z-06:00", "19:00"])
def test_hours_that_never_come_are_not_understood(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit):
        cli.main(["migrate", "--from", "OLD@127.0.0.1:9", f"--between={text}"])
    assert "are no hours" in capsys.readouterr().err


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the new archive."""
    monkeypatch.setenv("GATEWAY_STORAGE__DIRECTORY", str(tmp_path / "new"))
    monkeypatch.setenv("GATEWAY_STORAGE__FSYNC", "false")
    return tmp_path / "new"


Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def migrate(directory: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Gives the command; exit status and report."""

    def given(peer: str, *more: str) -> tuple[int, dict[str, Any]]:
        status = cli.main(["migrate", "--json", "--from", peer, *more])
        return status, json.loads(capsys.readouterr().out)

    return given


def kept(directory: Path) -> dict[str, bytes]:
    """Every instance of the new archive, by UID: its data set as it lies there."""
    core = assembly.build(_settings(directory, DimseSettings()), "test")
    try:
        found = {}
        for key, _ in _holdings(core):
            target = Target(MAIN, key.study_uid, key.series_uid, key.sop_uid)
            [located] = core.archive.index.locate(target, EVERYTHING)
            found[str(key.sop_uid)] = core.archive.objects.get(located.object_key)[located.data_offset :]
        return found
    finally:
        core.close()


def _settings(directory: Path, dimse: DimseSettings) -> Settings:
    """Whatever the environment says, which is for the command."""
    storage = StorageSettings(directory=directory, fsync=False)
    return Settings().model_copy(update={"dimse": dimse, "storage": storage})


def _holdings(core: assembly.Core) -> list[tuple[ids.InstanceKey, ids.Version]]:
    return [ids.parse_object_key(each.key) for each in core.archive.objects.list("") if each.key.endswith(".dcm")]


@claim("K5")
def test_everything_is_fetched_and_the_second_time_nothing(migrate: Run, directory: Path) -> None:
    old = Old([*study(3), *study(2, "20250505"), *study(1, None)])
    with old.listening() as peer:
        status, found = migrate(peer)
        assert (status, found["complete"], found["by"]) == (0, True, "get")
        assert found["studies"] == {"listed": 3, "instances_told": 6, "done_before": 0, "done": 3, "failed": 0}
        assert (found["instances"]["here"], found["instances"]["missing"], found["instances"]["stored"]) == (6, 0, 6)
        assert found["bytes"] > 6 * 300
        assert kept(directory) == {each.SOPInstanceUID: instances.encode(each) for each in old.instances}
        order = [asked.StudyInstanceUID for asked in old.gets]
        assert order[0] == old.instances[3].StudyInstanceUID, "the newest first"

        old.gets.clear()
        status, found = migrate(peer)
        assert (status, found["studies"]["done_before"], old.gets) == (0, 3, [])
        status, found = migrate(peer, "--anew")
        assert (status, found["studies"]["done"], found["instances"]["here"], old.gets) == (0, 3, 6, [])


def test_what_has_come_to_the_old_archive_since_is_fetched(migrate: Run, directory: Path) -> None:
    first = study(2, NumberOfStudyRelatedInstances=2)
    old = Old(first)
    with old.listening() as peer:
        assert migrate(peer, "--dry-run")[1]["studies"]["instances_told"] == 2
        assert migrate(peer)[0] == 0
        more = instances.data_set(
            StudyInstanceUID=first[0].StudyInstanceUID, SeriesInstanceUID=instances.uid(), StudyDate="20240101"
        )
        instances.part10_file(more)
        old.instances = [*first, more]
        for each in old.instances:
            each.NumberOfStudyRelatedInstances = 3
        old.gets.clear()
        status, found = migrate(peer)
        assert (status, found["studies"]["done_before"], found["studies"]["done"]) == (0, 0, 1)
        assert found["instances"]["stored"] == 1
        assert [asked.SOPInstanceUID for asked in old.gets] == [more.SOPInstanceUID]
    assert len(kept(directory)) == 3


@pytest.mark.parametrize("habit", [{"most": 100}, {"too_many": 100}])
def test_an_archive_that_gives_only_so_many_studies_is_asked_in_pieces(migrate: Run, habit: dict[str, int]) -> None:
    day = datetime.date(2020, 1, 1)
    dates = [f"{day + datetime.timedelta(days=number // 3):%Y%m%d}" for number in range(260)]
    old = Old([study(1, date)[0] for date in dates], **habit)
    with old.listening() as peer:
        status, found = migrate(peer, "--dry-run")
    assert (status, found["studies"]["listed"], found["dry_run"], old.gets) == (0, 260, True, [])


def test_studies_are_chosen(migrate: Run) -> None:
    old = Old([*study(1, "20230101"), *study(1, "20240202"), *study(1, "20250303")])
    with old.listening() as peer:
        for more, count in (
            (["--since=2024-01-01"], 2),
            (["--until=2024-02-02"], 2),
            (["--since=2024-01-01", "--until=2024-12-31"], 1),
            ([f"--study={old.instances[0].StudyInstanceUID}"], 1),
        ):
            assert migrate(peer, "--dry-run", *more)[1]["studies"]["listed"] == count
        migrate(peer, "--dry-run", "--where=ModalitiesInStudy=CT")
        assert {asked.get("ModalitiesInStudy") for asked in old.questions[-2:]} == {"CT"}


def test_a_study_that_was_named_and_is_not_there_is_told(migrate: Run) -> None:
    old = Old(study(1))
    with old.listening() as peer:
        status, found = migrate(peer, "--study=1.2.3", f"--study={old.instances[0].StudyInstanceUID}")
    assert (status, found["studies"]["done"], found["studies"]["failed"]) == (1, 1, 1)
    assert found["wrong"] == [{"study": "1.2.3", "reason": "the peer does not list it", "missing": []}]


@claim("K3")
def test_what_does_not_come_is_asked_for_again_and_then_named(migrate: Run, tmp_path: Path) -> None:
    old = Old(study(3))
    old.lost = {old.instances[1].SOPInstanceUID}
    file = tmp_path / "report.jsonl"
    with old.listening() as peer:
        status, found = migrate(peer, f"--report={file}")
        assert (status, found["studies"]["failed"], found["instances"]["missing"]) == (1, 1, 1)
        [wrong] = found["wrong"]
        assert wrong["missing"] == [old.instances[1].SOPInstanceUID]
        assert wrong["reason"] == "the peer did not send all of it"
        assert json.loads(file.read_text()) == wrong
        assert [asked.QueryRetrieveLevel for asked in old.gets] == ["STUDY", "IMAGE", "SERIES"]
        old.lost = set()
        status, found = migrate(peer)
        assert (status, found["studies"]["done"], found["instances"]["here"]) == (0, 1, 3)


def test_a_series_that_is_not_listed_to_its_end_is_fetched_as_a_whole(migrate: Run) -> None:
    old = Old(study(5, NumberOfStudyRelatedInstances=5), most_images=3)
    with old.listening() as peer:
        status, found = migrate(peer)
        assert (status, found["studies"]["done"], found["instances"]["stored"]) == (0, 1, 5)
        assert found["instances"]["here"] == 5
        assert migrate(peer)[1]["studies"]["done_before"] == 1, "and is not looked at again"
        old.lost = {old.instances[4].SOPInstanceUID}
        for each in old.instances:
            each.NumberOfStudyRelatedInstances = 6
        status, found = migrate(peer)
        assert (status, found["studies"]["failed"]) == (1, 1)
        assert found["wrong"][0]["reason"] == "the peer says that it has 6 instances and lists 3; 5 are here"


@claim("K4")
def test_an_association_that_ends_in_the_middle_is_asked_for_again(migrate: Run) -> None:
    old = Old(study(5), aborts=1)
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["instances"]["here"], len(old.gets)) == (0, 5, 2)
    assert len(old.gets[1].SOPInstanceUID) == 4, "only what was missing"


def test_an_archive_that_takes_no_lists_is_asked_for_series(migrate: Run) -> None:
    old = Old([*study(5), *study(4)], aborts=1, takes_lists=False)
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["instances"]["here"]) == (0, 9)


def test_a_series_that_is_refused_does_not_keep_the_others_back(migrate: Run) -> None:
    first = study(2)
    second = instances.data_set(
        StudyInstanceUID=first[0].StudyInstanceUID, SeriesInstanceUID=instances.uid(), StudyDate="20240101"
    )
    instances.part10_file(second)
    old = Old([*first, second], aborts=1, refused={first[0].SeriesInstanceUID})
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["instances"]["here"], found["instances"]["missing"]) == (1, 2, 1)
    assert found["wrong"][0]["reason"].startswith("the peer answers 0xC413")


def test_an_archive_that_does_not_tell_of_sop_classes_is_fetched_too(migrate: Run) -> None:
    old = Old(study(2), tells_classes=False)
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["instances"]["here"]) == (0, 2)


def test_what_our_archive_does_not_take_is_told(migrate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_STORAGE__MAX_INSTANCE_BYTES", "1048576")
    old = Old([*study(1), *study(1, "20250101", PixelData=bytes(1_100_000), Rows=1100, Columns=500)])
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["studies"]["done"], found["studies"]["failed"]) == (1, 1, 1)
    assert found["wrong"][0]["reason"] == "refused: an instance of more than 1048576 bytes"


def test_several_studies_are_fetched_at_the_same_time(migrate: Run, directory: Path) -> None:
    old = Old([each for number in range(8) for each in study(2, f"2024010{number + 1}")])
    with old.listening() as peer:
        status, found = migrate(peer, "--at-once=4", "--pause=0.05")
    assert (status, found["studies"]["done"], found["instances"]["stored"]) == (0, 8, 16)
    assert len(kept(directory)) == 16


def test_no_more_comes_in_a_second_than_was_said(migrate: Run) -> None:
    old = Old(study(3, PixelData=bytes(200_000), Rows=400, Columns=250))
    with old.listening() as peer:
        started_s = time.monotonic()
        assert migrate(peer, "--max-rate=0.2")[0] == 0
    # 600,000 bytes, of which a second's worth comes at once.
    assert time.monotonic() - started_s > 1.9


def test_a_peer_that_is_not_there_ends_it_with_a_word(
    directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["migrate", "--from", "OLD@127.0.0.1:9"]) == 3
    assert "the peer OLD at 127.0.0.1:9 cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["--from", "OLD"], "a peer is AET@HOST:PORT, or the AE title of one of dimse.destinations"),
        (["--from", "OLD@127.0.0.1"], "a peer is dicom://AET@HOST:PORT"),
        (["--from", "OLD@127.0.0.1:9", "--where=Nonsense=1"], "--where Nonsense"),
        (["--from", "OLD@127.0.0.1:9", "--at-once=99"], "--at-once: 1 to 16"),
        (["--from", "OLD@127.0.0.1:9", "--max-rate=0"], "--max-rate: more than 0"),
        pytest.param(
            ["--from", "OLD@127.0.0.1:9", "--where=Rows=many"],
            "--where Rows",
            marks=pytest.mark.filterwarnings("ignore:A value of type"),
        ),
        (["--from", "OLD@127.0.0.1:9", "--where=ProcedureCodeSequence=1"], "--where ProcedureCodeSequence"),
        (["--from", "OLD@127.0.0.1:9", "--where=StudyDate=20200101"], "--since"),
        (["--from", "OLD@127.0.0.1:9", "--since=2024-02-01", "--until=2024-01-01"], "--since"),
        (["--from", "OLD@127.0.0.1:9", f"--journal={__file__}"], "not the journal of a migration"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    directory: Path, capsys: pytest.CaptureFixture[str], given: list[str], fault: str
) -> None:
    assert cli.main(["migrate", *given]) != 0
    assert fault in capsys.readouterr().err
    assert not (directory / "migrations").exists()


def test_hours_go_over_midnight() -> None:
    night, noon = Hours(datetime.time(19), datetime.time(6)), Hours(datetime.time(11), datetime.time(13))
    assert [night.hold(datetime.time(hour)) for hour in (18, 19, 23, 0, 5, 6)] == [False, True, True, True, True, False]
    assert [noon.hold(datetime.time(hour)) for hour in (10, 11, 12, 13)] == [False, True, True, False]


def test_outside_of_its_hours_it_waits_and_can_be_interrupted(
    directory: Path, migrate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.datetime.now().astimezone()
    first = (now + datetime.timedelta(hours=2)).strftime("%H:%M")
    last = (now + datetime.timedelta(hours=3)).strftime("%H:%M")
    old = Old(study(1))
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGTERM))
    with old.listening() as peer:
        timer.start()
        status, found = migrate(peer, f"--between={first}-{last}")
    assert (status, found["complete"], found["studies"]["listed"], old.gets) == (130, False, 1, [])


def test_outside_of_its_hours_it_holds_no_association(migrate: Run) -> None:
    now = datetime.datetime.now().astimezone()
    first = (now - datetime.timedelta(minutes=1)).strftime("%H:%M:%S")
    last = (now + datetime.timedelta(seconds=3)).strftime("%H:%M:%S")
    old = Old([*study(1), *study(1)])
    held: list[int] = []

    def look() -> None:
        held.append(old.associations)
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(5.0, look)
    with old.listening() as peer:
        timer.start()
        status, _ = migrate(peer, f"--between={first}-{last}", "--pause=3.5")
    assert status == 130
    assert len(old.gets) < 2
    assert held == [0]


# Our own gateway as the old archive: both ways, and what it keeps compressed comes as it is.


@contextmanager
def _old_gateway(
    tmp_path: Path, serve: Serve, destination: tuple[str, int] | None, **more: Any
) -> Iterator[tuple[assembly.Core, DimseServer]]:
    destinations = {}
    if destination is not None:
        destinations = {"NEW": DestinationSettings(host=destination[0], port=destination[1])}
    dimse = DimseSettings(port=0, ae_title="OLD", destinations=destinations, **more)
    core = assembly.build(_settings(tmp_path / "old", dimse), "old")
    try:
        with serve(core) as server:
            yield core, server
    finally:
        core.close()


def _filled(core: assembly.Core) -> dict[str, bytes]:
    decision = core.door.enter_by_itself(command_line("import"), Action.STORE, MAIN)
    sent = {}
    for syntax in (ExplicitVRLittleEndian, JPEG2000Lossless):
        for each in study(2):
            if syntax == JPEG2000Lossless:
                each.PixelData = encapsulate([b"\xff\x4f\xff\x51not looked at"])
                each["PixelData"].is_undefined_length = True
            spooling = core.spool.begin()
            spooling.write(instances.part10_file(each, syntax))
            with spooling.finish() as spooled:
                core.ingest.store(decision, spooled)
            sent[each.SOPInstanceUID] = instances.encode(each, syntax)
    return sent


@claim("K2")
def test_from_a_gateway_by_get(tmp_path: Path, serve: Serve, migrate: Run, directory: Path) -> None:
    with _old_gateway(tmp_path, serve, None) as (core, server):
        sent = _filled(core)
        status, found = migrate(f"OLD@127.0.0.1:{server.address[1]}")
    assert (status, found["by"], found["instances"]["stored"]) == (0, "get", 4)
    assert kept(directory) == sent


def test_from_a_gateway_over_tls_by_its_name_in_the_settings(
    tmp_path: Path, serve: Serve, migrate: Run, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("old")
    with _old_gateway(tmp_path, serve, None, tls_certificate_file=certificate, tls_key_file=key) as (core, server):
        sent = _filled(core)
        peer = {"host": "localhost", "port": server.address[1], "tls": True, "tls_ca_file": str(authority.file)}
        monkeypatch.setenv("GATEWAY_DIMSE__DESTINATIONS", json.dumps({"OLD": peer}))
        status, found = migrate("OLD")
        assert (status, found["instances"]["stored"]) == (0, 4)
        status, _ = migrate(f"OLD@localhost:{server.address[1]}")
        assert status == 3, "in clear"
    assert kept(directory) == sent


def test_from_a_gateway_by_move(tmp_path: Path, serve: Serve, migrate: Run, directory: Path) -> None:
    new = assembly.build(_settings(directory, DimseSettings(port=0, ae_title="NEW")), "new")
    try:
        with serve(new) as ours, _old_gateway(tmp_path, serve, ours.address) as (core, server):
            sent = _filled(core)
            peer = f"OLD@127.0.0.1:{server.address[1]}"
            status, found = migrate(peer, "--by=move", "--destination=NEW")
            assert (status, found["by"], found["instances"]["here"], found["studies"]["done"]) == (0, "move", 4, 2)
            assert kept(directory) == sent
            status, found = migrate(peer, "--by=move", "--destination=NOBODY", "--anew")
            assert (status, found["studies"]["done"]) == (0, 2), "all is here, so nothing is asked for"
    finally:
        new.close()


def test_a_destination_that_the_old_archive_does_not_know_is_told(tmp_path: Path, serve: Serve, migrate: Run) -> None:
    with _old_gateway(tmp_path, serve, None) as (core, server):
        _filled(core)
        status, found = migrate(f"OLD@127.0.0.1:{server.address[1]}", "--by=move")
    assert (status, found["studies"]["failed"]) == (1, 2)
    assert found["wrong"][0]["reason"].startswith(
        "the peer answers 0xA801 (Refused: Move Destination unknown): does 'GATEWAY' stand there for the host"
    )


# Archives that tell less than they have.


@pytest.mark.parametrize("tells_numbers", [True, False])
def test_a_study_of_which_no_instance_is_listed_is_not_done(migrate: Run, *, tells_numbers: bool) -> None:
    old = Old(study(2), most_series=0, tells_numbers=tells_numbers)
    old.lost = {each.SOPInstanceUID for each in old.instances}
    with old.listening() as peer:
        status, found = migrate(peer)
        assert (status, found["studies"]["done"], found["studies"]["failed"]) == (1, 0, 1)
        old.most_series = None
        old.lost.clear()
        status, found = migrate(peer)
    assert (status, found["studies"]["done"], found["instances"]["here"]) == (0, 1, 2)


def test_what_has_come_since_is_fetched_from_an_archive_that_tells_no_numbers(migrate: Run, directory: Path) -> None:
    old = Old([*study(2), *study(1, "20250101")], tells_numbers=False)
    with old.listening() as peer:
        assert migrate(peer)[0] == 0
        more = instances.data_set(
            StudyInstanceUID=old.instances[0].StudyInstanceUID, SeriesInstanceUID=instances.uid(), StudyDate="20240101"
        )
        instances.part10_file(more)
        old.instances += [more, *study(1, "20230101")]
        old.gets.clear()
        status, found = migrate(peer)
    assert (status, found["studies"]["done_before"], found["studies"]["done"]) == (0, 0, 3)
    assert [asked.QueryRetrieveLevel for asked in old.gets] == ["STUDY", "IMAGE"], "new studies before known ones"
    assert len(kept(directory)) == 5


def test_what_was_deleted_here_does_not_come_again_with_a_second_look(migrate: Run, directory: Path) -> None:
    old = Old([*study(2), *study(1, "20250101")], tells_numbers=False)
    with old.listening() as peer:
        assert migrate(peer)[0] == 0
        core = assembly.build(_settings(directory, DimseSettings()), "test")
        try:
            target = Target(MAIN, ids.study_uid(old.instances[2].StudyInstanceUID))
            core.archive.delete(target, core.archive.index.versions(target, EVERYTHING))
        finally:
            core.close()
        old.gets.clear()
        for _ in range(2):
            status, found = migrate(peer)
            assert (status, found["studies"]["done"], found["instances"]["here"], old.gets) == (0, 2, 2, [])


def test_a_series_that_is_listed_twice_has_its_instances_once(migrate: Run) -> None:
    old = Old(study(2, NumberOfSeriesRelatedInstances=2), repeats_series=True)
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["studies"]["done"], found["instances"]["here"], len(old.gets)) == (0, 1, 2, 1)


@pytest.mark.parametrize("matches_times", [True, False])
def test_a_day_with_more_studies_than_are_given_is_asked_in_pieces(migrate: Run, *, matches_times: bool) -> None:
    times = [f"{8 + number % 9:02}{number * 7 % 60:02}00" for number in range(150)]
    old = Old([study(1, StudyTime=time)[0] for time in times], most=100, matches_times=matches_times)
    with old.listening() as peer:
        status, found = migrate(peer, "--dry-run")
    if matches_times:
        assert (status, found["studies"]["listed"]) == (0, 150)
    else:
        assert len(old.questions) < 60


def test_dates_that_nobody_expects_are_asked_for_too(migrate: Run) -> None:
    many = [study(1, f"202001{number % 28 + 1:02}")[0] for number in range(100)]
    old = Old([*many, *study(1, "19000101"), *study(1, "18000101"), *study(1, "29991231")], most=100)
    with old.listening() as peer:
        status, found = migrate(peer, "--dry-run")
    assert (status, found["studies"]["listed"]) == (0, 103)


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_study_without_a_uid_that_one_can_have_is_told_once_and_no_others_are_lost(
    migrate: Run,
) -> None:
    wrong = study(1)[0]
    wrong.StudyInstanceUID = "1.2.OLD"
    old = Old([wrong, *study(1)])
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["studies"]["done"], found["studies"]["failed"]) == (1, 1, 1)
    assert found["wrong"] == [{"study": "1.2.OLD", "reason": "the Study Instance UID is none", "missing": []}]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_instance_of_no_sop_class_does_not_end_the_migration(migrate: Run) -> None:
    bad = study(1, "20250101")[0]
    bad.SOPClassUID = "no class at all"
    old = Old([bad, *study(2)])
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["complete"], found["studies"]["done"], found["studies"]["failed"]) == (1, True, 1, 1)


def test_an_answer_that_cannot_be_read_does_not_end_the_migration(migrate: Run) -> None:
    old = Old([*study(1, "20250101"), *study(2)])
    old.unreadable = {old.instances[0].SOPInstanceUID}
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["complete"], found["studies"]["done"], found["studies"]["failed"]) == (1, True, 1, 1)
    assert "an answer that cannot be read" in found["wrong"][0]["reason"]


def test_an_instance_of_no_uid_does_not_end_the_migration(migrate: Run) -> None:
    bad = study(1, "20250101")[0]
    bad.SOPInstanceUID = ""
    old = Old([bad, *study(2)])
    with old.listening() as peer:
        status, found = migrate(peer)
    assert (status, found["complete"], found["studies"]["done"], found["studies"]["failed"]) == (1, True, 1, 1)


def test_a_journal_of_something_else_is_refused(
    migrate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.journal"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE studies (name TEXT)")
    assert cli.main(["migrate", "--from", "OLD@127.0.0.1:9", f"--journal={path}"]) == 1
    assert "not the journal of a migration" in capsys.readouterr().err


def test_it_is_interrupted_while_it_asks_for_an_association(tmp_path: Path) -> None:
    reached, answer, searched = threading.Event(), threading.Event(), threading.Event()

    def asked(_event: evt.Event) -> None:
        reached.set()
        answer.wait(60)

    application_entity = AE(ae_title="OLD")
    application_entity.add_supported_context(contexts.STUDY_ROOT_FIND)

    def found(_event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        searched.wait(30)
        yield 0x0000, None

    handlers: list[Any] = [(evt.EVT_REQUESTED, asked), (evt.EVT_C_FIND, found)]
    server = application_entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    conditions = Conditions(DimseSettings(), Limits())
    archive = RemoteArchive(Address("OLD", *server.server_address[:2]), conditions, Spool(tmp_path, 1 << 20, 1 << 20))
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            list(archive.find("STUDY", {"StudyInstanceUID": ""}))
        except Ended as error:
            ended.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        assert reached.wait(60)
        archive.stop()
        answer.set()
        thread.join(30)
        assert not thread.is_alive(), "it waits for what the other archive finds"
        assert ended
    finally:
        answer.set()
        searched.set()
        thread.join()
        server.shutdown()
