"""Identifiers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dicom import identifiers as ids
from storage.errors import InvalidIdentifier


def key() -> ids.InstanceKey:
    return ids.InstanceKey(ids.tenant("main"), ids.study_uid("1.2"), ids.series_uid("1.3"), ids.sop_uid("1.4"))


@given(st.text(max_size=80))
def test_what_passes_as_a_uid_is_digits_and_dots_of_at_most_64_characters(text: str) -> None:
    try:
        found = ids.study_uid(text)
    except InvalidIdentifier:
        return
    assert len(found) <= 64
    assert set(found) <= set("0123456789.")
    assert ".." not in found


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 33, "records.x"])
def test_a_tenant_that_may_not_stand_in_a_key_is_refused(name: str) -> None:
    with pytest.raises(InvalidIdentifier):
        ids.tenant(name)


def test_versions_rise_strictly_and_carry_the_time() -> None:
    clock = ids.VersionClock()
    before = time.time()
    found = [clock.next() for _ in range(5000)]
    assert found == sorted(set(found))
    assert before - 0.01 <= ids.version_time_s(found[0]) <= time.time() + 0.01


def test_an_object_key_reads_back_as_what_it_was_made_of() -> None:
    version = ids.VersionClock().next()
    assert ids.parse_object_key(key().object_key(version)) == (key(), version)


@pytest.mark.parametrize("text", ["main/records/x.json", "main/1.2/1.3/1.4.dcm", "main/1.2/1.3/../1.4.dcm", "a", ""])
def test_other_keys_are_no_instances(text: str) -> None:
    with pytest.raises(InvalidIdentifier):
        ids.parse_object_key(text)
