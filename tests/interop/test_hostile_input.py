"""Malformed input, over both protocols, into running processes: refused as it should be, and it costs nothing else.

The classes are P1 (truncation), P2 (nesting and counts), P3 (inflate bombs), U1 (identifiers) and U2 (known UIDs).
"""

from __future__ import annotations

import subprocess
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from storage.dicom import file_meta
from tests.instances import (
    CT,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    SHARED,
    data_set,
    element,
    encode,
    identity,
    part10_file,
    text,
)
from tests.programs import need_program
from tests.raw_scu import RawScu
from tests.serving import Gateway

EXPLICIT, DEFLATED = file_meta.EXPLICIT_VR_LITTLE_ENDIAN, file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
pytestmark = pytest.mark.dealt("s3+sqlite")

MARK = "Zyxwvut"
EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"


def named(body: bytes = b"") -> bytes:
    return text(0x00100010, "PN", f"{MARK}^Patient") + identity("1.2.3.4") + body


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(body) + packer.flush()


def nested(depth: int) -> bytes:
    opening = element(0x00400275, "SQ", b"", 0xFFFFFFFF) + ITEM
    return opening * depth + (ITEM_END + SEQUENCE_END) * depth


def with_uid(tag: int, uid: str) -> bytes:
    return named().replace(text(0x0020000D, "UI", "1.2.3"), text(0x0020000D, "UI", uid)) if tag == 0x0020000D else b""


HOSTILE = {
    "P1 value longer than the stream": (EXPLICIT, named(element(0x7FE00010, "OW", b"abc", 0xFFFFFFFE))),
    "P1 element cut in two": (EXPLICIT, named(text(0x00200010, "SH", "study id"))[:-5]),
    "P1 fragments without an end": (EXPLICIT, named(element(0x7FE00010, "OB", b"", 0xFFFFFFFF))),
    "P2 nesting of 65": (EXPLICIT, named(nested(65))),
    "P2 nesting of 5000": (EXPLICIT, named(nested(5000))),
    "P2 five million empty items": (DEFLATED, deflated(named(element(0x00400275, "SQ", EMPTY_ITEM * 5_000_000)))),
    "P3 inflates a thousandfold": (DEFLATED, deflated(named(element(0x7FE00010, "OW", bytes(64 << 20))))),
    "P3 no deflate at all": (DEFLATED, b"\xff\xfe" * 50),
    "U1 path in a UID": (EXPLICIT, with_uid(0x0020000D, "../../../../tmp/x")),
    "U1 absolute path": (EXPLICIT, with_uid(0x0020000D, "/etc/passwd")),
    "U1 percent": (EXPLICIT, with_uid(0x0020000D, "%2e%2e%2f")),
    "U1 backslash": (EXPLICIT, with_uid(0x0020000D, "1.2\\3.4")),
    "U1 too long": (EXPLICIT, with_uid(0x0020000D, "1." + "2" * 63)),
    "U1 empty": (EXPLICIT, with_uid(0x0020000D, "")),
    "U1 empty component": (EXPLICIT, with_uid(0x0020000D, "1..2")),
    "attribute twice": (EXPLICIT, named(text(0x00200010, "SH", "a") * 2)),
}  # fmt: skip


@pytest.fixture
def untouched(running: Gateway) -> Iterator[None]:
    """Afterwards: the same objects, an empty spool, everybody else served, nothing of the patient in the log."""
    before = running.object_keys()
    workers = running.workers()
    yield
    started = time.monotonic()
    assert requests.get(running.web.replace("/dicomweb", "/health/ready"), timeout=30).status_code == 200
    subprocess.run(["echoscu", "-aec", "GATEWAY", "127.0.0.1", str(running.dimse_port)], check=True, timeout=30)
    assert time.monotonic() - started < 10
    assert running.object_keys() == before
    assert not list((running.directory / "archive").glob("tmp/*"))
    assert not list((running.directory / "spool").iterdir())
    assert running.workers() == workers
    assert MARK not in running.log


def file_of(syntax: str, body: bytes) -> bytes:
    return file_meta.write(file_meta.FileMeta(syntax, CT, "1.2.3.4")) + body


def _refused(answer: dict[str, Any]) -> dict[str, Any]:
    """The one instance that was not stored, whether its UIDs could be read or not."""
    (found,) = [item for tag in ("00081198", "0008119A") for item in answer.get(tag, {}).get("Value", ())]
    return dict(found)


@need_program("echoscu", "dcmtk")
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.usefixtures("untouched")
def test_stow_refuses_it_for_itself(running: Gateway, case: str) -> None:
    syntax, body = HOSTILE[case]
    lines = running.audit().count('"refused"')
    answer = requests.post(
        f"{running.web}/studies", file_of(syntax, body), headers={"Content-Type": "application/dicom"}, timeout=60
    )
    assert answer.status_code == 409, answer.text
    item = _refused(answer.json())
    assert item["00081197"]["Value"] == [0xC000]
    assert item["00000902"]["Value"][0]
    assert MARK not in answer.text
    assert running.audit().count('"refused"') == lines + 1


