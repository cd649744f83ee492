"""Structured reports as pages and text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest
from playwright.sync_api import Route, sync_playwright
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from gateway.services import report, report_html, report_text
from gateway.services.report import Report, read_report
from tests.gateway.dicomweb.pictures import code
from tests.instances import SHARED
from tests.programs import need_program

EVIL = "</style><script>document.title=1</script><img src=//x.test/y>"


def content(kind: str, name: str, relationship: str = "CONTAINS", **attributes: Any) -> Dataset:
    found = Dataset()
    found.RelationshipType, found.ValueType = relationship, kind
    found.ConceptNameCodeSequence = [code("1", "99X", name)]
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def measured(value: str, unit: Dataset) -> Dataset:
    found = Dataset()
    found.NumericValue = value
    found.MeasurementUnitsCodeSequence = [unit]
    return found


def whole(*items: Dataset, title: str = "Report on a CT", **attributes: Any) -> Report:
    found = Dataset()
    found.ValueType = "CONTAINER"
    found.ConceptNameCodeSequence = [code("18748-4", "LN", title)]
    found.PatientName = "Doe^Jane^^Dr"
    found.PatientBirthDate = "19700131"
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    found.ContentSequence = list(items)
    return read_report(json.loads(found.to_json()))


def reference(**attributes: Any) -> Dataset:
    found = Dataset()
    found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def test_every_kind_of_value_can_be_read() -> None:
    text = report_text.write(
        whole(
            content("TEXT", "Finding", TextValue="First line\r\nSecond line"),
            content("CODE", "Site", "HAS CONCEPT MOD", ConceptCodeSequence=[code("T-28000", "SRT", "Lung")]),
            content("NUM", "Diameter", MeasuredValueSequence=[measured("12.5", code("mm", "UCUM", "millimeter"))]),
            content("NUM", "Count", MeasuredValueSequence=[measured("3", code("1", "UCUM", "no units"))]),
            content("NUM", "Failed", NumericValueQualifierCodeSequence=[code("114000", "DCM", "Not a number")]),
            content("PNAME", "Observer", "HAS OBS CONTEXT", PersonName="Roe^Richard"),
            content("DATE", "On", Date="20260102"),
            content("TIME", "At", Time="131500"),
            content("DATETIME", "When", DateTime="20260102131500"),
            content("UIDREF", "Study", UID="1.2.3"),
            content("IMAGE", "Source", ReferencedSOPSequence=[reference(ReferencedFrameNumber=[2, 3])]),
            content("SCOORD", "Outline", GraphicType="POLYLINE", GraphicData=[1, 2, 3.5, 4]),
            content("SCOORD3D", "Point", GraphicType="POINT", GraphicData=[1, 2, 3]),
            content("TCOORD", "Span", TemporalRangeType="SEGMENT", ReferencedTimeOffsets=["1.5", "2"]),
        )
    ).decode()
    for line in (
        "Report on a CT",
        "Patient: Doe, Jane Dr",
        "Born:    1970-01-31",
        "Finding: First line",
        "  Second line",
        "[modifier] Site: Lung",
        "Diameter: 12.5 mm",
        "Count: 3\n",
        "Failed: Not a number",
        "[context] Observer: Roe, Richard",
        "On: 2026-01-02",
        "At: 13:15",
        "When: 2026-01-02 13:15",
        "Study: 1.2.3",
        "Source: instance 1.2.3.4, frame 2, 3",
        "Outline: polyline (1, 2) (3.5, 4)",
        "Point: point (1, 2, 3)",
        "Span: segment 1.5, 2",
    ):
        assert line in text, line


def test_containers_are_nested_as_in_the_report() -> None:
    inner = content("CONTAINER", "Lesion 1", ContentSequence=[content("TEXT", "Shape", TextValue="round")])
    found = whole(content("CONTAINER", "Findings", ContentSequence=[inner]))
    assert "Findings\n  Lesion 1\n    Shape: round" in report_text.write(found).decode()
    page = report_html.write(found).decode()
    assert page.index("<h2>Findings") < page.index("<h3>Lesion 1") < page.index(">round<")


def test_no_text_of_a_report_becomes_markup() -> None:
    found = whole(
        content("TEXT", EVIL, TextValue=EVIL),
        content("CODE", "x", ConceptCodeSequence=[code(EVIL[:16], EVIL[:16], EVIL)]),
        content("NUM", "x", MeasuredValueSequence=[measured("1", code("<b>", "UCUM", EVIL))]),
        title=EVIL,
        StudyDescription=EVIL,
        PatientName=EVIL,
    )
    page = report_html.write(found).decode()
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("</style>") == 1
    assert "&lt;script&gt;" in page


def test_a_report_of_too_many_items_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_ITEMS", 3)
    found = whole(*[content("TEXT", "n", TextValue=str(number)) for number in range(5)])
    assert len(found.items) == 3
    assert not found.complete
    assert b"content items are shown" in report_html.write(found)
    assert b"content items are shown" in report_text.write(found)


def test_what_is_missing_or_strange_is_left_out() -> None:
    bare = read_report({"0040A730": {"vr": "SQ", "Value": [{}, {"0040A040": {"vr": "CS", "Value": ["HOLOGRAM"]}}]}})
    assert bare.title == "Report"
    assert report_html.write(bare).endswith(b"</html>")
    by_reference = {"0040DB73": {"vr": "UL", "Value": [1, 2, 3]}}
    found = read_report({"0040A730": {"vr": "SQ", "Value": [by_reference]}})
    assert b"content item 1.2.3" in report_text.write(found)


def real_reports() -> list[Path]:
    found = [get_testdata_file(name) for name in ("test-SR.dcm", "reportsi.dcm")]
    shared = sorted((SHARED / "objects" / "sr").glob("*sr*.dcm")) if SHARED.exists() else []
    files = [*(Path(path) for path in found if isinstance(path, str)), *shared]
    return [path for path in files if "ContentSequence" in pydicom.dcmread(path, specific_tags=["ContentSequence"])]


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("path", real_reports(), ids=lambda path: path.stem)
def test_real_reports_can_be_read(path: Path) -> None:
    data_set = pydicom.dcmread(path)
    text = report_text.write(read_report(data_set.to_json_dict())).decode()
    assert text.startswith(data_set.ConceptNameCodeSequence[0].CodeMeaning)
    assert text.count("\n") > 8


@need_program("chromium", "chromium")
def test_a_browser_shows_the_page_in_its_style_and_runs_nothing() -> None:
    found = whole(content("TEXT", "Finding", TextValue="A nodule"), title="Chest CT")
    page_text = report_html.write(found).decode().replace("A nodule", f"A nodule {EVIL}")  # as if nothing were escaped
    requested = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": report_html.CONTENT_SECURITY_POLICY,
        }

        def answer(route: Route) -> None:
            requested.append(route.request.url)
            route.fulfill(body=page_text, headers=headers)

        page.route("**/*", answer)
        page.goto("http://report.test/")
        assert page.title() == "Chest CT"
        assert page.locator("h1").inner_text() == "Chest CT"
        style = page.locator(".item").first.evaluate("element => getComputedStyle(element).display")
        browser.close()
    assert style == "grid"
    assert requested == ["http://report.test/"]
