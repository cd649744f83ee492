"""Every well-formed file of ../shared/dicom, over both protocols, in and out of running processes."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import requests

from storage.dicom import file_meta, part10
from storage.dicom.limits import Limits
from tests.instances import SHARED, extract, uid
from tests.programs import need_program
from tests.raw_scu import data_set_of, send_file
from tests.serving import Gateway

pytestmark = [
    pytest.mark.first,
    pytest.mark.dealt("local+sqlite", "s3+postgres"),
    pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom"),
    pytest.mark.xdist_group("shared files"),
    # The sending side is pydicom's: two files have UIDs with leading zeros.
    pytest.mark.filterwarnings("ignore:Invalid value for VR UI"),
]

# storescu's option for a transfer syntax; DCMTK 3.6.7 cannot propose the others.
STORESCU = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
    "1.2.840.10008.1.2.4.100": "-xm",
    "1.2.840.10008.1.2.4.102": "-xn",
}
REENCODED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files; four lack a UID without which nothing has a place, so copies of them get one."""
    folder = tmp_path_factory.mktemp("completed")
    found = []
    for path in sorted(SHARED.rglob("*.dcm")):
        if "malformed" in path.parts:
            continue
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if header.get("StudyInstanceUID"):
            found.append(path)
            continue
        whole = pydicom.dcmread(path)
        whole.StudyInstanceUID = uid()
        whole.SOPInstanceUID = whole.file_meta.MediaStorageSOPInstanceUID
        whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID
        whole.SeriesInstanceUID = whole.get("SeriesInstanceUID") or uid()
        whole.save_as(folder / path.name, enforce_file_format=True)
        found.append(folder / path.name)
    assert len(list(folder.iterdir())) == 4
    return found


def objects(gateway: Gateway) -> Iterator[tuple[str, file_meta.FileMeta, bytes]]:
    with gateway.objects() as store:
        for info in store.list(""):
            content = store.get(info.key)
            meta, offset, _ = file_meta.read(io.BytesIO(content), Limits())
            yield info.key, meta, content[offset:]


@need_program("storescu", "dcmtk")
def test_every_file_is_kept_byte_for_byte_and_once_over_both_protocols_and_from_dcmtk(
    running: Gateway, files: list[Path]
) -> None:
    by_dcmtk = 0
    first: dict[str, tuple[str, bytes]] = {}
    for path in files:
        sent, body = data_set_of(path)
        instance = extract(body, sent.transfer_syntax_uid)
        assert send_file(("127.0.0.1", running.dimse_port), path) == 0, path
        if instance.sop_uid not in first:
            first[instance.sop_uid] = (sent.transfer_syntax_uid, body)
            comes_back(running, instance, sent.transfer_syntax_uid, body)
        # The same content over the other protocol, and as DCMTK writes it where it can propose the syntax.
        answer = requests.post(
            f"{running.web}/studies", path.read_bytes(), headers={"Content-Type": "application/dicom"}, timeout=60
        )
        assert answer.status_code == 200, (path, answer.text)
        option = STORESCU.get(sent.transfer_syntax_uid)
        if option is not None:
            command = ["storescu", option, "-aec", "GATEWAY", "127.0.0.1", str(running.dimse_port), str(path)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            by_dcmtk += done.returncode == 0
    assert by_dcmtk > 120
    kept: dict[str, list[tuple[str, bytes]]] = {}
    for _, meta, body in objects(running):
        found = extract(body, meta.transfer_syntax_uid)
        kept.setdefault(found.sop_uid, []).append((meta.transfer_syntax_uid, body))
    assert kept.keys() == first.keys()
    for sop_uid, sent_first in first.items():
        assert sent_first in kept[sop_uid]
    # One object for each content: the same file over two protocols, and DCMTK's rewriting of it, made no second one.
    contents = {sop_uid: {extract(body, syntax).canonical_digest for syntax, body in kept[sop_uid]} for sop_uid in kept}
    assert {name: len(found) for name, found in contents.items()} == {name: len(kept[name]) for name in kept}
    assert {name for name, found in contents.items() if len(found) > 1} == {
        "1.2.840.113619.2.30.1.1762295590.1623.978668950.109",  # one CT slice in nine transfer syntaxes
        "1.3.6.1.4.1.5962.1.1.8.1.1.20040826185059.5457",  # an NM frame, native and HTJ2K
    }


def comes_back(gateway: Gateway, instance: part10.Extract, syntax: str, body: bytes) -> None:
    """What WADO-RS gives is what was sent, but in a syntax that it may give."""
    url = f"{gateway.web}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"
    answer = requests.get(url, headers={"Accept": "application/dicom; transfer-syntax=*"}, timeout=60)
    assert answer.status_code == 200, answer.text
    _, offset, _ = file_meta.read(io.BytesIO(answer.content), Limits())
    back = answer.content[offset:]
    if syntax in REENCODED:
        assert extract(back).canonical_digest == instance.canonical_digest
    else:
        assert back == body
