"""The test class that every index must pass."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from storage.dicom import identifiers as ids
from storage.dicom import json_model, keys, names
from storage.dicom.attributes import SOURCE_AE, Computed, Level
from storage.dicom.keys import Options
from storage.dicom.matching import (
    EVERYTHING,
    NOTHING,
    Absent,
    AllOf,
    AnyOf,
    Condition,
    Fuzzy,
    InItem,
    Not,
    OneOf,
    Range,
    Wildcard,
    matches,
)
from storage.dicom.metadata import Step, Value
from storage.dicom.part10 import Extract
from storage.errors import InvalidCondition, SearchTooBroad, StaleObject
from storage.index import rows
from storage.index.arrivals import Arrival, Commit, Conflict, Outcome, Quarantined
from storage.index.base import Index
from storage.index.changes import Action, VersionState
from storage.index.questions import Ageing, Changed, Cost, Position, Search, Target
from storage.index.relational import RelationalIndex
from storage.index.stored import AgedStudy, Commitment, Existence, Placed, StoredVersion, Untold, Usage
from tests.instances import data_set, encapsulated, encode, extract, identity, text, uid, version_of

MAIN = ids.tenant("main")
OTHER = ids.tenant("other")
CLOCK = ids.VersionClock()
PACKED = "1.2.840.10008.1.2.4.202"
READING_PHYSICIAN = "NameOfPhysiciansReadingStudy"
UIDS = (("StudyInstanceUID", "study_uid"), ("SeriesInstanceUID", "series_uid"), ("SOPInstanceUID", "sop_uid"))


def arrival(extracted: Extract, version: ids.Version | None = None, **more: Any) -> Arrival:
    tenant = more.pop("tenant", MAIN)
    key = ids.InstanceKey(tenant, extracted.study_uid, extracted.series_uid, extracted.sop_uid)
    return Arrival(key, version or CLOCK.next(), extracted, 400, extracted.size_bytes + 400, "ab" * 32, **more)


def put(index: Index, version: ids.Version | None = None, **attributes: Any) -> Extract:
    extracted = extract(encode(data_set(**attributes)))
    commit = index.commit(arrival(extracted, version))
    assert commit.outcome is not Outcome.REJECTED, commit
    return extracted


def recompressed_pair(**attributes: Any) -> tuple[Extract, Extract]:
    """An instance as it was sent, and as if it was recompressed."""
    base = encode(data_set(PixelData=None, **attributes))
    native = extract(base + text(0x7FE00010, "OB", "aa"))
    return native, extract(base + encapsulated(b"\xff\x4f\xff\x51"), PACKED)


def study(extracted: Extract, tenant: ids.Tenant = MAIN) -> Target:
    return Target(tenant, extracted.study_uid)


def series(extracted: Extract) -> Target:
    return Target(MAIN, extracted.study_uid, extracted.series_uid)


def positions(index: Index, level: Level, **more: Any) -> list[Position]:
    return [row.position for row in index.search(Search(MAIN, level, **more))]


def undo(index: Index, deletion: ids.Version) -> int:
    """Undo all of a deletion that can be undone; how many versions came back."""
    return len(index.restore(MAIN, CLOCK.next(), b"{}", deletion, index.restorable(MAIN, deletion)))


def found_studies(index: Index, *conditions: Condition, **more: Any) -> list[str]:
    return [row.study_uid for row in index.search(Search(MAIN, Level.STUDY, conditions, **more))]


class IndexContract:
    """What every index does; a subclass gives the ``index`` fixture."""

    @pytest.fixture
    def index(self) -> Iterator[Index]:
        raise NotImplementedError

    def dump(self, index: Index) -> str:
        """Everything that the engine keeps, looked at behind the index's back."""
        raise NotImplementedError

    # Ageing

    def test_old_studies_are_found_by_arrival_or_by_date_and_in_pages(self, index: Index) -> None:
        hundredths = {"first": 40, "second": 30, "third": 20, "dead": 45}
        found = {
            name: put(
                index, version_of(age / 100), StudyDate=f"20{age}0101", PatientBirthDate="20100203", Modality="US"
            )
            for name, age in hundredths.items()
        }
        put(index, StudyInstanceUID=found["first"].study_uid, Modality=None)
        put(index, StudyInstanceUID=found["second"].study_uid, Modality="SR")
        index.commit(arrival(extract(encode(data_set())), version_of(0.48), tenant=OTHER))
        dead = index.versions(study(found["dead"]), EVERYTHING)
        index.delete(MAIN, CLOCK.next(), b"{}", dead)

        def names(**asked: Any) -> list[str]:
            uids = {each.study_uid: name for name, each in found.items()}
            return [uids[each.study_uid] for each in index.aged(Ageing(MAIN, **asked))]

        def before(age: float) -> str:
            return ids.before_time(time.time() - age * 864)

        assert names(arrived_before=before(25)) == ["first", "second"]
        assert names(arrived_before=before(41)) == []
        assert names(arrived_before="", dated_before="20300102", settled_before=before(0)) == ["second", "third"]
        assert names(arrived_before=before(35), dated_before="20300102", settled_before=before(25)) == [
            "first", "second",
        ]  # fmt: skip
        one, two, _ = index.aged(Ageing(MAIN, before(0)))
        assert (one.study_date, one.birth_date) == ("20400101", "20100203")
        assert set(one.modalities) == {"US", None}
        assert set(two.modalities) == {"US", "SR"}
        (again,) = index.aged(Ageing(MAIN, before(0), after=one.version, limit=1))
        assert again == two

    def test_a_study_is_known_to_be_in_a_storage_class_and_whether_anything_happened_since(self, index: Index) -> None:
        one, other = put(index), put(index)
        index.commit(arrival(one, tenant=OTHER))

        def aged(tenant: ids.Tenant = MAIN) -> dict[str, AgedStudy]:
            return {each.study_uid: each for each in index.aged(Ageing(tenant, "8"))}

        before = aged()[one.study_uid]
        assert before.placed is None
        placed = Placed("STANDARD_IA", before.version, before.change)
        index.place(MAIN, one.study_uid, placed)
        assert aged()[one.study_uid] == dataclasses.replace(before, placed=placed)
        assert aged()[other.study_uid].placed is aged(OTHER)[one.study_uid].placed is None

        put(index, StudyInstanceUID=one.study_uid)
        after = aged()[one.study_uid]
        assert (after.placed, after.change > placed.change) == (placed, True)
        index.place(MAIN, one.study_uid, dataclasses.replace(placed, storage_class="GLACIER_IR", change=after.change))
        assert aged()[one.study_uid].placed == Placed("GLACIER_IR", placed.through, after.change)

        versions = [each.version for each in index.versions(study(one), EVERYTHING)]
        index.erase(MAIN, CLOCK.next(), b"{}", versions)
        index.place(MAIN, one.study_uid, placed)
        assert one.study_uid not in aged()
        assert "GLACIER_IR" not in self.dump(index)
        assert "STANDARD_IA" not in self.dump(index)

    # Storing

    def test_a_version_that_has_its_row_is_no_second_copy_of_itself(self, index: Index) -> None:
        """Two hosts may find the same object without a row: the second must not be told to remove it."""
        one = arrival(extract(encode(data_set())))
        assert [index.commit(one).outcome for _ in range(2)] == [Outcome.STORED] * 2
        assert len(index.locate(Target(MAIN, one.extract.study_uid), EVERYTHING)) == 1
        assert index.commit(dataclasses.replace(one, version=CLOCK.next())).outcome is Outcome.DUPLICATE

    def test_a_committed_instance_is_found_at_every_level(self, index: Index) -> None:
        one = put(index)
        for level in (Level.PATIENT, Level.STUDY, Level.SERIES, Level.INSTANCE):
            (row,) = index.search(Search(MAIN, level))
            assert row.study_uid == one.study_uid
        (located,) = index.locate(study(one), EVERYTHING)
        assert located.key.sop_uid == one.sop_uid
        assert located.data_offset == 400
        assert list(index.metadata([located.version_id])) == [one.metadata]
        assert index.layout(located.version_id).frames == one.frames
        assert index.layout(located.version_id).bulk == one.bulk

    def test_values_that_an_engine_would_not_take_do_not_keep_an_instance_out(self, index: Index) -> None:
        body = encode(data_set(StudyDescription="a;b;c", PatientID="P;1", InstanceNumber="7", PatientName="X;Y"))
        body = body.replace(b"a;b;c", b"a\0b\0c").replace(b"P;1", b"P\0001").replace(b"X;Y", b"X\0Y")
        found = extract(body)
        assert index.commit(arrival(found)).outcome is Outcome.STORED
        (row,) = index.search(Search(MAIN, Level.STUDY, (keys.of_keyword("StudyDescription", "a*c"),)))
        assert row.study_uid == found.study_uid
        for number in ("7.5", "9" * 12, "1e3"):
            one = extract(encode(data_set()))
            changed = json_model.loads(json_model.dumps(one.data_set))
            changed["00200011"] = {"vr": "IS", "Value": [number]}
            odd = dataclasses.replace(one, data_set=changed)
            assert index.commit(arrival(odd)).outcome is Outcome.STORED
            assert index.locate(series(odd), EVERYTHING)

    @pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "SeriesNumber"])
    @pytest.mark.parametrize("value", ["a\0b", "\0", "*\0*", "\ud800", "1.2\0", "9" * 40, "%", "_", "a\\b*", "[a]?"])
    def test_no_value_of_a_question_is_too_odd_for_the_engine(self, index: Index, keyword: str, value: str) -> None:
        put(index)
        try:
            condition = keys.of_keyword(keyword, value)
        except InvalidCondition:
            return
        assert found_studies(index, condition) in ([], found_studies(index))

    def test_the_same_content_again_is_a_duplicate(self, index: Index) -> None:
        one = put(index)
        assert index.commit(arrival(one)).outcome is Outcome.DUPLICATE
        assert len(index.versions(study(one), EVERYTHING)) == 1
        key = arrival(one).key
        assert index.holds(key, one.canonical_digest)
        assert not index.holds(key, "0" * 64)

    def test_other_content_becomes_current_and_the_older_stays(self, index: Index) -> None:
        one = put(
            index, SOPInstanceUID="1.2.3", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", StudyDescription="old"
        )
        two = extract(
            encode(
                data_set(
                    SOPInstanceUID="1.2.3", StudyInstanceUID="1.2", SeriesInstanceUID="1.3", StudyDescription="new"
                )
            )
        )
        assert index.commit(arrival(two)).outcome is Outcome.NEW_VERSION
        (located,) = index.locate(study(one), EVERYTHING)
        assert list(index.metadata([located.version_id])) == [two.metadata]
        assert found_studies(index, keys.of_keyword("StudyDescription", "new")) == ["1.2"]
        assert found_studies(index, keys.of_keyword("StudyDescription", "old")) == []
        assert len(index.versions(study(one), EVERYTHING)) == 2

    def test_old_content_sent_again_never_becomes_current(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        old = put(index, StudyDescription="old", **same)
        new = put(index, StudyDescription="new", **same)
        assert index.commit(arrival(old)).outcome is Outcome.DUPLICATE
        (located,) = index.locate(study(new), EVERYTHING)
        assert list(index.metadata([located.version_id])) == [new.metadata]

    def test_an_older_version_that_commits_later_does_not_become_current(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        early, late = CLOCK.next(), CLOCK.next()
        new = put(index, late, StudyDescription="new", **same)
        put(index, early, StudyDescription="old", **same)
        (located,) = index.locate(study(new), EVERYTHING)
        assert located.version == late

    def test_policy_reject_keeps_the_first(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        one = put(index, **same)
        two = extract(encode(data_set(StudyDescription="new", **same)))
        assert index.commit(arrival(two, conflict=Conflict.REJECT)).outcome is Outcome.REJECTED
        assert len(index.versions(study(one), EVERYTHING)) == 1

    def test_the_same_data_in_another_transfer_syntax_is_an_alternative(self, index: Index) -> None:
        pixels = {"PixelData": None}
        base = data_set(**pixels)
        native = extract(encode(base) + text(0x7FE00010, "OB", "aa"))
        packed = extract(encode(base) + encapsulated(b"\xff\xd8\xff!"), "1.2.840.10008.1.2.4.70")
        index.commit(arrival(native))
        assert index.commit(arrival(packed)).outcome is Outcome.ALTERNATIVE
        (located,) = index.locate(study(native), EVERYTHING)
        assert located.transfer_syntax_uid == native.transfer_syntax_uid
        (row,) = index.search(Search(MAIN, Level.INSTANCE, computed=frozenset((Computed.TRANSFER_SYNTAXES,))))
        assert row.computed[Computed.TRANSFER_SYNTAXES] == ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70")

    # Recompression

    def test_a_study_with_more_recompressed_is_not_known_to_be_in_a_storage_class(self, index: Index) -> None:
        native, packed = recompressed_pair()
        source = arrival(native)
        index.commit(source)
        other = put(index)
        for each in index.aged(Ageing(MAIN, "8")):
            index.place(MAIN, each.study_uid, Placed("STANDARD_IA", each.version, each.change))
        index.commit(arrival(packed, ids.version_beside(source.version), beside=source.version))
        placed = {each.study_uid: each.placed is not None for each in index.aged(Ageing(MAIN, "8"))}
        assert placed == {native.study_uid: False, other.study_uid: True}

    def test_what_is_recompressed_is_an_alternative_that_nobody_hears_of(self, index: Index) -> None:
        native, packed = recompressed_pair()
        source = arrival(native)
        index.commit(source)
        (located,) = index.locate(study(native), EVERYTHING)
        assert index.beside(located) is None
        before = index.generation(series(native)), len(index.changes(MAIN, EVERYTHING, 0, 100).rows)
        made = arrival(packed, ids.version_beside(source.version), beside=source.version)
        assert index.commit(made).outcome is Outcome.ALTERNATIVE
        assert index.locate(study(native), EVERYTHING) == [located]
        beside = index.beside(located)
        assert beside is not None
        assert (beside.version, beside.transfer_syntax_uid, beside.key) == (made.version, PACKED, located.key)
        assert (index.generation(series(native)), len(index.changes(MAIN, EVERYTHING, 0, 100).rows)) == before
        (row,) = index.search(Search(MAIN, Level.INSTANCE, computed=frozenset((Computed.TRANSFER_SYNTAXES,))))
        assert PACKED in row.computed[Computed.TRANSFER_SYNTAXES]
        # Found again by who looks for orphans; and a second one is of no use.
        assert index.commit(made).outcome is Outcome.STORED
        again = dataclasses.replace(made, version=ids.version_beside(source.version))
        assert index.commit(again).outcome is Outcome.DUPLICATE

    def test_what_is_recompressed_never_becomes_more_than_an_alternative(self, index: Index) -> None:
        native, packed = recompressed_pair()
        source = arrival(native)
        version = ids.version_beside(source.version)
        alone = index.commit(arrival(packed, version, beside=source.version))
        assert (alone.outcome, index.locate(study(native), EVERYTHING)) == (Outcome.REJECTED, [])
        index.commit(source)
        _, other = recompressed_pair(SOPInstanceUID=native.sop_uid, StudyInstanceUID=native.study_uid,
                                     SeriesInstanceUID=native.series_uid, StudyDescription="other")  # fmt: skip
        assert index.commit(arrival(other, version, beside=source.version)).outcome is Outcome.REJECTED
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(native), EVERYTHING))
        late = index.commit(arrival(packed, version, beside=source.version))
        assert (late.outcome, index.locate(study(native), EVERYTHING)) == (Outcome.DUPLICATE, [])

    def test_a_deletion_takes_what_stands_beside_and_its_undoing_brings_both(self, index: Index) -> None:
        native, packed = recompressed_pair()
        source = arrival(native)
        index.commit(source)
        made = arrival(packed, ids.version_beside(source.version), beside=source.version)
        index.commit(made)
        named = index.versions(study(native), EVERYTHING)
        deletion = CLOCK.next()
        assert index.delete(MAIN, deletion, b"{}", named) == []
        assert index.locate(study(native), EVERYTHING) == []
        actions = [row.action for row in index.changes(MAIN, EVERYTHING, 0, 100).rows]
        assert actions == [Action.CREATED, Action.DELETED]
        (listed,) = index.deletions(MAIN, EVERYTHING)
        assert (listed.versions, listed.undoable) == (1, True)
        assert [each.beside for each in index.restorable(MAIN, deletion)] == [False, True]
        assert undo(index, deletion) == 2
        (located,) = index.locate(study(native), EVERYTHING)
        beside = index.beside(located)
        assert (located.version, beside and beside.version) == (source.version, made.version)
        index.delete(MAIN, CLOCK.next(), b"{}", named)
        due = index.purge_due(time.time() + 60)
        assert {each.version for each in due} == {source.version, made.version}

    def test_what_came_beside_while_it_was_deleted_goes_without_a_trace(self, index: Index) -> None:
        native, packed = recompressed_pair()
        source = arrival(native)
        index.commit(source)
        named = index.versions(study(native), EVERYTHING)
        made = arrival(packed, ids.version_beside(source.version), beside=source.version)
        index.commit(made)
        deletion = CLOCK.next()
        assert index.delete(MAIN, deletion, b"{}", named) == [made.key.object_key(made.version)]
        assert index.locate(study(native), EVERYTHING) == []
        assert index.kept_versions([made.version]) == frozenset()
        assert undo(index, deletion) == 1
        (located,) = index.locate(study(native), EVERYTHING)
        assert (located.version, index.beside(located)) == (source.version, None)

    def test_what_stood_beside_comes_back_with_its_source_alone(self, index: Index) -> None:
        native, packed = recompressed_pair()
        source = arrival(native)
        index.commit(source)
        index.commit(arrival(packed, ids.version_beside(source.version), beside=source.version))
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(native), EVERYTHING))
        again = arrival(native)
        index.commit(again)
        assert undo(index, deletion) == 0
        (located,) = index.locate(study(native), EVERYTHING)
        assert (located.version, index.beside(located)) == (again.version, None)

    def test_erasure_and_withdrawal_take_what_stands_beside(self, index: Index) -> None:
        for remove in (
            lambda each: index.erase(MAIN, CLOCK.next(), b"{}", [each.version]),
            lambda each: index.withdraw(each.key, each.version),
        ):
            native, packed = recompressed_pair()
            source = arrival(native)
            index.commit(source)
            made = arrival(packed, ids.version_beside(source.version), beside=source.version)
            index.commit(made)
            remove(source)
            assert index.kept_versions([source.version, made.version]) == frozenset()
            assert index.usage().get(MAIN, Usage()).objects == 0

    def test_what_may_be_recompressed_comes_in_pages_and_once(self, index: Index) -> None:
        sources = []
        for number in range(5):
            native, packed = recompressed_pair(Modality="US")
            sources.append(arrival(native, tenant=(MAIN, OTHER)[number % 2]))
            index.commit(sources[-1])
            if number == 2:
                index.commit(arrival(packed, ids.version_beside(sources[-1].version), beside=sources[-1].version))
        first, through = index.recompressible("", "Z", 3)
        assert [each.located.version for each in first] == [sources[number].version for number in (0, 1, 3)]
        assert [(each.located.key.tenant, each.modality) for each in first] == [
            (MAIN, "US"), (OTHER, "US"), (OTHER, "US"),
        ]  # fmt: skip
        rest, through = index.recompressible(through, "Z", 3)
        assert [each.located.version for each in rest] == [sources[4].version]
        assert index.recompressible(through, "Z", 3) == ([], "")
        assert index.recompressible("", sources[1].version, 3)[0] == first[:1]
        every, through = index.recompressible("", "Z", 3, all_of_them=True)
        assert [each.located.version for each in every] == [each.version for each in sources[:3]]
        every, through = index.recompressible(through, "Z", 3, all_of_them=True)
        assert [each.located.version for each in every] == [each.version for each in sources[3:]]

    def test_one_gateway_at_a_time_has_the_turn_to_recompress(self, index: Index) -> None:
        assert index.recompression_turn("rules", "one", 100.0, 200.0) == ""
        assert index.recompression_turn("rules", "two", 150.0, 250.0) is None
        assert index.recompressed_through("one", "0001", 220.0)
        assert not index.recompressed_through("two", "0009", 220.0)
        assert index.recompression_turn("rules", "two", 210.0, 310.0) is None
        assert index.recompression_turn("rules", "one", 210.0, 220.0) == "0001"
        assert index.recompression_turn("rules", "two", 221.0, 300.0) == "0001"
        assert not index.recompressed_through("one", "0002", 400.0)
        assert index.recompression_turn("others", "two", 230.0, 300.0) == ""

    @pytest.mark.parametrize(
        "change",
        [
            {"StudyInstanceUID": "9.9"},
            {"SeriesInstanceUID": "9.9"},
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
            {"PatientID": "T-2"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_a_known_uid_in_another_place_is_misplaced_and_changes_nothing(
        self, index: Index, change: dict[str, str]
    ) -> None:
        same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        one = put(index, **same)
        before = index.generation(series(one))
        commit = index.commit(arrival(extract(encode(data_set(**{**same, **change})))))
        assert commit.outcome is Outcome.MISPLACED
        assert commit.reason
        assert index.generation(series(one)) == before

    def test_another_patient_in_a_known_study_is_misplaced(self, index: Index) -> None:
        one = put(index)
        other = extract(encode(data_set(StudyInstanceUID=one.study_uid, PatientID="T-2")))
        assert index.commit(arrival(other)).outcome is Outcome.MISPLACED

    def test_a_blank_patient_id_contradicts_nobody(self, index: Index) -> None:
        one = put(index, PatientID=None)
        put(index, StudyInstanceUID=one.study_uid, PatientID="T-7")
        put(index, StudyInstanceUID=one.study_uid, PatientID="")
        assert len(index.locate(study(one), EVERYTHING)) == 3

    def test_a_study_is_found_by_the_patient_id_that_later_instances_have(self, index: Index) -> None:
        one = put(index, PatientID="", PatientName="Blank", StudyDescription="first")
        put(index, StudyInstanceUID=one.study_uid, PatientID="T-7", PatientName="Named", StudyDescription="second")
        put(index, StudyInstanceUID=one.study_uid, PatientID=None, StudyDescription="third")
        for keyword, value in (("PatientID", "T-7"), ("PatientName", "named"), ("StudyDescription", "second")):
            assert found_studies(index, keys.of_keyword(keyword, value)) == [one.study_uid]
        assert found_studies(index, keys.of_keyword("PatientName", "blank")) == []
        (patient,) = index.search(Search(MAIN, Level.PATIENT))
        assert json_model.text_of(json_model.loads(patient.attributes[0]), "00100020") == "T-7"

    @pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
    def test_a_study_speaks_alike_in_whatever_order_its_instances_come(
        self, index: Index, order: tuple[int, ...]
    ) -> None:
        versions = [CLOCK.next() for _ in range(4)]
        values: list[dict[str, Any]] = [
            {"PatientID": "", "StudyDescription": "blank first", "SeriesInstanceUID": "1.3"},
            {"PatientID": "T-7", "StudyDescription": "known", "SeriesInstanceUID": "1.3"},
            {"PatientID": None, "StudyDescription": "absent", "SeriesInstanceUID": "1.4"},
            {"PatientID": "T-7", "StudyDescription": "known later", "SeriesInstanceUID": "1.4"},
        ]
        for place in order:
            put(index, versions[place], StudyInstanceUID="1.2", **values[place])
        (row,) = index.search(Search(MAIN, Level.STUDY))
        assert json_model.text_of(json_model.loads(row.attributes[0]), "00081030") == "known"
        assert index.count(Search(MAIN, Level.PATIENT, (keys.of_keyword("PatientID", "T-7"),))) == 1
        stored = {each.version: each for each in index.versions(Target(MAIN, ids.study_uid("1.2")), EVERYTHING)}
        index.delete(MAIN, CLOCK.next(), b"{}", [stored[versions[1]]])
        assert found_studies(index, keys.of_keyword("StudyDescription", "known later")) == ["1.2"]
        index.delete(MAIN, CLOCK.next(), b"{}", [stored[versions[3]]])
        assert found_studies(index, keys.of_keyword("StudyDescription", "blank first")) == ["1.2"]
        assert found_studies(index, keys.of_keyword("PatientID", "T-7")) == []
        # Nobody knows whose study it is now, so that it may be anybody's.
        put(index, StudyInstanceUID="1.2", PatientID="T-8")
        assert found_studies(index, keys.of_keyword("PatientID", "T-8")) == ["1.2"]

    def test_a_voice_that_loses_its_patient_id_passes_it_on(self, index: Index) -> None:
        same = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        put(index, SOPInstanceUID="1.3.1", PatientID="T-7", StudyDescription="voice", **same)
        put(index, SOPInstanceUID="1.3.2", PatientID="T-7", StudyDescription="other", **same)
        put(index, SOPInstanceUID="1.3.1", PatientID="", StudyDescription="blanked", **same)
        assert found_studies(index, keys.of_keyword("StudyDescription", "other")) == ["1.2"]
        assert found_studies(index, keys.of_keyword("PatientID", "T-7")) == ["1.2"]

    def test_the_last_change_of_a_study_is_that_of_an_instance_within_the_scope(self, index: Index) -> None:
        ct = put(index, StudyInstanceUID="1.2", Modality="CT")
        between_s = time.time()
        put(index, StudyInstanceUID="1.2", Modality="MR")
        other = put(index, StudyInstanceUID="1.3", Modality="CT")
        after_s = time.time()

        def changed(scope: Condition = EVERYTHING, **span: float) -> list[str]:
            return found_studies(index, scope=scope, changed=Changed(**span))

        def last(scope: Condition = EVERYTHING) -> list[float | None]:
            asked = Search(MAIN, Level.STUDY, scope=scope, changes=True, computed=frozenset((Computed.STUDY_SERIES,)))
            rows = {row.study_uid: row.changed_at_s for row in index.search(asked)}
            return [rows[uid] for uid in sorted(rows)]

        only_ct = keys.of_keyword("Modality", "CT")
        (of_study, of_other), (of_ct, of_same) = last(), last(only_ct)
        assert of_study is not None
        assert of_ct is not None
        assert of_ct < between_s < of_study < after_s
        assert of_other == of_same
        assert sorted(changed(since=between_s)) == ["1.2", "1.3"]
        assert changed(only_ct, since=between_s) == ["1.3"]
        assert changed(only_ct, before=between_s) == ["1.2"]
        assert changed(before=between_s) == []
        assert changed(since=of_study, before=of_study) == []
        assert index.count(Search(MAIN, Level.STUDY, changed=Changed(since=after_s))) == 0
        index.complete(MAIN, [ct.study_uid], "it is")
        assert changed(since=after_s) == [], "completion changes no instance"
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(series(ct), EVERYTHING))
        assert changed(since=after_s) == ["1.2"]
        assert changed(only_ct, since=after_s) == []
        assert other.study_uid == "1.3"

    def test_blank_patients_of_two_studies_are_two_patients(self, index: Index) -> None:
        put(index, PatientID=None)
        put(index, PatientID=None)
        assert index.count(Search(MAIN, Level.PATIENT)) == 2

    def test_the_same_patient_id_of_two_issuers_is_two_patients(self, index: Index) -> None:
        put(index, IssuerOfPatientID="A")
        put(index, IssuerOfPatientID="B")
        put(index, IssuerOfPatientID="B")
        assert index.count(Search(MAIN, Level.PATIENT)) == 2

    def test_tenants_do_not_see_each_other(self, index: Index) -> None:
        other = ids.tenant("other")
        one = put(index)
        assert index.commit(arrival(one, tenant=other)).outcome is Outcome.STORED
        index.delete(other, CLOCK.next(), b"{}", index.versions(study(one, other), EVERYTHING))
        assert index.existence(study(one), EVERYTHING) is Existence.LIVE
        assert index.existence(study(one, other), EVERYTHING) is Existence.DELETED

    def test_an_object_that_waited_too_long_gets_no_row(self, index: Index) -> None:
        old = ids.Version("01ARZ3NDEKTSV4RRFFQ69G5FAV")  # 2016
        with pytest.raises(StaleObject):
            index.commit(arrival(extract(encode(data_set())), old))
        assert index.count(Search(MAIN, Level.STUDY)) == 0

    def test_arrivals_of_many_threads_are_all_committed(self, index: Index) -> None:
        study_uid, series_uid = uid(), uid()
        extracts = [
            extract(encode(data_set(StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid, InstanceNumber=n)))
            for n in range(48)
        ]
        outcomes: list[Commit] = []
        threads = [
            threading.Thread(
                target=lambda part=extracts[n : n + 6]: outcomes.extend(index.commit(arrival(e)) for e in part)
            )
            for n in range(0, 48, 6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [each.outcome for each in outcomes] == [Outcome.STORED] * 48
        located = index.locate(Target(MAIN, ids.study_uid(study_uid)), EVERYTHING)
        assert [each.instance_number for each in located] == list(range(48))

    def test_frames_of_many_chunks_are_found(self, index: Index) -> None:
        frames = [b"\xff\xd8\xff" + n.to_bytes(3, "big") for n in range(5000)]
        body = identity() + text(0x00280008, "IS", "5000") + encapsulated(*frames)
        one = extract(body)
        index.commit(arrival(one))
        (located,) = index.locate(study(one), EVERYTHING)
        for number, fragments in zip(
            (1, 4096, 4097, 5000), index.fragments(located.version_id, (1, 4096, 4097, 5000)), strict=True
        ):
            ((offset, length),) = fragments.ranges
            assert body[offset : offset + length] == frames[number - 1]

    # Deleting

    def test_what_is_deleted_is_gone_from_every_answer_and_known_to_have_been(self, index: Index) -> None:
        one = put(index)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one), EVERYTHING))
        assert index.existence(study(one), EVERYTHING) is Existence.DELETED
        assert index.locate(study(one), EVERYTHING) == []
        for level in Level:
            assert index.search(Search(MAIN, level)) == []

    def test_deleting_one_series_leaves_the_others(self, index: Index) -> None:
        one = put(index, Modality="CT")
        two = put(index, StudyInstanceUID=one.study_uid, Modality="MR")
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(series(one), EVERYTHING))
        computed = frozenset((Computed.MODALITIES_IN_STUDY, Computed.STUDY_SERIES, Computed.STUDY_INSTANCES))
        (row,) = index.search(Search(MAIN, Level.STUDY, computed=computed))
        assert row.computed == {
            Computed.MODALITIES_IN_STUDY: ("MR",), Computed.STUDY_SERIES: 1, Computed.STUDY_INSTANCES: 1,
        }  # fmt: skip
        assert index.existence(series(two), EVERYTHING) is Existence.LIVE

    def test_a_study_that_loses_its_first_instance_speaks_through_another(self, index: Index) -> None:
        one = put(index, StudyDescription="first")
        put(index, StudyInstanceUID=one.study_uid, StudyDescription="second")
        assert found_studies(index, keys.of_keyword("StudyDescription", "first"))
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(series(one), EVERYTHING))
        assert found_studies(index, keys.of_keyword("StudyDescription", "second"))

    def test_a_deleted_instance_may_come_again(self, index: Index) -> None:
        one = put(index)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one), EVERYTHING))
        assert index.commit(arrival(one)).outcome is Outcome.STORED
        assert index.existence(study(one), EVERYTHING) is Existence.LIVE

    def test_an_instance_that_comes_back_changed_speaks_for_itself(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        one = put(index, InstanceNumber=1, **same)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one), EVERYTHING))
        put(index, InstanceNumber=7, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", **same)
        (located,) = index.locate(study(one), EVERYTHING)
        assert (located.instance_number, located.sop_class_uid) == (7, "1.2.840.10008.5.1.4.1.1.7")

    def test_changed_pixels_in_another_native_syntax_are_a_new_version(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.2.3", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
        implicit = "1.2.840.10008.1.2"
        index.commit(arrival(extract(encode(data_set(**same), implicit), implicit)))
        blanked = extract(encode(data_set(PixelData=bytes(32), **same)))
        assert index.commit(arrival(blanked)).outcome is Outcome.NEW_VERSION

    def test_the_same_record_twice_changes_nothing(self, index: Index) -> None:
        one = put(index)
        record, versions = CLOCK.next(), index.versions(study(one), EVERYTHING)
        index.delete(MAIN, record, b"{}", versions)
        generation = index.generation(series(one))
        index.delete(MAIN, record, b"{}", versions)
        assert index.generation(series(one)) == generation

    # Generations and consolidated metadata

    def test_every_change_of_a_series_raises_its_generation(self, index: Index) -> None:
        one = put(index)
        seen = [index.generation(series(one))]
        put(index, StudyInstanceUID=one.study_uid, SeriesInstanceUID=one.series_uid)
        seen.append(index.generation(series(one)))
        put(index)
        assert index.generation(series(one)) == seen[-1]
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(series(one), EVERYTHING))
        seen.append(index.generation(series(one)))
        assert seen == sorted(set(seen))

    def test_a_late_consolidated_body_does_not_replace_a_newer_one(self, index: Index) -> None:
        one = put(index)
        index.keep_series_metadata(series(one), "http://a", 5, b"new")
        index.keep_series_metadata(series(one), "http://a", 4, b"old")
        assert index.series_metadata(series(one), "http://a") == (5, b"new")
        assert index.series_metadata(series(one), "http://b") is None

    # Searching

    def test_counts_and_modalities_are_those_within_the_scope(self, index: Index) -> None:
        one = put(index, Modality="CT")
        put(index, StudyInstanceUID=one.study_uid, Modality="MR")
        computed = frozenset((Computed.MODALITIES_IN_STUDY, Computed.STUDY_SERIES, Computed.STUDY_INSTANCES))
        scope = keys.of_keyword("Modality", "MR")
        (row,) = index.search(Search(MAIN, Level.STUDY, scope=scope, computed=computed))
        assert row.computed[Computed.MODALITIES_IN_STUDY] == ("MR",)
        assert row.computed[Computed.STUDY_INSTANCES] == 1
        assert index.existence(series(one), scope) is Existence.ABSENT
        assert index.search(Search(MAIN, Level.STUDY, scope=NOTHING)) == []
        assert index.search(Search(MAIN, Level.STUDY, in_study=(keys.of_keyword("Modality", "CT"),), scope=scope)) == []

    def test_totals_and_looks_into_metadata_stay_within_the_scope(self, index: Index) -> None:
        put(index, Modality="CT", KVP="120", PatientID="A")
        put(index, Modality="MR", KVP="120", PatientID="B")
        scope = keys.of_keyword("Modality", "MR")
        key = Value(Step("00180060"), "DS", "120")
        for level in Level:
            for more in ({}, {"metadata": (key,)}):
                page = index.page(Search(MAIN, level, scope=scope, **more))
                assert (page.total, len(page.rows), page.exact) == (1, 1, True)
                assert index.count(Search(MAIN, level, scope=scope, **more)) == 1
        # An instance out of scope does not count against the bound either.
        assert (
            index.page(Search(MAIN, Level.STUDY, scope=scope, metadata=(key,), cost=Cost(max_inspected=1))).total == 1
        )

    def test_pages_of_a_stable_order_hold_everything_once(self, index: Index) -> None:
        for number in range(23):
            put(index, StudyDate=f"202601{number % 5 + 1:02}")
        whole = found_studies(index)
        pages = [found_studies(index, limit=5, offset=offset) for offset in range(0, 25, 5)]
        assert [each for page in pages for each in page] == whole
        assert len(set(whole)) == 23

    def test_studies_come_newest_first_and_instances_by_number(self, index: Index) -> None:
        old, new = put(index, StudyDate="20250101"), put(index, StudyDate="20260101")
        assert found_studies(index) == [new.study_uid, old.study_uid]
        for number in (10, 2, 1):
            put(index, StudyInstanceUID=old.study_uid, SeriesInstanceUID=old.series_uid, InstanceNumber=number + 1)
        located = index.locate(study(old), EVERYTHING)
        assert [each.instance_number for each in located] == [1, 2, 3, 11]

    def test_a_condition_below_the_level_asks_for_some_series_or_instance(self, index: Index) -> None:
        one = put(index, Modality="CT", InstanceNumber=5)
        put(index, Modality="MR", InstanceNumber=6)
        assert found_studies(index, keys.of_keyword("Modality", "CT")) == [one.study_uid]
        assert found_studies(index, keys.of_keyword("SOPInstanceUID", one.sop_uid)) == [one.study_uid]
        assert len(index.search(Search(MAIN, Level.SERIES, (keys.of_keyword("InstanceNumber", "5"),)))) == 1

    def test_ranges_of_dates_find_what_lies_within_and_nothing_else(self, index: Index) -> None:
        for date in ("20251231", "20260101", "20260131", "20260201", None):
            put(index, StudyDate=date, PatientID=date)
        for value, expected in (
            ("20260101-20260131", 2),
            ("-20260101", 2),
            ("20260131-", 2),
            ("20260101", 1),
            ("20260201-20260101", 0),
        ):
            assert len(found_studies(index, keys.of_keyword("StudyDate", value))) == expected, value

    def test_a_page_can_be_entered_after_any_row_at_every_level(self, index: Index) -> None:
        study_uid = uid()
        for number in range(12):
            put(index, StudyDate=f"2026010{number % 3 + 1}" if number % 4 else None, SeriesNumber=number % 2 or None)
            put(index, StudyInstanceUID=study_uid, SeriesInstanceUID=f"1.2.{number % 5}", InstanceNumber=number % 3)
            put(index, PatientID=f"P{number}", IssuerOfPatientID="B" if number % 2 else None)
            put(index, PatientID=f"P{number // 2}", IssuerOfPatientID="A")
            put(index, PatientID="")
        for level in Level:
            whole = index.search(Search(MAIN, level))
            assert len(whole) > 12
            for place, row in enumerate(whole):
                rest = whole[place + 1 :]
                assert index.search(Search(MAIN, level, after=row.position)) == rest
                assert index.search(Search(MAIN, level, after=row.position, offset=2, limit=3)) == rest[2:5]

    def test_a_snapshot_holds_what_was_there_whatever_comes_or_goes(self, index: Index) -> None:
        one, two = put(index, StudyDate="20260102"), put(index, StudyDate="20260101")
        more = put(index, StudyInstanceUID=two.study_uid, Modality="MR")
        before = {level: index.search(Search(MAIN, level)) for level in Level if level}
        change = index.state().change
        put(index)
        put(index, StudyInstanceUID=one.study_uid)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one), EVERYTHING))
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(series(more), EVERYTHING))
        index.commit(arrival(more))
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(series(more), EVERYTHING))
        for level, rows_then in before.items():
            then = index.page(Search(MAIN, level, snapshot=change))
            assert [row.position for row in then.rows] == [row.position for row in rows_then]
            assert then.total == len(rows_then)
        modality = keys.of_keyword("Modality", "MR")
        assert len(index.search(Search(MAIN, Level.STUDY, (modality,), snapshot=change))) == 1
        assert index.search(Search(MAIN, Level.STUDY, (modality,))) == []
        assert len(index.search(Search(MAIN, Level.STUDY, scope=modality, snapshot=change))) == 1

    @pytest.mark.parametrize("seed", range(6))
    def test_every_earlier_state_can_be_listed_as_it_was(self, index: Index, seed: int) -> None:
        chance = random.Random(seed)
        extracts = [
            extract(encode(data_set(StudyInstanceUID=f"1.{n % 3}", SeriesInstanceUID=f"1.{n % 3}.{n % 2}")))
            for n in range(12)
        ]
        deletions: list[ids.Version] = []
        states: dict[int, list[list[Position]]] = {}
        for _ in range(40):
            one = chance.choice(extracts)
            target = chance.choice([study(one), series(one), dataclasses.replace(series(one), sop_uid=one.sop_uid)])
            what = chance.choice(("store", "store", "delete", "restore"))
            if what == "store":
                index.commit(arrival(one))
            elif what == "delete" and (versions := index.versions(target, EVERYTHING)):
                deletions.append(CLOCK.next())
                index.delete(MAIN, deletions[-1], b"{}", versions)
            elif what == "restore" and deletions:
                undo(index, deletions.pop())
            states[index.state().change] = [positions(index, level) for level in Level if level]
        for change, then in states.items():
            assert [positions(index, level, snapshot=change) for level in Level if level] == then

    def test_what_was_purged_is_in_no_snapshot_any_more(self, index: Index) -> None:
        one = put(index, StudyDescription="first")
        put(index, StudyInstanceUID=one.study_uid, StudyDescription="second")
        change = index.state().change
        part, whole = index.versions(series(one), EVERYTHING), index.versions(study(one), EVERYTHING)
        index.delete(MAIN, CLOCK.next(), b"{}", whole)
        index.purge_due(time.time() + 3600)
        index.purged(part)
        (row,) = index.search(Search(MAIN, Level.STUDY, snapshot=change))
        assert row.study_uid == one.study_uid
        assert len(index.search(Search(MAIN, Level.INSTANCE, snapshot=change))) == 1
        index.purged(whole)
        for level in (Level.STUDY, Level.SERIES, Level.INSTANCE):
            assert index.search(Search(MAIN, level, snapshot=change)) == []

    def test_a_search_that_would_look_into_too_much_is_refused(self, index: Index) -> None:
        for number in range(4):
            put(index, KVP=str(number), StudyDate=f"2026010{number + 1}")
        key = Value(Step("00180060"), "DS", "2")
        search = Search(MAIN, Level.STUDY, metadata=(key,), cost=Cost(max_inspected=3))
        with pytest.raises(SearchTooBroad, match="3 instances"):
            index.page(search)
        narrow = dataclasses.replace(search, conditions=(keys.of_keyword("StudyDate", "20260103-"),))
        assert index.page(narrow).total == 1
        assert index.count(narrow) == 1

    def test_a_search_that_takes_too_long_is_refused(self, index: Index) -> None:
        study_uid = uid()
        for number in range(60):
            put(index, StudyInstanceUID=study_uid, InstanceNumber=number)
        slow = AnyOf(tuple(Wildcard("SOPClassUID", f"*{n}*x") for n in range(900)))
        search = Search(MAIN, Level.INSTANCE, (slow,), cost=Cost(timeout_s=0.0))
        with pytest.raises(SearchTooBroad, match="longer"):
            index.page(search)
        assert index.count(Search(MAIN, Level.INSTANCE)) == 60

    def test_patients_have_counts_of_their_own(self, index: Index) -> None:
        put(index, PatientID="A")
        put(index, PatientID="A")
        put(index, PatientID="B")
        computed = frozenset((Computed.PATIENT_STUDIES, Computed.PATIENT_SERIES, Computed.PATIENT_INSTANCES))
        found = index.search(Search(MAIN, Level.PATIENT, computed=computed))
        assert [row.computed[Computed.PATIENT_STUDIES] for row in found] == [2, 1]
        assert index.count(Search(MAIN, Level.PATIENT)) == 2

    def test_sql_wildcards_in_a_pattern_are_plain_characters(self, index: Index) -> None:
        put(index, StudyDescription="100% sure_")
        put(index, StudyDescription="100 x sureX")
        assert len(found_studies(index, keys.of_keyword("StudyDescription", "100% *_"))) == 1
        assert found_studies(index, keys.of_keyword("StudyDescription", "' OR 1=1 --*")) == []

    # One method, run by the class of each engine.
    @settings(
        max_examples=150,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
        deadline=None,
    )
    @given(data=st.data())
    def test_sql_and_python_evaluate_a_condition_alike(self, index: Index, data: st.DataObject) -> None:
        if index.count(Search(MAIN, Level.SERIES)) == 0:
            for values, senders in zip(SAMPLES, SENDERS, strict=True):
                place = {"StudyInstanceUID": uid(), "SeriesInstanceUID": uid(), "SpecificCharacterSet": "ISO_IR 192"}
                for sender in senders:
                    send(index, sender, **{**place, **values})
        condition = data.draw(conditions())
        by_sql = {row.series_uid for row in index.search(Search(MAIN, Level.SERIES, (condition,)))}
        by_python = set()
        for row in index.search(Search(MAIN, Level.SERIES)):
            values = json_model.loads(row.attributes[0]) | json_model.loads(row.attributes[1])
            record = {**rows.record(values, Level.PATIENT, Level.STUDY, Level.SERIES), **sources(index, row.series_uid)}
            if matches(condition, record):
                by_python.add(row.series_uid)
        assert by_sql == by_python

    # What may be there several times

    def test_a_study_is_found_by_any_of_those_who_read_it_and_one_name_has_all_its_groups(self, index: Index) -> None:
        both = put(
            index,
            SpecificCharacterSet="ISO_IR 192",
            NameOfPhysiciansReadingStudy=["Gray^Ann=灰^安", "Sato^Ken=佐藤^健"],
        )
        one = put(index, NameOfPhysiciansReadingStudy="Gray^Bob")
        put(index)

        def found(text: str, **options: bool) -> set[str]:
            return set(found_studies(index, keys.of_keyword("NameOfPhysiciansReadingStudy", text, Options(**options))))

        assert found("gray*") == {both.study_uid, one.study_uid}
        assert found("Sato^Ken") == found("佐藤*") == found("Sato*=佐藤*") == {both.study_uid}
        assert found("Gray*=佐藤*") == set()
        assert found("Grey", fuzzy=True) == {both.study_uid, one.study_uid}
        assert len(found('""', empty_values=True)) == 1
        put(index, StudyInstanceUID=one.study_uid, SOPInstanceUID="1.9", NameOfPhysiciansReadingStudy="Late^Comer")
        assert found("Late*") == set(), "a study speaks through its first instance"

    def test_a_series_has_the_sources_of_all_that_stands_in_it_until_its_objects_are_gone(self, index: Index) -> None:
        place = {"StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.5.1"}
        first = send(index, "CT1", SOPInstanceUID="1.1", **place)
        send(index, "CT1", SOPInstanceUID="1.2", **place)
        assert sources_of(index, first) == {"CT1"}
        send(index, "", SOPInstanceUID="1.3", **place)
        second = send(index, "CT2", SOPInstanceUID="1.1", StudyDescription="again", **place)
        assert sources_of(index, first) == {"CT1", "CT2", ""}
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(Target(MAIN, *uids_of(second)), EVERYTHING))
        assert sources_of(index, first) == {"CT1", "CT2", ""}, "it may come back"
        index.purged(index.purge_due(time.time() + 3600))
        assert sources_of(index, first) == {"CT1", ""}

    def test_what_is_taken_back_or_erased_leaves_no_source(self, index: Index) -> None:
        place = {"StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.5.1"}
        first = send(index, "CT1", **place)
        for number, take in enumerate((self._withdrawn, self._erased)):
            body = extract(encode(data_set(InstanceNumber=number, **place)))
            other = arrival(body, source_ae_title="CT2")
            index.commit(other)
            assert sources_of(index, first) == {"CT1", "CT2"}
            take(index, other)
            assert sources_of(index, first) == {"CT1"}

    @staticmethod
    def _withdrawn(index: Index, other: Arrival) -> None:
        index.withdraw(other.key, other.version)

    @staticmethod
    def _erased(index: Index, other: Arrival) -> None:
        index.erase(MAIN, CLOCK.next(), b"{}", [other.version])

    def test_what_comes_back_elsewhere_takes_its_sources_along(self, index: Index) -> None:
        there = {"StudyInstanceUID": "1.5", "SeriesInstanceUID": "1.5.1", "PatientID": "A"}
        stays = send(index, "CT1", **there)
        gone = send(index, "CT2", SOPInstanceUID="1.1", **there)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(Target(MAIN, *uids_of(gone)), EVERYTHING))
        back = send(
            index, "CT3", SOPInstanceUID="1.1", StudyInstanceUID="1.6", SeriesInstanceUID="1.6.1", PatientID="A"
        )
        assert sources_of(index, stays) == {"CT1"}
        assert sources_of(index, back) == {"CT2", "CT3"}

    def test_what_an_undoing_brings_back_takes_its_sources_along(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.1", "PatientID": "A"}
        first = send(index, "CT1", StudyInstanceUID="1.5", SeriesInstanceUID="1.5.1", **same)
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(first), EVERYTHING))
        second = send(index, "CT2", StudyInstanceUID="1.6", SeriesInstanceUID="1.6.1", **same)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(second), EVERYTHING))
        assert (sources_of(index, first), sources_of(index, second)) == (set(), {"CT1", "CT2"})
        assert undo(index, deletion) == 1
        assert (sources_of(index, first), sources_of(index, second)) == ({"CT1", "CT2"}, set())

    def test_nothing_is_unsourced_that_arrived_here(self, index: Index) -> None:
        one = send(index, "CT1")
        send(index, "")
        assert index.unsourced(10) == []
        (version,) = index.versions(study(one), EVERYTHING)
        index.note_sources({version.version: "CT9"})
        assert sources_of(index, one) == {"CT1"}, "what is known is not told otherwise"

    # Undoing and purging

    def test_a_deletion_is_undone_and_everything_is_as_before(self, index: Index) -> None:
        one = put(index, PatientName="Back^Again")
        before = index.search(Search(MAIN, Level.INSTANCE)), index.locate(study(one), EVERYTHING)
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(one), EVERYTHING))
        ((listed),) = index.deletions(MAIN, EVERYTHING)
        assert (listed.record, listed.versions, listed.undoable) == (deletion, 1, True)
        assert undo(index, deletion) == 1
        assert (index.search(Search(MAIN, Level.INSTANCE)), index.locate(study(one), EVERYTHING)) == before
        assert index.deletions(MAIN, EVERYTHING) == []

    def test_a_deletion_of_a_part_comes_back_beside_what_stayed(self, index: Index) -> None:
        one = put(index)
        two = put(index, StudyInstanceUID=one.study_uid)
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(series(one), EVERYTHING))
        assert undo(index, deletion) == 1
        found = {located.key.sop_uid for located in index.locate(study(one), EVERYTHING)}
        assert found == {one.sop_uid, two.sop_uid}

    def test_what_came_in_the_place_of_a_deleted_instance_is_not_disturbed(self, index: Index) -> None:
        one = put(index)
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(one), EVERYTHING))
        again = put(index, SOPInstanceUID=one.sop_uid)
        assert undo(index, deletion) == 0
        assert index.existence(study(one), EVERYTHING) is Existence.ABSENT
        assert index.existence(study(again), EVERYTHING) is Existence.LIVE

    def test_a_study_that_another_patient_took_is_not_given_back(self, index: Index) -> None:
        one = put(index, PatientID="A")
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(one), EVERYTHING))
        put(index, PatientID="B", StudyInstanceUID=one.study_uid)
        assert undo(index, deletion) == 0

    def test_a_deleted_instance_comes_back_to_its_place_when_nothing_stands_elsewhere(self, index: Index) -> None:
        one = put(index)
        first, second = CLOCK.next(), CLOCK.next()
        index.delete(MAIN, first, b"{}", index.versions(study(one), EVERYTHING))
        again = put(index, SOPInstanceUID=one.sop_uid)
        index.delete(MAIN, second, b"{}", index.versions(study(again), EVERYTHING))
        assert undo(index, first) == 1
        assert [found.key.study_uid for found in index.locate(study(one), EVERYTHING)] == [one.study_uid]
        assert undo(index, second) == 0

    def test_what_came_again_as_it_was_does_not_come_back_twice(self, index: Index) -> None:
        one = put(index)
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(one), EVERYTHING))
        assert index.commit(arrival(one)).outcome is Outcome.STORED
        assert undo(index, deletion) == 0
        assert len(index.versions(study(one), EVERYTHING)) == 1

    def test_an_instance_does_not_come_back_beside_one_of_another_sop_class(self, index: Index) -> None:
        one = put(index)
        first, second, mr = CLOCK.next(), CLOCK.next(), "1.2.840.10008.5.1.4.1.1.4"
        index.delete(MAIN, first, b"{}", index.versions(study(one), EVERYTHING))
        put(index, SOPClassUID=mr, **{name: getattr(one, place) for name, place in UIDS})
        assert undo(index, first) == 0
        index.delete(MAIN, second, b"{}", index.versions(study(one), EVERYTHING))
        assert undo(index, first) == 1
        assert [found.sop_class_uid for found in index.locate(study(one), EVERYTHING)] == [one.sop_class_uid]

    def test_of_two_deletions_at_once_the_later_one_counts(self, index: Index) -> None:
        one = put(index)
        versions = index.versions(study(one), EVERYTHING)
        first, second = CLOCK.next(), CLOCK.next()
        index.delete(MAIN, second, b"{}", versions)
        index.delete(MAIN, first, b"{}", versions)
        assert [each.record for each in index.deletions(MAIN, EVERYTHING)] == [second]
        assert undo(index, first) == 0
        assert undo(index, second) == 1

    def test_with_a_deletion_those_before_it_are_undone_and_none_after_it(self, index: Index) -> None:
        one = put(index)
        versions = index.versions(study(one), EVERYTHING)
        first, second, third = CLOCK.next(), CLOCK.next(), CLOCK.next()
        index.delete(MAIN, first, b"{}", versions)
        assert index.restore(MAIN, CLOCK.next(), b"{}", second, versions) == [versions[0].version]
        index.delete(MAIN, third, b"{}", versions)
        assert index.restore(MAIN, CLOCK.next(), b"{}", second, versions) == []
        assert index.existence(study(one), EVERYTHING) is Existence.DELETED

    def test_a_study_stays_its_patients_when_an_instance_comes_again_without_the_id(self, index: Index) -> None:
        one = put(index, PatientID="A")
        same = {name: getattr(one, place) for name, place in UIDS}
        put(index, PatientID=None, **same)
        other = extract(encode(data_set(PatientID="B", StudyInstanceUID=one.study_uid)))
        assert index.commit(arrival(other)).outcome is Outcome.MISPLACED
        put(index, PatientID="A", StudyInstanceUID=one.study_uid)

    def test_deletions_are_listed_to_those_only_whose_scope_holds_all_of_them(self, index: Index) -> None:
        one = put(index, Modality="CT")
        put(index, StudyInstanceUID=one.study_uid, Modality="MR")
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one), EVERYTHING))
        assert len(index.deletions(MAIN, EVERYTHING)) == 1
        assert index.deletions(MAIN, OneOf("Modality", ("CT",))) == []
        assert index.deletions(OTHER, EVERYTHING) == []

    def test_a_deletion_is_not_listed_by_where_its_instances_came_again(self, index: Index) -> None:
        one = put(index, Modality="MR")
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(one), EVERYTHING))
        put(index, Modality="CT", SOPInstanceUID=one.sop_uid)
        assert [each.record for each in index.deletions(MAIN, EVERYTHING)] == [deletion]
        assert index.deletions(MAIN, OneOf("Modality", ("CT",))) == []

    @pytest.mark.parametrize("level", [Level.PATIENT, Level.STUDY])
    def test_the_metadata_that_speak_for_a_study_are_of_a_series_in_scope(self, index: Index, level: Level) -> None:
        one = put(index, Modality="MR", ImageComments="of the MR")
        put(index, Modality="CT", ImageComments="of the CT", StudyInstanceUID=one.study_uid)
        for scope, comments in ((EVERYTHING, b"of the MR"), (OneOf("Modality", ("CT",)), b"of the CT")):
            (row,) = index.search(Search(MAIN, level, scope=scope))
            assert row.version_id is not None
            (text,) = index.metadata([row.version_id])
            assert comments in text

    def test_once_due_a_deletion_cannot_be_undone(self, index: Index) -> None:
        one = put(index)
        deletion = CLOCK.next()
        versions = index.versions(study(one), EVERYTHING)
        index.delete(MAIN, deletion, b"{}", versions)
        assert index.purge_due(time.time() - 3600) == []
        assert index.purge_due(time.time() + 3600) == versions
        assert index.purge_due(time.time() + 3600) == versions  # a run that broke off begins again
        assert undo(index, deletion) == 0
        assert not index.deletions(MAIN, EVERYTHING)[0].undoable

    def test_after_the_purge_nothing_but_uids_is_kept(self, index: Index) -> None:
        one = put(index, PatientName="Forget^Me", PatientID="F-1", SeriesDescription="secret series")
        versions = index.versions(study(one), EVERYTHING)
        index.delete(MAIN, CLOCK.next(), b"{}", versions)
        index.purge_due(time.time() + 3600)
        index.purged(versions)
        assert index.purge_due(time.time() + 3600) == []
        assert index.deletions(MAIN, EVERYTHING) == []
        assert index.existence(study(one), EVERYTHING) is Existence.DELETED
        dump = self.dump(index)
        assert one.sop_uid in dump
        assert not any(secret in dump for secret in ("forget", "Forget", "F-1", "secret series"))

    def test_a_purged_instance_may_come_again(self, index: Index) -> None:
        one = put(index)
        versions = index.versions(study(one), EVERYTHING)
        index.delete(MAIN, CLOCK.next(), b"{}", versions)
        index.purge_due(time.time() + 3600)
        index.purged(versions)
        assert index.commit(arrival(one)).outcome is Outcome.STORED
        (row,) = index.search(Search(MAIN, Level.STUDY, (OneOf("PatientID", ("T-1",)),)))
        assert row.study_uid == one.study_uid

    def test_a_purge_keeps_what_stands_beside(self, index: Index) -> None:
        one = put(index)
        other = put(index, StudyInstanceUID=one.study_uid, SeriesInstanceUID=one.series_uid)
        index.keep_series_metadata(series(one), "http://here", 5, b"of both")
        versions = index.versions(Target(MAIN, one.study_uid, one.series_uid, one.sop_uid), EVERYTHING)
        index.delete(MAIN, CLOCK.next(), b"{}", versions)
        index.purge_due(time.time() + 3600)
        index.purged(versions)
        assert len(index.search(Search(MAIN, Level.STUDY, (OneOf("PatientID", ("T-1",)),)))) == 1
        (located,) = index.locate(study(one), EVERYTHING)
        assert located.key.sop_uid == other.sop_uid
        assert list(index.metadata([located.version_id]))
        assert index.series_metadata(series(one), "http://here") is None

    # The change feed

    def changes(
        self, index: Index, cursor: int = 0, scope: Condition = EVERYTHING
    ) -> list[tuple[Action, VersionState | None]]:
        return [(row.action, row.state) for row in index.changes(MAIN, scope, cursor, 100).rows]

    def test_the_feed_tells_what_happened_in_order_and_what_became_of_it(self, index: Index) -> None:
        one = put(index)
        put(index, **{name: getattr(one, place) for name, place in UIDS}, PatientComments="newer")
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(one), EVERYTHING))
        undo(index, deletion)
        assert self.changes(index) == [
            (Action.CREATED, VersionState.REPLACED),
            (Action.UPDATED, VersionState.CURRENT),
            (Action.DELETED, VersionState.REPLACED),
            (Action.DELETED, VersionState.CURRENT),
            (Action.RESTORED, VersionState.REPLACED),
            (Action.RESTORED, VersionState.CURRENT),
        ]

    def test_the_feed_goes_on_from_a_cursor(self, index: Index) -> None:
        for _ in range(5):
            put(index)
        first = index.changes(MAIN, EVERYTHING, 0, 2)
        second = index.changes(MAIN, EVERYTHING, first.next_cursor, 2)
        last = index.changes(MAIN, EVERYTHING, second.next_cursor, 2)
        sequences = [row.sequence for page in (first, second, last) for row in page.rows]
        assert sequences == sorted(set(sequences))
        assert len(sequences) == 5
        assert last.next_cursor == last.head
        assert index.changes(MAIN, EVERYTHING, last.next_cursor, 2).rows == []
        assert (index.state().epoch, index.state().change) == (first.epoch, last.head)

    def test_the_feed_holds_only_what_the_scope_holds(self, index: Index) -> None:
        one = put(index, Modality="CT")
        put(index, StudyInstanceUID=one.study_uid, Modality="MR")
        put(index, Modality="US")
        page = index.changes(MAIN, OneOf("Modality", ("CT",)), 0, 100)
        assert [row.sop_uid for row in page.rows] == [one.sop_uid]
        assert page.next_cursor == page.head
        assert index.changes(OTHER, EVERYTHING, 0, 100).rows == []

    def test_a_study_is_complete_once_nothing_happened_for_the_quiet_time(self, index: Index) -> None:
        one = put(index, Modality="CT")
        assert index.complete_quiet(60.0, time.time()) == 0
        assert index.complete_quiet(60.0, time.time() + 61) == 1
        assert index.complete_quiet(60.0, time.time() + 3600) == 0
        assert self.changes(index) == [(Action.CREATED, VersionState.CURRENT), (Action.COMPLETED, None)]
        assert len(self.changes(index, scope=OneOf("Modality", ("CT",)))) == 2
        assert self.changes(index, scope=OneOf("Modality", ("MR",))) == []
        put(index, StudyInstanceUID=one.study_uid)
        assert index.complete_quiet(60.0, time.time() + 61) == 1

    def test_an_open_study_does_not_hide_from_the_next_look(self, index: Index) -> None:
        early, now = put(index), time.time()
        assert index.complete_quiet(60.0, now) == 0
        put(index)
        assert index.complete_quiet(60.0, now + 600) == 2
        assert index.existence(study(early), EVERYTHING) is Existence.LIVE

    def test_a_deleted_study_is_never_complete(self, index: Index) -> None:
        one = put(index)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one), EVERYTHING))
        assert index.complete_quiet(60.0, time.time() + 61) == 0

    def test_a_study_can_be_completed_at_once_and_only_once(self, index: Index) -> None:
        one = put(index)
        index.complete(MAIN, [one.study_uid, ids.study_uid("1.2.3")], "storage commitment")
        index.complete(MAIN, [one.study_uid], "storage commitment")
        (completed,) = index.changes(MAIN, EVERYTHING, 1, 100).rows
        assert (completed.action, completed.detail) == (Action.COMPLETED, "storage commitment")
        assert index.complete_quiet(60.0, time.time() + 61) == 0

    # Storage commitment

    def test_a_commitment_request_is_kept_once_and_answered(self, index: Index) -> None:
        asked = Commitment("viewer", 1000.0, b"[]", None)
        assert index.ask_commitment(MAIN, "1.2.3", asked)
        assert not index.ask_commitment(MAIN, "1.2.3", asked)
        assert index.ask_commitment(OTHER, "1.2.3", asked)
        assert index.commitment(MAIN, "1.2.3") == asked
        assert index.open_commitments(2000.0) == [(MAIN, "1.2.3"), (OTHER, "1.2.3")]
        assert index.open_commitments(500.0) == []
        index.answer_commitment(MAIN, "1.2.3", b"{}")
        found = index.commitment(MAIN, "1.2.3")
        assert found is not None
        assert found.result == b"{}"
        assert index.open_commitments(2000.0) == [(OTHER, "1.2.3")]
        assert index.commitment(MAIN, "1.2.4") is None

    def test_a_result_that_a_peer_has_to_be_told_of_is_taken_by_one_at_a_time(self, index: Index) -> None:
        index.ask_commitment(MAIN, "1.2.3", Commitment("ct", 1000.0, b"[]", None, "CT1"))
        index.ask_commitment(MAIN, "1.2.4", Commitment("viewer", 1000.0, b"[]", None))
        assert index.take_untold(5000.0, 6000.0) == [], "there is no result"
        for uid_ in ("1.2.3", "1.2.4"):
            index.answer_commitment(MAIN, uid_, b"{}", 2000.0)
        assert index.take_untold(1999.0, 2500.0) == []
        assert index.take_untold(2000.0, 2500.0) == [Untold(MAIN, "1.2.3", "CT1", b"{}", 0)]
        assert index.take_untold(2499.0, 3000.0) == []
        assert index.take_untold(2500.0, 3000.0) == [Untold(MAIN, "1.2.3", "CT1", b"{}", 1)]
        index.told(MAIN, "1.2.3")
        assert index.take_untold(9000.0, 9999.0) == []
        found = index.commitment(MAIN, "1.2.3")
        assert found is not None
        assert (found.tell, found.result) == ("", b"{}")

    # Quarantine and objects

    def test_quarantine_is_listed_and_its_object_is_known(self, index: Index) -> None:
        key = arrival(extract(encode(data_set()))).key
        version = CLOCK.next()
        item = Quarantined(key, version, key.object_key(version), "why")
        index.quarantine(item)
        assert index.quarantined(MAIN) == [item]
        assert index.quarantined(MAIN, item.key.study_uid) == [item]
        assert index.quarantined(MAIN, ids.StudyUid("1.2.3")) == []
        orphan = key.object_key(CLOCK.next())
        assert index.known_objects([item.object_key, orphan]) == {item.object_key}

    def test_a_version_is_kept_until_its_object_is_removed(self, index: Index) -> None:
        one, other = (arrival(extract(encode(data_set()))) for _ in range(2))
        index.commit_all([one, other])
        quarantined = CLOCK.next()
        index.quarantine(Quarantined(one.key, quarantined, one.key.object_key(quarantined), "why"))
        asked = [one.version, other.version, quarantined, CLOCK.next()]
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one.extract), EVERYTHING))
        due = index.purge_due(time.time() + 60)
        assert index.kept_versions(asked) == set(asked[:3])
        index.purged(due)
        assert index.kept_versions(asked) == {other.version, quarantined}

    def test_tombstones_keep_their_objects_known(self, index: Index) -> None:
        one = arrival(extract(encode(data_set())))
        index.commit(one)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(one.extract), EVERYTHING))
        assert index.known_objects([one.key.object_key(one.version)])

    def test_arrivals_can_be_committed_together_in_their_order(self, index: Index) -> None:
        first, second = (extract(encode(data_set(SOPInstanceUID="1.1", StudyInstanceUID=s))) for s in ("1.5", "1.6"))
        commits = index.commit_all([arrival(first), arrival(second), arrival(first)])
        assert [each.outcome for each in commits] == [Outcome.STORED, Outcome.MISPLACED, Outcome.DUPLICATE]

    def test_a_row_that_is_taken_back_has_never_been(self, index: Index) -> None:
        early = CLOCK.next()
        kept = put(index, StudyInstanceUID="1.1", SeriesInstanceUID="1.1.1", PatientID="A", StudyDescription="kept")
        before = positions(index, Level.INSTANCE), index.search(Search(MAIN, Level.STUDY))
        generation = index.generation(series(kept))
        here = extract(encode(data_set(StudyInstanceUID="1.1", SeriesInstanceUID="1.1.1", PatientID="A")))
        elsewhere = extract(encode(data_set(StudyInstanceUID="1.2", PatientID="B")))
        arrivals = [arrival(here, early), arrival(elsewhere)]
        index.commit_all(arrivals)
        for each in arrivals:
            index.withdraw(each.key, each.version)
            index.withdraw(each.key, each.version)
        assert (positions(index, Level.INSTANCE), index.search(Search(MAIN, Level.STUDY))) == before
        assert index.existence(study(elsewhere), EVERYTHING) is Existence.ABSENT
        assert not index.known_objects([each.key.object_key(each.version) for each in arrivals])
        assert index.generation(series(kept)) > generation
        assert index.commit(arrival(elsewhere)).outcome is Outcome.STORED

    def test_taking_back_the_current_version_makes_the_one_before_it_current(self, index: Index) -> None:
        first = put(index, SOPInstanceUID="1.1", StudyInstanceUID="1.5", SeriesInstanceUID="1.6", InstanceNumber=1)
        other = extract(
            encode(data_set(SOPInstanceUID="1.1", StudyInstanceUID="1.5", SeriesInstanceUID="1.6", InstanceNumber=2))
        )
        second = arrival(other)
        index.commit(second)
        object_key = second.key.object_key(second.version)
        index.withdraw(second.key, second.version, Quarantined(second.key, second.version, object_key, "why"))
        (located,) = index.locate(study(first), EVERYTHING)
        assert located.instance_number == 1
        assert [each.object_key for each in index.quarantined(MAIN)] == [object_key]

    def test_a_place_that_an_undoing_may_need_outlives_what_is_taken_back_from_it(self, index: Index) -> None:
        same = {"SOPInstanceUID": "1.1", "PatientID": "A"}
        gone = put(index, StudyInstanceUID="1.5", SeriesInstanceUID="1.5.1", **same)
        deletion = CLOCK.next()
        index.delete(MAIN, deletion, b"{}", index.versions(study(gone), EVERYTHING))
        there = put(index, StudyInstanceUID="1.6", SeriesInstanceUID="1.6.1", **same)
        here = arrival(extract(encode(data_set(StudyInstanceUID="1.5", SeriesInstanceUID="1.5.1", PatientID="A"))))
        index.commit(here)
        index.withdraw(here.key, here.version)
        index.delete(MAIN, CLOCK.next(), b"{}", index.versions(study(there), EVERYTHING))
        assert undo(index, deletion) == 1
        assert index.existence(study(gone), EVERYTHING) is Existence.LIVE

    def test_holdings_are_what_should_have_an_object_in_the_order_of_versions(self, index: Index) -> None:
        stored = [arrival(extract(encode(data_set(StudyInstanceUID=f"1.{number}")))) for number in range(1, 5)]
        other = arrival(extract(encode(data_set())), tenant=OTHER)
        index.commit_all([*stored, other])
        for number in (1, 2):
            index.delete(MAIN, CLOCK.next(), b"{}", [StoredVersion(stored[number].version, "")])
            if number == 1:
                index.purged(index.purge_due(time.time() + 60))
        first = index.holdings("", 2)
        assert [(each.version, each.deleted) for each in first] == [
            (stored[0].version, False),
            (stored[2].version, True),
        ]
        assert first[0].object_key == stored[0].key.object_key(stored[0].version)
        assert (first[0].key, first[0].size, first[0].sha256) == (stored[0].key, stored[0].size, "ab" * 32)
        rest = index.holdings(first[-1].version, 10)
        assert [each.version for each in rest] == [stored[3].version, other.version]
        assert [each.version for each in index.holdings("", 10, OTHER)] == [other.version]

    def test_records_that_were_applied_are_known(self, index: Index) -> None:
        applied, not_applied = CLOCK.next(), CLOCK.next()
        index.delete(MAIN, applied, b"{}", [])
        assert index.known_records([applied, not_applied]) == {applied}

    def test_every_commitment_request_can_be_listed(self, index: Index) -> None:
        asked = {
            (tenant, f"1.2.{number}"): Commitment("somebody", float(number), b"{}", b"[]" if number % 2 else None)
            for tenant in (MAIN, OTHER)
            for number in range(120)
        }
        for (tenant, uid_), each in asked.items():
            assert index.ask_commitment(tenant, uid_, each)
        assert {(tenant, uid_): each for tenant, uid_, each in index.commitments()} == asked

    def test_a_ping_answers(self, index: Index) -> None:
        index.ping()


