"""Every file of ../shared/dicom and of pydicom's wheel: readable again, without its UIDs, and as valid as before."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from pydicom.data import get_charset_files, get_testdata_files
from pydicom.errors import InvalidDicomError

from gateway.deid import Option, Profile, deidentify
from gateway.deid.uids import WELL_KNOWN
from gateway.errors import NotDeidentified
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, read
from tests.instances import SHARED

OPTIONS = frozenset(Option) - {Option.RETAIN_UIDS, Option.RETAIN_FULL_DATES}
# What pydicom raises on the broken files among them; the archive does not take such files in.
BROKEN = (
    InvalidDicomError,
    ValueError,
    OSError,
    EOFError,
    NotImplementedError,
    RecursionError,
    AttributeError,
    TypeError,
)


def paths() -> list[Path]:
    wheel = [Path(name) for name in (*get_testdata_files(), *get_charset_files("*.dcm"))]
    # One slice of each study says what the others would.
    shared = [path for path in sorted(SHARED.rglob("*")) if path.suffix in (".dcm", "") and path.is_file()]
    studies: dict[Path, Path] = {}
    for path in shared:
        studies.setdefault(path.parent if "studies" in path.parts else path, path)
    found = [path for path in (*wheel, *studies.values()) if path.suffix == ".dcm" or path.suffix == ""]
    return [path for path in dict.fromkeys(found) if path.stat().st_size < 8 << 20]


def sources() -> Iterator[tuple[Path, Dataset]]:
    for path in paths():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                source = pydicom.dcmread(path, force=True)
                if "SOPClassUID" in source and source.file_meta.get("TransferSyntaxUID"):
                    yield path, source
        except BROKEN:
            continue


def uids(source: Dataset) -> set[bytes]:
    """UIDs of a readable instance that name somebody's objects."""
    found = {str(source.get(name, "")) for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")}
    return {uid.encode() for uid in found if len(uid) > 12 and uid not in WELL_KNOWN}


@pytest.mark.parametrize("options", [frozenset[Option](), OPTIONS], ids=["basic", "options"])
@pytest.mark.filterwarnings("ignore")
def test_every_file_comes_out_readable_and_without_its_uids(options: frozenset[Option]) -> None:
    profile = Profile(options)
    done = refused = 0
    for path, source in sources():
        try:
            found = deidentify(source, profile, PSEUDONYMS, PATIENT)
        except NotDeidentified:
            refused += 1
            continue
        data = found.part10()
        again = read(data)
        assert {int(tag) for tag in again.keys()} == {int(tag) for tag in found.dataset.keys()}, path  # noqa: SIM118
        for uid in uids(source):
            assert uid not in data, (path, uid)
        assert again.PatientIdentityRemoved == "YES"
        done += 1
    assert done >= (200 if SHARED.exists() else 100)
    assert refused <= done // 20


# `make deid-grid` has every file looked at by dciodvfy, CI one in five.
STEP = 1 if os.environ.get("DEID_GRID") else 5
_ERROR = re.compile(r"^Error - (.*)", re.MULTILINE)
# What differs between two messages of one kind: values, and which item it is in.
_VARIABLE = re.compile(r"\[[^]]*\]|= *\d+|\b\d+(\.\d+)+\b|ReferencedSOPInstanceUID .*")
# The series that are listed stay listed when the source images, which nothing requires, are gone (X of X/Z/U*).
_ALLOWED = "ReferencedSeriesSequence present but Instance does not reference Instances"


def errors(path: Path) -> set[str]:
    found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False, errors="replace")
    return {_VARIABLE.sub("", message).strip() for message in _ERROR.findall(found.stderr)}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (Debian package dicom3tools)")
@pytest.mark.filterwarnings("ignore")
def test_no_instance_is_less_valid_than_before(tmp_path: Path) -> None:
    worse: dict[str, set[str]] = {}
    checked = 0
    # Of a file that is cut off, dciodvfy tells different things when what is there has been written whole.
    whole = [each for each in sources() if "truncated" not in each[0].name and "malformed" not in each[0].parts]
    for path, source in whole[::STEP]:
        before = errors(path)
        for options in (frozenset[Option](), OPTIONS):
            out = tmp_path / "out.dcm"
            out.write_bytes(deidentify(source, Profile(options), PSEUDONYMS, PATIENT).part10())
            new = {message for message in errors(out) - before if not message.startswith(_ALLOWED)}
            if new:
                worse[path.name] = new
        checked += 1
    assert worse == {}
    assert checked > 100 // STEP
