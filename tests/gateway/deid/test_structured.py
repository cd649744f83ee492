"""Content items: by concept name and value type, with the tree valid and its references true afterwards."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from gateway.deid import Option
from tests.gateway.deid.canaries import TABLE, Cleaner
from tests.gateway.deid.made import PATIENT, PSEUDONYMS, dataset, instance, read, through

SR = "1.2.840.10008.5.1.4.1.1.88.33"
CLEAN = Option.CLEAN_STRUCTURED_CONTENT
OPTIONS = [option for option in TABLE["options"] if option not in ("retain_safe_private", "clean_graphics")]
TEXT = "CN00000000T0 ok"


def code(scheme: str, value: str, meaning: str = "meaning") -> Dataset:
    return dataset((0x00080100, "SH", value), (0x00080102, "SH", scheme), (0x00080104, "LO", meaning))


def item(value_type: str, scheme: str = "DCM", value: str = "1", *more: tuple[int, str, object]) -> Dataset:
    return dataset(
        (0x0040A010, "CS", "CONTAINS"),
        (0x0040A040, "CS", value_type),
        (0x0040A043, "SQ", [code(scheme, value)]),
        *more,
    )


def reference() -> tuple[int, str, object]:
    return 0x00081199, "SQ", [dataset((0x00081150, "UI", "1.2.840.10008.5.1.4.1.1.2"), (0x00081155, "UI", "1.2.3.9"))]


VALUES: dict[str, tuple[int, str, object]] = {
    "TEXT": (0x0040A160, "UT", TEXT),
    "PNAME": (0x0040A123, "PN", TEXT),
    "DATE": (0x0040A121, "DA", "20240101"),
    "TIME": (0x0040A122, "TM", "101112"),
    "DATETIME": (0x0040A120, "DT", "20240101101112"),
    "UIDREF": (0x0040A124, "UI", "1.2.3.8"),
    "IMAGE": reference(),
    "COMPOSITE": reference(),
    "WAVEFORM": reference(),
    "NUM": (0x0040A300, "SQ", [dataset((0x004008EA, "SQ", [code("UCUM", "a")]), (0x0040A30A, "DS", "95"))]),
    "CODE": (0x0040A168, "SQ", [code("DCM", "M")]),
    "CONTAINER": (0x0040A050, "CS", "SEPARATE"),
}


def report(*items: Dataset) -> Dataset:
    return instance(
        (0x0040A040, "CS", "CONTAINER"),
        (0x0040A043, "SQ", [code("DCM", "121060")]),
        (0x0040A730, "SQ", list(items)),
        sop_class=SR,
    )


def content(source: Dataset, *options: Option) -> list[Dataset]:
    found = through(source, CLEAN, *options, cleaner=Cleaner())
    return list(read(found.part10()).get("ContentSequence", []))


@pytest.mark.parametrize("option", [None, *OPTIONS])
def test_every_content_item_of_the_table_gets_its_action(option: str | None) -> None:
    rows = TABLE["content_items"]
    source = report(*(item(kind, scheme, value, VALUES[kind]) for scheme, value, kind, *_ in rows))
    found = content(source, *([Option(option)] if option else []))
    by_code = {
        (
            each.ConceptNameCodeSequence[0].CodingSchemeDesignator,
            each.ConceptNameCodeSequence[0].CodeValue,
            each.ValueType,
        ): each
        for each in found
    }
    assert len(by_code) == len(found)
    for scheme, value, kind, _, basic, cells in rows:
        action = cells.get(option, basic)
        now = by_code.get((scheme, value, kind))
        if action == "X":
            assert now is None, (scheme, value, kind)
            continue
        assert now is not None, (scheme, value, kind)
        assert fault(now, kind, action, option) is None, (scheme, value, kind, action)


def fault(now: Dataset, kind: str, action: str, option: str | None) -> str | None:
    tag, _, before = VALUES[kind]
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        uid = now.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        return None if (uid == "1.2.3.9") == (option == "retain_uids") else f"reference {uid}"
    if kind in ("CODE", "CONTAINER"):
        return None if tag in now else "not kept"
    if kind == "NUM":
        years = now.MeasuredValueSequence[0].NumericValue
        return None if years == 90 else f"age {years}"
    value = str(now[tag].value)
    if action == "K":
        return None if value == before else f"not kept: {value}"
    if action == "C" and kind == "TEXT":
        return None if value == "ok" else f"not cleaned: {value}"
    if action == "C" and kind == "TIME":
        return None if value == before else f"time changed: {value}"
    if kind == "UIDREF":
        return None if value == PSEUDONYMS.uid("1.2.3.8") else f"not mapped: {value}"
    return None if value and value != before else f"not replaced: {value}"


def test_dates_of_content_items_are_shifted_like_all_others() -> None:
    source = report(item("DATE", "DCM", "111060", VALUES["DATE"]), item("DATETIME", "99X", "1", VALUES["DATETIME"]))
    source.add_new(0x00080020, "DA", "20240101")
    found = read(through(source, CLEAN, Option.RETAIN_MODIFIED_DATES).part10())
    shifted = [found.ContentSequence[0].Date, found.ContentSequence[1].DateTime[:8], found.StudyDate]
    assert len(set(shifted)) == 1
    assert shifted[0] != "20240101"


def test_items_that_the_table_does_not_list_follow_the_attributes() -> None:
    found = content(report(*(item(kind, "99X", "1", value) for kind, value in VALUES.items())))
    by_kind = {each.ValueType: each for each in found}
    assert by_kind.keys() == VALUES.keys()
    assert by_kind["TEXT"].TextValue == "ok"
    assert by_kind["PNAME"].PersonName == "REMOVED"
    assert by_kind["DATE"].Date == "19000101"
    assert PSEUDONYMS.uid("1.2.3.8") == by_kind["UIDREF"].UID
    assert by_kind["NUM"].MeasuredValueSequence[0].NumericValue == 95


def test_without_the_option_the_content_is_one_item_that_says_nothing() -> None:
    source = report(*(item(kind, "99X", "1", value) for kind, value in VALUES.items()))
    found = read(through(source).part10()).ContentSequence
    assert len(found) == 1
    assert found[0].TextValue == "REMOVED"
    assert found[0].ValueType == "TEXT"
    assert PATIENT.id.encode() not in str(found).encode()


def by_reference(*position: int) -> Dataset:
    return dataset((0x0040A010, "CS", "INFERRED FROM"), (0x0040DB73, "UL", list(position)))


def test_references_by_position_follow_their_targets() -> None:
    gone = item("TEXT", "DCM", "121106", VALUES["TEXT"])  # Comment: removed
    gone.add_new(0x0040A730, "SQ", [item("TEXT", "99X", "1", VALUES["TEXT"])])
    target = item("TEXT", "99X", "2", VALUES["TEXT"])
    holder = item("CONTAINER", "99X", "3", VALUES["CONTAINER"])
    inner = item("TEXT", "DCM", "121106", VALUES["TEXT"]), item("TEXT", "99X", "4", VALUES["TEXT"])
    holder.add_new(0x0040A730, "SQ", list(inner))
    pointing = item("CONTAINER", "99X", "5", VALUES["CONTAINER"])
    pointing.add_new(
        0x0040A730, "SQ", [by_reference(1, 2), by_reference(1, 3, 2), by_reference(1, 1, 1), by_reference(1, 3, 1)]
    )
    found = content(report(gone, target, holder, pointing))
    positions = [each.ReferencedContentItemIdentifier for each in found[2].ContentSequence]
    # The third pointed below an item that is gone, the fourth to one that is: the nearest above them stands for them.
    assert positions == [[1, 1], [1, 2, 1], 1, [1, 2]]
    assert found[1].ContentSequence[0].ConceptNameCodeSequence[0].CodeValue == "4"


def test_when_nothing_stays_the_sequence_goes() -> None:
    assert content(report(item("TEXT", "DCM", "121106", VALUES["TEXT"]))) == []