def send(index: Index, source: str, **attributes: Any) -> Extract:
    """Commit an instance that somebody sent."""
    extracted = extract(encode(data_set(**attributes)))
    index.commit(arrival(extracted, source_ae_title=source))
    return extracted


def uids_of(one: Extract) -> tuple[ids.StudyUid, ids.SeriesUid, ids.SopUid]:
    return one.study_uid, one.series_uid, one.sop_uid


def sources_of(index: Index, one: Extract) -> set[object]:
    """The sources of an instance's series."""
    return {item["source_ae_title"] for item in sources(index, one.series_uid)["series_source"]}


def sources(index: Index, series_uid: str | None) -> dict[str, list[dict[str, Any]]]:
    """The sources of a series, as the engine keeps them, in the form of a record."""
    assert isinstance(index, RelationalIndex)
    with index._reader() as db:
        found = db.execute(
            "SELECT x.source_ae_title FROM series_source x JOIN series e ON e.id = x.series WHERE e.series_uid = ?",
            (series_uid,),
        )
        return {"series_source": [{"source_ae_title": title} for (title,) in found.fetchall()]}


def request_item(**values: str) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


SAMPLES: list[dict[str, Any]] = [
    {"PatientName": "Müller^Zoë", "Modality": "CT", "StudyDate": "20260101", "SeriesNumber": 1},
    {"PatientName": "Yamada^Tarou=山田^太郎", "Modality": "MR", "StudyDate": "20260215", "SeriesNumber": 2},
    {"PatientName": "", "Modality": "US", "StudyDate": None, "SeriesNumber": None, "StudyDescription": "ABC abc"},
    {"PatientName": "a^b", "Modality": "CT", "StudyTime": "235959.5", "PatientID": "?*[", "StudyDescription": "a[b]*"},
]

