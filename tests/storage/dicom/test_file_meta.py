"""Preamble and File Meta Information."""

from __future__ import annotations

import io

import pydicom
import pytest

from storage.dicom import file_meta
from storage.dicom.limits import Limits
from storage.errors import LimitExceeded, NotPart10, Truncated, Unreadable
from tests.instances import CT, data_set, element, encode, identity, part10_file


def read(body: bytes) -> tuple[file_meta.FileMeta, int, bytes]:
    return file_meta.read(io.BytesIO(body), Limits())


def test_what_we_write_pydicom_and_we_read() -> None:
    meta = file_meta.FileMeta("1.2.840.10008.1.2.1", CT, "1.2.3.4", "MODALITY", "MODALITY", "GATEWAY")
    written = file_meta.write(meta)
    assert read(written + identity())[:2] == (meta, len(written))
    theirs = pydicom.dcmread(io.BytesIO(written + identity())).file_meta
    assert theirs.SourceApplicationEntityTitle == "MODALITY"
    assert theirs.ReceivingApplicationEntityTitle == "GATEWAY"
    assert written[:128] == bytes(128)


def test_a_file_without_preamble_is_read() -> None:
    whole = part10_file(data_set())
    assert read(whole[132:])[0].transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert read(whole[128:])[0].transfer_syntax_uid == "1.2.840.10008.1.2.1"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_the_encoding_of_a_bare_data_set_is_found_by_its_first_element(syntax: str) -> None:
    meta, offset, _ = read(encode(data_set(), syntax))
    assert (meta.transfer_syntax_uid, offset) == (syntax, 0)


@pytest.mark.parametrize("body", [b"", b"GIF89a" * 50, b"MZ" + bytes(200), b"<html>" * 60])
def test_other_files_are_refused(body: bytes) -> None:
    with pytest.raises(NotPart10):
        read(body)


def test_meta_information_that_ends_early_is_truncated() -> None:
    with pytest.raises(Truncated):
        read(part10_file(data_set())[:170])
    with pytest.raises(Truncated):
        read(bytes(128) + b"DICM")


def test_meta_information_without_end_is_refused() -> None:
    long = element(0x00020102, "OB", b"", 0xFFFFFFF0)
    with pytest.raises(LimitExceeded):
        read(bytes(128) + b"DICM" + long)


def test_a_wrong_group_length_is_of_no_account() -> None:
    whole = bytearray(part10_file(data_set()))
    whole[140:144] = b"\xff\xff\xff\x00"
    assert read(bytes(whole))[0].transfer_syntax_uid == "1.2.840.10008.1.2.1"


def test_a_transfer_syntax_that_is_no_uid_is_refused() -> None:
    whole = part10_file(data_set()).replace(b"1.2.840.10008.1.2.1\0", b"../../../etc/passw\0\0")
    with pytest.raises(Unreadable):
        read(whole)
