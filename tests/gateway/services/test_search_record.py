"""What the audit trail keeps of a search."""

from __future__ import annotations

from gateway.services import search_record

KEYS = (
    ("00100010", "Müller^A*"),
    ("00100030", "19700101"),
    ("00080020", "20260101-20260131"),
    ("00080060", "CT\\MR"),
    ("0020000D", "1.2.3"),
    ("00081030", "Knie & Hüfte"),
    ("00080050", ""),
    ("00100020", "*"),
    ("00400275.00401001", "R-1"),
    ("00091001", "private"),
)


def test_values_that_may_tell_of_a_patient_are_left_out() -> None:
    assert search_record.text(KEYS, values=False) == (
        "PatientName=...&PatientBirthDate=...&StudyDate=20260101-20260131&Modality=CT%5CMR&StudyInstanceUID=1.2.3"
        "&StudyDescription=...&RequestAttributesSequence.RequestedProcedureID=...&00091001=..."
    )


def test_all_values_are_kept_when_asked_for() -> None:
    found = search_record.text(KEYS, values=True)
    assert found.startswith("PatientName=M%C3%BCller%5EA%2A&PatientBirthDate=19700101&")
    assert "StudyDescription=Knie%20%26%20H%C3%BCfte" in found


def test_the_text_is_bounded() -> None:
    assert len(search_record.text([("00081030", "x" * 5000)] * 100, values=True)) == 4096
