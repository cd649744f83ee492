"""Private attributes: only what is known to be safe stays, under the creator and in the block that the file has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from gateway.config import InvalidSettings
from gateway.deid import Deidentified, Option, Profile, SafePrivate, deidentify
from gateway.deid.safe_private import PrivateKey
from tests.gateway.deid.canaries import Cleaner
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, dataset, instance, read, written
from tests.instances import SHARED

SAFE = SafePrivate(
    {
        PrivateKey("ACME 1.1", 0x0011, 0x01): "DS",
        PrivateKey("ACME 1.1", 0x0011, 0x02): "LO",
        PrivateKey("ACME 1.1", 0x0011, 0x03): "UI",
        PrivateKey("ACME 1.1", 0x0011, 0x04): "SQ",
        PrivateKey("ACME 1.1", 0x0011, 0x05): "OB",
        PrivateKey("ACME 1.1", 0x0011, 0x06): "DA",
        PrivateKey("ACME 1.1", 0x0011, 0x07): "AS",
    }
)
RETAIN = frozenset((Option.RETAIN_SAFE_PRIVATE,))


def block(number: int = 0x10) -> list[tuple[int, str, object]]:
    """Every kind of attribute of a private block that may be anywhere in its group."""
    base = 0x00110000 | number << 8
    inner = dataset((0x00110010, "LO", "ACME 1.1"), (0x00111001, "DS", "2"), (0x00111009, "LO", "CN00000000T0"))
    inner.add_new(0x00080050, "SH", "CN00000001T0")
    return [
        (0x00110000 | number, "LO", "ACME 1.1"),
        (base | 0x01, "DS", "1.5"),
        (base | 0x02, "LO", "CN00000002T0 ok"),
        (base | 0x03, "UI", "1.2.3.4"),
        (base | 0x04, "SQ", [inner]),
        (base | 0x05, "OB", b"\1\2\3\4"),
        (base | 0x06, "DA", "20240101"),
        (base | 0x07, "AS", "095Y"),
        (base | 0x08, "LO", "CN00000003T0"),
    ]


def kept(
    source: Dataset, *more: Option, safe: SafePrivate = SAFE, syntax: str = ExplicitVRLittleEndian
) -> tuple[Dataset, Deidentified]:
    profile = Profile(RETAIN | set(more), safe_private=safe)
    found = deidentify(read(written(source, syntax)), profile, PSEUDONYMS, PATIENT, Cleaner())
    data = found.part10()
    assert b"CN0" not in data
    return read(data), found


def test_all_private_attributes_go_without_the_option() -> None:
    found = deidentify(read(written(instance(*block()))), Profile(safe_private=SAFE), PSEUDONYMS, PATIENT)
    assert not [tag for tag in found.dataset.keys() if tag >> 16 & 1]  # noqa: SIM118


@pytest.mark.parametrize("number", [0x10, 0x20, 0xFF])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_safe_attributes_stay_in_whatever_block_they_are(number: int, syntax: str) -> None:
    again, _ = kept(instance(*block(number)), syntax=syntax)
    base = 0x00110000 | number << 8
    explicit = syntax == ExplicitVRLittleEndian
    assert {f"{tag:08x}" for tag in again.keys() if tag >> 16 & 1} == {  # noqa: SIM118
        f"{tag:08x}" for tag in (0x00110000 | number, *(base | each for each in (1, 2, 3, 4, 5, 7)))
    }
    if explicit:
        assert again[base | 1].value == 1.5
        assert again[base | 2].value == "ok"
        assert again[base | 3].value == PSEUDONYMS.uid("1.2.3.4")
        assert again[base | 7].value == "090Y"
        (inner,) = again[base | 4].value
        assert {int(tag) for tag in inner.keys()} == {0x00110010, 0x00111001, 0x00080050}  # noqa: SIM118
        assert inner.AccessionNumber == ""


def test_the_same_number_of_another_creator_does_not_stay() -> None:
    again, _ = kept(
        instance(
            (0x00110010, "LO", "OTHER"),
            (0x00111001, "DS", "1"),
            (0x00110011, "LO", "ACME 1.1"),
            (0x00111101, "DS", "2"),
        )
    )
    assert {int(tag) for tag in again.keys() if tag >> 16 & 1} == {0x00110011, 0x00111101}  # noqa: SIM118


def test_dates_in_private_attributes_follow_the_date_options() -> None:
    assert kept(instance(*block()), Option.RETAIN_FULL_DATES)[0][0x00111006].value == "20240101"
    moved = kept(instance(*block()), Option.RETAIN_MODIFIED_DATES)[0][0x00111006].value
    assert moved not in ("", "20240101")


def test_uids_in_private_attributes_follow_the_option() -> None:
    assert kept(instance(*block()), Option.RETAIN_UIDS)[0][0x00111003].value == "1.2.3.4"


def test_bytes_with_text_in_them_do_not_stay() -> None:
    again, _ = kept(instance((0x00110010, "LO", "ACME 1.1"), (0x00111005, "OB", b"\0\1CN00000000T0\0\2")))
    assert not [tag for tag in again.keys() if tag >> 16 & 1]  # noqa: SIM118


def claims(status: str, *safe: int) -> tuple[int, str, object]:
    item = dataset(
        (0x00080301, "US", 0x0013),
        (0x00080302, "LO", "MINE"),
        (0x00080303, "CS", status),
        (0x00080309, "ST", "CN00000009T0"),
    )
    if safe:
        item.add_new(0x00080304, "US", list(safe))
    return 0x00080300, "SQ", [item]


MINE = [(0x00130010, "LO", "MINE"), (0x00131001, "DS", "1"), (0x00131002, "DS", "2")]


@pytest.mark.parametrize(
    ("claim", "stays"),
    [
        (claims("SAFE"), {1, 2}),
        (claims("MIXED", 2), {2}),
        (claims("UNSAFE"), set()),
        (claims("UNSAFE", 1), set()),
    ],
)
def test_what_the_instance_itself_calls_safe_stays(claim: tuple[int, str, object], stays: set[int]) -> None:
    again, _ = kept(instance(claim, *MINE))
    assert {tag & 0xFF for tag in again.keys() if tag >> 16 == 0x0013 and tag & 0xF000} == stays  # noqa: SIM118
    assert (0x00080300 in again) == bool(stays)


def test_claims_are_not_honoured_where_the_profile_does_not() -> None:
    again, _ = kept(instance(claims("SAFE"), *MINE), safe=SafePrivate(honour_claims=False))
    assert not [tag for tag in again.keys() if tag >> 16 & 1]  # noqa: SIM118
    assert 0x00080300 not in again


def test_an_element_outside_of_every_block_does_not_stay() -> None:
    again, _ = kept(instance((0x00110001, "DS", "1"), (0x00110101, "DS", "1"), *block()[:2]))
    assert {int(tag) for tag in again.keys() if tag >> 16 & 1} == {0x00110010, 0x00111001}  # noqa: SIM118


GOOD = {"private_creator": "ACME 1.1", "group": "0011", "element_in_block": "01", "vr": "DS"}


def saved(folder: Path, *rows: object) -> Path:
    path = folder / "safe.json"
    path.write_text(json.dumps({"about": {}, "safe_private_attributes": rows}))
    return path


def test_a_file_of_safe_private_attributes_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, GOOD, {**GOOD, "element_in_block": "0C", "vr": None, "name": "x"}, {**GOOD, "group": "0a1F"})
    assert SafePrivate.read(path).rows == {
        PrivateKey("ACME 1.1", 0x0011, 0x01): "DS",
        PrivateKey("ACME 1.1", 0x0011, 0x0C): "UN",
        PrivateKey("ACME 1.1", 0x0A1F, 0x01): "DS",
    }


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({**GOOD, "group": "0010"}, "safe_private_attributes.1.group"),
        ({**GOOD, "group": "11"}, "safe_private_attributes.1.group"),
        ({**GOOD, "element_in_block": "1001"}, "safe_private_attributes.1.element_in_block"),
        ({**GOOD, "private_creator": ""}, "safe_private_attributes.1.private_creator"),
        ({**GOOD, "vr": "decimal"}, "safe_private_attributes.1.vr"),
        ({**GOOD, "vr": "IS"}, "safe_private_attributes.1: the same attribute with another VR"),
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, row: object, fault: str) -> None:
    with pytest.raises(InvalidSettings) as raised:
        SafePrivate.read(saved(tmp_path, GOOD, row))
    assert len(raised.value.faults) == 1
    assert fault in raised.value.faults[0]


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "safe.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidSettings, match=str(path)):
        SafePrivate.read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="No such file"):
        SafePrivate.read(tmp_path / "none.json")


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/dicom")
def test_the_table_of_the_standard_is_read() -> None:
    found = SafePrivate.read(SHARED.parent / "standard" / "safe_private_attributes.json")
    assert len(found.rows) == 479
