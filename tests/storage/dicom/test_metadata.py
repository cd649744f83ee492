"""Keys on stored metadata."""

from __future__ import annotations

from typing import Any

import pytest

from storage.dicom import json_model, metadata
from storage.dicom.keys import Options
from storage.dicom.metadata import Item, Reserved, Step, Value

DATA_SET: dict[str, Any] = {
    "00080008": {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY"]},
    "00090010": {"vr": "LO", "Value": ["OTHER"]},
    "00090011": {"vr": "LO", "Value": ["ACME"]},
    "00091002": {"vr": "LO", "Value": ["other's"]},
    "00091102": {"vr": "UN", "InlineBinary": "YWNtZQ=="},
    "00180050": {"vr": "DS", "Value": [1.5]},
    "00321064": {
        "vr": "SQ",
        "Value": [
            {"00080100": {"vr": "SH", "Value": ["A"]}, "00080104": {"vr": "LO", "Value": ["one"]}},
            {"00080100": {"vr": "SH", "Value": ["B"]}, "00080104": {"vr": "LO"}},
        ],
    },
    "00400555": {"vr": "SQ"},
    "7FE00010": {"vr": "OW", "BulkDataURI": "x"},
}
EMPTY = Options(empty_values=True)


def code(*keys: Value) -> Item:
    return Item(Step("00321064"), keys)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (Value(Step("00080008"), "CS", "PRIMARY"), True),
        (Value(Step("00080008"), "CS", "PRI*"), True),
        (Value(Step("00080008"), "CS", "primary"), False),
        (Value(Step("00180050"), "DS", "1.50"), True),
        (Value(Step("00091002", "ACME"), "", "acme"), True),
        (Value(Step("00094202", "ACME"), "", "ac*"), True),
        (Value(Step("00091002", "OTHER"), "", "other's"), True),
        (Value(Step("00091002", "NOBODY"), "", "o*"), False),
        (Value(Step("00091002", "NOBODY"), "", '""', EMPTY), True),
        (Reserved("0009", "ACME"), True),
        (Reserved("0009", "NOBODY"), False),
        (code(Value(Step("00080100"), "SH", "A"), Value(Step("00080104"), "LO", "one")), True),
        (code(Value(Step("00080100"), "SH", "B"), Value(Step("00080104"), "LO", "one")), False),
        (code(Value(Step("00080100"), "SH", "B"), Value(Step("00080104"), "LO", '""', EMPTY)), True),
        (Value(Step("00321064"), "SQ", '""', EMPTY), False),
        (Value(Step("00400555"), "SQ", '""', EMPTY), True),
        (Value(Step("00109431"), "SQ", '""', EMPTY), True),
        (Value(Step("7FE00010"), "OW", "1"), False),
        (Item(Step("00080008"), (Value(Step("00080100"), "SH", "A"),)), False),
    ],
)
def test_keys(key: metadata.Key, expected: bool) -> None:
    assert metadata.matches(key, DATA_SET) is expected
    # What the text is looked through for first never hides a match.
    text = json_model.dumps(DATA_SET)
    assert not expected or all(mark in text for mark in metadata.marks((key,)))


def test_pieces_come_with_the_sequences_and_creators_that_lead_to_them() -> None:
    found: dict[str, Any] = {}
    for steps in (
        (Step("00321064"), Step("00080100")),
        (Step("00321064"), Step("00080104")),
        (Step("00091002", "ACME"),),
    ):
        metadata.merge(found, metadata.pick(DATA_SET, steps))
    assert found == {tag: DATA_SET[tag] for tag in ("00321064", "00091102", "00090011")}
    assert metadata.pick(DATA_SET, (Step("00400555"), Step("00080100"))) == {"00400555": {"vr": "SQ"}}
    assert metadata.pick(DATA_SET, (Step("00091002", "NOBODY"),)) == {}
