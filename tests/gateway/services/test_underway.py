"""Large instances that are on their way into the bucket while they still arrive."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.storing import TenantSettings
from gateway.config.views import DeidentificationSettings
from gateway.context import Caller, Principal, PrincipalKind, Source, command_line
from gateway.services import underway
from gateway.services.spool import Spooled
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.errors import MissingAttribute, Truncated, Unreadable
from storage.index.arrivals import Outcome
from storage.objects.base import FileSegment, ObjectInfo, ObjectStore
from tests.gateway.viewing.conftest import KEY
from tests.instances import data_set, encode, part10_file, version_of

MAIN = ids.Tenant("main")
LARGE = 28 << 20
SENDER = Caller(
    Principal("this-machine", PrincipalKind.LOOPBACK, roles=frozenset(("administrator",))),
    Source("DICOMweb", "127.0.0.1"),
)


class Drafting:
    """Another store that takes drafts: it reads the file as it grows, and says what became of each."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.drafts: list[_Draft] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def draft(self, key: str, head: bytes, file: Path, start: int) -> _Draft:
        self.drafts.append(_Draft(self._store, key, head, file, start))
        return self.drafts[-1]


class _Draft:
    def __init__(self, store: ObjectStore, key: str, head: bytes, file: Path, start: int) -> None:
        self._store, self._head, self._file, self._start = store, head, file, start
        self.key = key
        self.told: list[int] = []
        self.outcome = ""

    def grown(self, length: int) -> None:
        assert self._file.stat().st_size >= self._start + length  # it can be read from there now
        self.told.append(length)

    def complete(self, length: int) -> ObjectInfo:
        self.outcome = "completed"
        return self._store.put(self.key, [self._head, FileSegment(self._file, self._start, length)])

    def abandon(self) -> None:
        self.outcome = self.outcome or "abandoned"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    storage = settings.storage.model_copy(update={"max_instance_bytes": 64 << 20})
    return settings.model_copy(update={"storage": storage})


@pytest.fixture
def drafting(core: Core, monkeypatch: pytest.MonkeyPatch) -> Drafting:
    found = Drafting(core.archive.objects)
    monkeypatch.setattr(core.archive, "objects", found)
    return found


def large(**attributes: object) -> Dataset:
    return data_set(Rows=1024, Columns=1024, NumberOfFrames=LARGE >> 21, PixelData=bytes(LARGE), **attributes)


def arrived(core: Core, body: bytes, before_its_end: Callable[[], None] = lambda: None) -> Spooled:
    spooling = core.spool.begin(follow=lambda: core.ingest.under_way(SENDER))
    stream = io.BytesIO(body)
    while block := stream.read(300_000):
        if stream.tell() == len(body):
            before_its_end()
        spooling.write(block)
    return spooling.finish()


def store(core: Core, spooled: Spooled) -> Outcome:
    with spooled:
        return core.ingest.store(core.ingest.enter(SENDER), spooled).outcome


def test_it_is_stored_by_what_was_begun(core: Core, drafting: Drafting) -> None:
    sent = large()
    assert store(core, arrived(core, part10_file(sent))) is Outcome.STORED
    (draft,) = drafting.drafts
    assert draft.outcome == "completed"
    assert draft.told == sorted(draft.told)
    assert len(draft.told) >= 2
    (info,) = core.archive.objects.list("main/")
    assert info.key == draft.key
    assert core.archive.objects.get(info.key).endswith(encode(sent)[-1000:])