SAMPLES += [
    {
        "PatientName": "Mueller^J",
        "SeriesInstanceUID": "1.5",
        "TimezoneOffsetFromUTC": "+0100",
        "StudyDate": "20260101",
        "RequestAttributesSequence": [
            request_item(ScheduledProcedureStepID="a", RequestedProcedureID="b"),
            request_item(ScheduledProcedureStepID="c"),
        ],
    },
    {"PatientName": "Maier^Anna-Maria", "RequestAttributesSequence": [request_item(RequestedProcedureID="b")]},
]

SAMPLES[0] |= {"NameOfPhysiciansReadingStudy": ["Müller^Zoë", "a^b=山田^太郎"]}
SAMPLES[1] |= {"NameOfPhysiciansReadingStudy": ["", "x"]}
SAMPLES[2] |= {"NameOfPhysiciansReadingStudy": "x=山田^太郎"}

SENDERS = (("CT",), ("CT", "MR"), ("",), ("x", ""), ("MR",), ("x", "a^b", "CT"))
"""Who sends each of the samples, or several instances of its series."""

_TEXTS = st.sampled_from(["CT", "MR", "müller^zoë", "a^b", "ABC abc", "a[b]*", "?*[", "x", "山田^太郎"])
_PATTERNS = st.text(alphabet="aAbBmC?*[]^-山 ", min_size=1, max_size=5)