@need_program("echoscu", "dcmtk")
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.usefixtures("untouched")
def test_c_store_refuses_it_for_itself(running: Gateway, case: str) -> None:
    syntax, body = HOSTILE[case]
    with RawScu(("127.0.0.1", running.dimse_port), CT, syntax) as scu:
        refused = scu.store("1.2.3.4", body)
        assert refused is not None
        assert refused.Status is not None
        assert refused.Status & 0xF000 == 0xC000
        # The association goes on.
        found = data_set(PixelData=None)
        good = scu.store(found.SOPInstanceUID, deflated(encode(found)) if syntax == DEFLATED else encode(found))
        assert good is not None
        assert good.Status == 0
    remove(running, found.StudyInstanceUID)


def remove(running: Gateway, study_uid: str) -> None:
    """Take the instance that proved the association alive away again, from the bucket too."""
    with running.objects() as store:
        for info in list(store.list(f"main/{study_uid}/")):
            store.delete(info.key)


@need_program("echoscu", "dcmtk")
def test_a_known_uid_in_another_study_is_quarantined_and_changes_nothing(running: Gateway) -> None:
    """U2."""
    one = data_set(SOPInstanceUID="1.9.1")
    two = data_set(SOPInstanceUID="1.9.1", PatientID="somebody else")
    headers = {"Content-Type": "application/dicom"}
    assert requests.post(f"{running.web}/studies", part10_file(one), headers=headers, timeout=60).status_code == 200
    answer = requests.post(f"{running.web}/studies", part10_file(two), headers=headers, timeout=60)
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    found = requests.get(f"{running.web}/instances?SOPInstanceUID=1.9.1", timeout=60).json()
    assert [each["0020000D"]["Value"] for each in found] == [[one.StudyInstanceUID]]
    assert requests.get(f"{running.web}/studies/{two.StudyInstanceUID}/metadata", timeout=60).status_code == 404


# What becomes of each broken file: "stored", or the beginning of the reason that a client is shown.
REAL = {
    "bad-date-time-no-patientid.dcm": "stored",
    "corrupt-jpeg-frame.dcm": "stored",
    "deflate-bomb-64mib.dcm": "the deflated data set inflates beyond",
    "dimensions-overflow.dcm": "stored",
    "empty.dcm": "not a DICOM Part 10 file",
    "group-length-wrong.dcm": "stored",
    "meta-sop-uid-differs.dcm": "stored",
    "missing-study-uid.dcm": "StudyInstanceUID (0020,000D) is missing",
    "nested-sequence-depth-5000.dcm": "sequences nested more than 64 deep",
    "nested-sequence-depth-60.dcm": "stored",
    "no-preamble-with-meta.dcm": "stored",
    "not-dicom.dcm": "not a DICOM Part 10 file",
    "pixeldata-length-3gib.dcm": "the stream ends inside a value",
    "pixeldata-shorter-than-rows-columns.dcm": "stored",
    "preamble-mz-header.dcm": "stored",
    "preamble-only.dcm": "the stream ends inside the File Meta Information",
    "sop-uid-bad-components.dcm": "SOPInstanceUID (0008,0018): not a UID",
    "sop-uid-path-traversal.dcm": "SOPInstanceUID (0008,0018): not a UID",
    "sop-uid-too-long.dcm": "SOPInstanceUID (0008,0018): at most 64 characters",
    "text-injection.dcm": "stored",
    "truncated-in-meta.dcm": "the stream ends inside the File Meta Information",
    "truncated-in-pixeldata.dcm": "the stream ends inside a value",
    "unknown-charset.dcm": "stored",
    "very-long-text.dcm": "stored",
    "fo-gh1339.dcm": "the stream ends inside encapsulated Pixel Data",
    "fo-gh178.dcm": "stored",
    "fo-gh179a.dcm": "the stream ends inside a value",
    "fo-gh179b.dcm": "the stream ends inside a value",
    "fo-gh223.dcm": "StudyInstanceUID (0020,000D) is missing",
    "fo-gh364.dcm": "an item or delimiter stands outside",
    "fo-gh487.dcm": "StudyInstanceUID (0020,000D) is missing",
    "fo-issue1097_failtoopendeflatedfilewithsq.dcm": "stored",
    "no-preamble-dicm-in-data.dcm": "not a DICOM Part 10 file",
}


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
@pytest.mark.parametrize("name", REAL)
def test_broken_files_have_the_outcome_that_is_written_down(running: Gateway, name: str) -> None:
    (path,) = SHARED.rglob(name)
    sent = path.read_bytes()
    answer = requests.post(f"{running.web}/studies", sent, headers={"Content-Type": "application/dicom"}, timeout=60)
    if answer.status_code == 400:
        assert REAL[name] == "not a DICOM Part 10 file", answer.text
        return
    body = answer.json()
    if REAL[name] == "stored":
        # They share one study and differ in the patient: what contradicts an earlier one is quarantined.
        quarantined = body.get("00081198", {}).get("Value", [{}])[0].get("00081197", {}).get("Value") == [0xA900]
        assert answer.status_code == 200 or quarantined, answer.text
        return
    assert answer.status_code == 409
    item = _refused(body)
    assert item["00000902"]["Value"][0].startswith(REAL[name]), item