def test_what_is_short_is_not_begun(core: Core, drafting: Drafting) -> None:
    assert store(core, arrived(core, part10_file(data_set(PixelData=bytes(underway.WORTH_BYTES // 2))))) is (
        Outcome.STORED
    )
    assert drafting.drafts == []


def test_what_is_known_is_not_sent_before_it_is_compared(core: Core, drafting: Drafting) -> None:
    sent = large()
    assert store(core, arrived(core, part10_file(sent))) is Outcome.STORED
    assert store(core, arrived(core, part10_file(sent))) is Outcome.DUPLICATE
    sent.PatientComments = "other"
    assert store(core, arrived(core, part10_file(sent))) is Outcome.NEW_VERSION
    assert [each.outcome for each in drafting.drafts] == ["completed"]


def test_what_came_by_another_way_meanwhile_is_stored_once(core: Core, drafting: Drafting) -> None:
    sent = large()

    def by_another_way() -> None:
        spooling = core.spool.begin()
        spooling.write(part10_file(sent))
        store(core, spooling.finish())

    assert store(core, arrived(core, part10_file(sent), by_another_way)) is Outcome.DUPLICATE
    assert [each.outcome for each in drafting.drafts] == ["abandoned"]
    assert len(list(core.archive.objects.list("main/"))) == 1


def test_what_breaks_off_or_is_refused_is_abandoned(core: Core, drafting: Drafting) -> None:
    body = part10_file(large())
    spooling = core.spool.begin(follow=lambda: core.ingest.under_way(SENDER))
    spooling.write(body[:LARGE])
    spooling.discard()
    with arrived(core, body):
        pass
    limited = core.spool.begin(LARGE, follow=lambda: core.ingest.under_way(SENDER))
    limited.write(body[: 17 << 20])
    with pytest.raises(Exception, match="more than"):
        limited.write(body[17 << 20 :])
    assert [each.outcome for each in drafting.drafts] == ["abandoned"] * 3
    assert list(core.archive.objects.list("main/")) == []


def test_one_that_took_so_long_that_its_row_could_be_refused_is_put_anew(core: Core, drafting: Drafting) -> None:
    for days_ago, outcome in ((0.2, "completed"), (0.3, "abandoned")):
        spooled = arrived(core, part10_file(large()))
        follower = spooled._follower
        assert isinstance(follower, underway.UnderWay)
        assert follower.begun is not None
        old = version_of(days_ago)
        drafting.drafts[-1].key = ids.parse_object_key(follower.begun.object_key)[0].object_key(old)
        follower.begun = replace(follower.begun, version=old, object_key=drafting.drafts[-1].key)
        assert store(core, spooled) is Outcome.STORED
        assert drafting.drafts[-1].outcome == outcome


@pytest.mark.parametrize("cut", [900, 1000])
def test_what_is_no_instance_at_its_beginning_is_told_when_it_is_stored(
    core: Core, drafting: Drafting, cut: int
) -> None:
    with pytest.raises(Unreadable):
        store(core, arrived(core, bytes(cut) + bytes(range(256)) * (LARGE >> 8)))
    assert drafting.drafts == []


def test_nothing_goes_up_that_is_not_stored_as_it_comes(core: Core, settings: Settings) -> None:
    assert core.ingest.under_way(SENDER) is not None
    assert core.ingest.under_way(command_line("test")) is None  # no policy knows it
    deidentifying = assembly.build(
        settings.model_copy(
            update={
                "storage": settings.storage.model_copy(update={"directory": settings.storage.directory / "other"}),
                "deidentification": {"research": DeidentificationSettings(key=KEY)},
                "tenants": {"main": TenantSettings(deidentify="research")},
            }
        ),
        "test",
    )
    assert deidentifying.ingest.under_way(SENDER) is None
    deidentifying.close()


def test_the_beginning_says_what_the_whole_says() -> None:
    limits, compared = Limits(), 0
    for path in sorted((Path(pydicom.__file__).parent / "data/test_files").glob("*.dcm")):
        with path.open("rb") as stream:
            try:
                meta, start, _ = file_meta.read(stream, limits)
                stream.seek(start)
                announced = part10.Announced(meta.sop_class_uid, meta.sop_uid)
                whole = part10.extract(stream, meta.transfer_syntax_uid, limits, announced)
            except Unreadable:
                continue
            stream.seek(start)
            found = part10.identity(stream, meta.transfer_syntax_uid, limits, announced)
        assert found == (whole.study_uid, whole.series_uid, whole.sop_uid, whole.sop_class_uid), path.name
        compared += 1
    assert compared > 40


def test_no_more_is_read_than_has_to_be() -> None:
    found = data_set()
    body = encode(found)
    pixels = body.index(b"\xe0\x7f\x10\x00")
    meta = part10.Announced()
    assert part10.identity(io.BytesIO(body[:pixels]), "1.2.840.10008.1.2.1", Limits(), meta)[2] == found.SOPInstanceUID
    with pytest.raises(Truncated):
        part10.identity(io.BytesIO(body[:50]), "1.2.840.10008.1.2.1", Limits(), meta)
    with pytest.raises(MissingAttribute):
        part10.identity(io.BytesIO(b""), "1.2.840.10008.1.2.1", Limits(), meta)


def test_what_the_disk_refuses_to_show_is_not_begun_and_stored_all_the_same(
    core: Core, drafting: Drafting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(underway.UnderWay, "_begin", refused)
        spooled = arrived(core, part10_file(large()))
    assert store(core, spooled) is Outcome.STORED
    assert drafting.drafts == []