def conditions() -> st.SearchStrategy[Condition]:
    """Conditions of every kind, in normal form."""
    keyword = st.sampled_from(
        ["PatientName", "PatientID", "Modality", "StudyDescription", READING_PHYSICIAN, SOURCE_AE.keyword]
    )
    step, procedure = "ScheduledProcedureStepID", "RequestedProcedureID"
    in_item = st.builds(
        lambda first, second, word: InItem(word((first, second))),
        st.builds(lambda v: OneOf(step, (v,)), st.sampled_from("abc")),
        st.one_of(st.just(Absent(procedure)), st.builds(lambda v: Not(OneOf(procedure, (v,))), st.sampled_from("abc"))),
        st.sampled_from([AllOf, AnyOf]),
    )
    of_values = st.builds(
        lambda keyword, texts, pattern, word, one, other: InItem(
            word((one(OneOf(keyword, texts)), other(Wildcard(keyword, pattern))))
        ),
        st.sampled_from([READING_PHYSICIAN, SOURCE_AE.keyword]),
        st.lists(_TEXTS, max_size=2).map(tuple),
        _PATTERNS,
        st.sampled_from([AllOf, AnyOf]),
        st.sampled_from([Not, lambda condition: condition]),
        st.sampled_from([Not, lambda condition: condition]),
    )
    leaves = st.one_of(
        in_item,
        of_values,
        st.builds(
            lambda name: Fuzzy(READING_PHYSICIAN, names.fuzzy(name)), st.sampled_from(["Mueller", "x", "a 山田"])
        ),
        st.builds(lambda v: OneOf(procedure, (v,)), st.sampled_from("abc")),
        st.builds(
            Absent,
            st.sampled_from(["PatientName", "StudyDate", "SeriesNumber", "StudyDate+StudyTime", READING_PHYSICIAN]),
        ),
        st.builds(
            lambda name: Fuzzy("PatientName", names.fuzzy(name)),
            st.sampled_from(["Müller", "Meyer A", "anna", "J", "Mai*", "山田", "tarou yamada", "a b", "*x*", "zoe m"]),
        ),
        st.builds(
            lambda low, high: Range("StudyDate+StudyTime", low, high),
            st.sampled_from([None, "20260101091500.000000", "20260101091500.000001"]),
            st.sampled_from([None, "20260101101500.000000", "20261231235959.999999"]),
        ),
        st.builds(lambda k, v: OneOf(k, tuple(v)), keyword, st.lists(_TEXTS, max_size=3)),
        st.builds(Wildcard, keyword, _PATTERNS),
        st.builds(lambda v: OneOf("SeriesNumber", (v,)), st.integers(0, 3)),
        st.builds(
            lambda low, high: Range("StudyDate", low, high),
            st.sampled_from([None, "20251231", "20260101"]),
            st.sampled_from([None, "20260101", "20261231"]),
        ),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(lambda parts: AllOf(tuple(parts)), st.lists(inner, max_size=3)),
            st.builds(lambda parts: AnyOf(tuple(parts)), st.lists(inner, max_size=3)),
            st.builds(Not, inner),
        ),
        max_leaves=6,
    )
