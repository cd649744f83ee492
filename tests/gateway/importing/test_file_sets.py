"""What a DICOMDIR gives: the files that it names, wherever it may try to lead."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from gateway.importing.file_sets import FileSet, is_directory
from gateway.importing.items import Fate, Item, Source, Told
from gateway.importing.zips import Zip
from storage.dicom.limits import Limits
from tests.instances import data_set, part10_file
from tests.programs import need_program

pytestmark = need_program("dcmmkdir", "dcmtk")


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    """A medium with four files, of which its DICOMDIR, made by DCMTK, names three."""
    folder = tmp_path / "medium"
    (folder / "IMAGES" / "MR").mkdir(parents=True)
    for number in range(4):
        (folder / "IMAGES" / "MR" / f"IM{number}").write_bytes(part10_file(data_set(StudyID="1")))
    named = [f"IMAGES/MR/IM{number}" for number in range(3)]
    subprocess.run(
        ["dcmmkdir", "--general-purpose", "--invent", "+id", str(folder), "+D", str(folder / "DICOMDIR"), *named],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder


def test_the_files_that_it_names_are_given_and_no_other(medium: Path) -> None:
    assert is_directory(medium / "DICOMDIR", Limits())
    assert not is_directory(medium / "IMAGES" / "MR" / "IM0", Limits())
    entries = list(FileSet(medium / "DICOMDIR", Limits()).entries(0))
    assert [entry.name for entry in entries] == [f"IMAGES/MR/IM{number}" for number in range(3)]
    assert all(isinstance(entry, Item) for entry in entries)


def test_letter_case_does_not_matter_and_what_is_missing_is_told(medium: Path) -> None:
    (medium / "IMAGES" / "MR" / "IM1").unlink()
    (medium / "IMAGES").rename(medium / "images")
    (medium / "images" / "MR" / "IM2").rename(medium / "images" / "MR" / "im2")
    (medium / "DICOMDIR").rename(medium / "directory")
    assert is_directory(medium / "directory", Limits())
    first, second, third = FileSet(medium / "directory", Limits()).entries(0)
    assert isinstance(first, Item)
    assert isinstance(third, Item)
    assert third.place == str(medium / "images" / "MR" / "im2")
    assert second == Told("IMAGES/MR/IM1", Fate.MISSING, "the DICOMDIR names it, and it is not there")


def test_it_cannot_lead_elsewhere(medium: Path) -> None:
    (medium.parent / "OUTSIDE").write_bytes(b"x")
    whole = (medium / "DICOMDIR").read_bytes()
    for number, file_id in enumerate((rb"..\OUTSIDE", rb"\etc\passwd", rb"IMAGES\LINK")):
        whole = whole.replace(rb"IMAGES\MR\IM%d" % number, file_id.ljust(13))
    (medium / "DICOMDIR").write_bytes(whole)
    (medium / "IMAGES" / "LINK").symlink_to(medium.parent / "OUTSIDE")
    entries = list(FileSet(medium / "DICOMDIR", Limits()).entries(0))
    assert [entry.fate for entry in entries if isinstance(entry, Told)] == [Fate.REFUSED, Fate.REFUSED, Fate.MISSING]


def test_a_damaged_one_gives_what_it_named_before_and_says_so(medium: Path) -> None:
    whole = (medium / "DICOMDIR").read_bytes()
    (medium / "DICOMDIR").write_bytes(whole[:-40])
    entries = list(FileSet(medium / "DICOMDIR", Limits()).entries(0))
    assert isinstance(entries[0], Item)
    assert isinstance(entries[-1], Told)
    assert entries[-1].fate is Fate.REFUSED


def test_a_zip_with_one_gives_what_it_names_and_tells_the_rest(medium: Path, tmp_path: Path) -> None:
    (medium / "IMAGES" / "MR" / "IM1").unlink()
    with zipfile.ZipFile(tmp_path / "medium.zip", "w") as archive:
        for path in sorted(medium.rglob("*")):
            archive.write(path, f"disc/{path.relative_to(medium)}")
    source: Source = Zip(tmp_path / "medium.zip", Limits())
    entries = list(source.entries(0))
    assert [entry.name for entry in entries if isinstance(entry, Item)] == [
        "disc/IMAGES/MR/IM0",
        "disc/IMAGES/MR/IM2",
    ]
    assert [(entry.name, entry.fate) for entry in entries if isinstance(entry, Told)] == [
        ("IMAGES/MR/IM1", Fate.MISSING),
        ("disc/IMAGES/MR/IM3", Fate.SKIPPED),
    ]
    source.close()
