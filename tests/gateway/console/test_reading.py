"""The pages of who reads and who sends images, in a real browser against one running gateway."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
import requests
from playwright.sync_api import Browser, Page, sync_playwright
from pydicom import Dataset, dcmread

from tests.faulty_proxy import Fault, FaultyProxy
from tests.gateway.console.guarded import DOCTOR, PASSWORD, as_, guarded, pictures, store
from tests.gateway.console.test_browser import ARGUMENTS, until
from tests.instances import data_set, part10_file
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [need_program("chromium", "chromium"), pytest.mark.xdist_group("browser")]

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with guarded(tmp_path_factory.mktemp("reading")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def open_as(gateway: Gateway, browser: Browser) -> Iterator[Open]:
    """Opens a page as one of the principals; the test fails on an error that the browser reports."""
    errors: list[str] = []
    contexts = []

    def opened(name: str, place: str = "", root: str = "") -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 860})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if name:
            page.add_init_script(f"sessionStorage.setItem('gateway.api-key', '{name}')")
        page.goto(f"{root or gateway.web.removesuffix('/dicomweb')}/{place}")
        return page

    yield opened
    for each in contexts:
        each.close()
    # What a browser says by itself of an answer that is no success, or of none at all.
    assert [each for each in errors if not each.startswith("Failed to load resource:")] == []


def known(gateway: Gateway, **query: str) -> list[dict[str, Any]]:
    """Studies that the archive has."""
    answer = requests.get(f"{gateway.web}/studies", query, headers=as_("administrator"), timeout=30)
    found: list[dict[str, Any]] = answer.json() if answer.status_code == 200 else []
    return found


def in_view(gateway: Gateway, name: str) -> str:
    """Where the console shows a patient's study to who sees the view alone."""
    (study,) = known(gateway, PatientName=name)
    path = f"deidentified/research/studies/{study['0020000D']['Value'][0]}"
    answer = requests.get(gateway.web.replace("dicomweb", path), headers=as_("administrator"), timeout=30)
    return f"#/studies/{answer.json()['url'].rpartition('/')[2]}"


def folder_of(tmp_path: Path, files: list[bytes]) -> Path:
    (tmp_path / "disc").mkdir()
    for number, each in enumerate(files):
        (tmp_path / "disc" / f"{number:03}.dcm").write_bytes(each)
    return tmp_path / "disc"


# Upload


def outcomes(page: Page) -> dict[str, str]:
    """What became of each file."""
    rows = page.locator("tbody tr").all()
    return {row.get_by_role("rowheader").inner_text(): row.get_by_role("cell").last.inner_text() for row in rows}


def done(page: Page, text: str) -> None:
    """Wait for the end of an upload."""
    page.get_by_role("status").get_by_text(f"Done: {text}.").wait_for()


def test_a_folder_is_stored_and_each_file_has_its_outcome(gateway: Gateway, open_as: Open, tmp_path: Path) -> None:
    disc = folder_of(tmp_path, pictures(3, PatientID="UP-1"))
    (disc / "cut.dcm").write_bytes(part10_file(data_set(PatientID="UP-1"))[:-20])
    (disc / "notes.txt").write_text("shopping list")
    (disc / "nothing").touch()
    whole = part10_file(data_set(PatientID="UP-1"))
    (disc / "bare").write_bytes(whole[whole.index(b"\x08\x00\x16\x00") :])
    page = open_as("technologist")
    page.wait_for_url("**/#/upload")
    page.get_by_label("Choose a folder").set_input_files(disc)
    done(page, "4 files stored, 3 files not stored")
    found = outcomes(page)
    stored = {name for name, outcome in found.items() if outcome == "Stored"}
    assert stored == {"disc/000.dcm", "disc/001.dcm", "disc/002.dcm", "disc/bare"}
    assert "no DICOM file" in found["disc/notes.txt"]
    assert "no DICM prefix" in found["disc/notes.txt"]
    assert "the stream ends inside a value · C000" in found["disc/cut.dcm"]
    assert found["disc/nothing"] == "Not stored: The file is empty."
    page.get_by_role("button", name="Not stored 3").click()
    assert len(outcomes(page)) == 3
    assert sorted(each["00201208"]["Value"][0] for each in known(gateway, PatientID="UP-1")) == [1, 3]


_ALERTS = """() => {
  window.alerts = [];
  const look = () => {
    for (const each of document.querySelectorAll("[role=alert]:not([hidden])")) alerts.push(each.textContent);
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""
"""Keeps what is told for a moment only: whoever looks now and then may miss it."""


def test_a_lost_answer_and_a_cut_connection_cost_nothing_that_is_stored(
    gateway: Gateway, open_as: Open, tmp_path: Path
) -> None:
    disc = folder_of(tmp_path, pictures(60, PatientID="UP-3"))
    proxy = FaultyProxy(gateway.web.removesuffix("/dicomweb"))
    try:
        # The first request is stored, but its answer is lost; the second one does not get through to the gateway.
        proxy.fail(Fault(response_bytes=0), Fault(status=502), when=lambda each: each.method == "POST")
        page = open_as("administrator", "#/upload", proxy.url)
        page.evaluate(_ALERTS)
        page.get_by_label("Choose files").set_input_files(sorted(disc.iterdir()))
        done(page, "60 files stored")
        assert "The connection failed; trying again." in page.evaluate("alerts")
        page.get_by_role("link", name="Open the study").click()
        page.get_by_text("60 instances").wait_for()
        # Nothing of the first request was sent again.
        assert [each.body.count(b"DICM") for each in proxy.passed if each.method == "POST"] == [50, 10, 10]
    finally:
        proxy.stop()


def test_an_upload_that_is_cancelled_keeps_what_is_stored(gateway: Gateway, open_as: Open, tmp_path: Path) -> None:
    disc = folder_of(tmp_path, pictures(51, PatientID="UP-4"))
    held = threading.Event()
    proxy = FaultyProxy(gateway.web.removesuffix("/dicomweb"))
    try:
        proxy.fail(None, Fault(until=held), when=lambda each: each.method == "POST")
        page = open_as("technologist", "#/upload", proxy.url)
        page.get_by_label("Choose files").set_input_files(sorted(disc.iterdir()))
        page.get_by_text("1 file to go").wait_for()
        page.get_by_role("button", name="Cancel").click()
        done(page, "50 files stored, 1 file left out")
    finally:
        held.set()
        proxy.stop()


def test_what_one_person_began_is_over_for_the_next(gateway: Gateway, open_as: Open, tmp_path: Path) -> None:
    disc = folder_of(tmp_path, pictures(1, PatientID="UP-6"))
    held = threading.Event()
    proxy = FaultyProxy(gateway.web.removesuffix("/dicomweb"))
    try:
        proxy.fail(Fault(until=held, status=502), when=lambda each: each.method == "POST")
        page = open_as("technologist", "#/upload", proxy.url)
        page.get_by_label("Choose files").set_input_files(sorted(disc.iterdir()))
        page.get_by_text("1 file to go").wait_for()
        page.get_by_role("button", name="Forget API key").click()
        page.get_by_label("API key").fill("administrator")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Upload").wait_for()
        assert page.get_by_text("000.dcm").count() == 0
    finally:
        held.set()
        proxy.stop()
    assert known(gateway, PatientID="UP-6") == []


_DROP = """file => {
  const dragged = new DataTransfer();
  dragged.items.add(new File([Uint8Array.from(file)], "dropped.dcm"));
  for (const name of ["dragover", "drop"]) {
    const event = new DragEvent(name, { dataTransfer: dragged, bubbles: true, cancelable: true });
    document.querySelector("main").dispatchEvent(event);
  }
}"""


def test_what_is_dropped_on_any_page_is_stored_by_who_may(gateway: Gateway, open_as: Open) -> None:
    (file,) = pictures(1, PatientID="UP-5")
    reader = open_as("radiologist")
    reader.get_by_text("Smith, Jane").wait_for()
    reader.evaluate(_DROP, list(file))
    assert reader.get_by_role("link", name="Upload").count() == 0
    reader.goto(reader.url.partition("#")[0] + "#/upload")
    reader.get_by_text("This page is not for you").wait_for()
    assert known(gateway, PatientID="UP-5") == []
    page = open_as("administrator")
    page.get_by_text("Smith, Jane").wait_for()
    page.evaluate(_DROP, list(file))
    page.wait_for_url("**/#/upload")
    done(page, "1 file stored")
    assert outcomes(page) == {"dropped.dcm": "Stored"}


# Download


def zipped(page: Page, *choices: str) -> list[Dataset]:
    """What comes of the dialog."""
    page.get_by_role("button", name="Download…").click()
    dialog = page.get_by_role("dialog", name="Download")
    for each in choices:
        dialog.get_by_label(each).check()
    with page.expect_download() as download:
        dialog.get_by_role("button", name="Download").click()
    page.get_by_role("dialog").wait_for(state="detached")
    assert download.value.suggested_filename.endswith(".zip")
    with ZipFile(download.value.path()) as archive:
        return [dcmread(BytesIO(archive.read(each))) for each in archive.namelist() if each != "DICOMDIR"]


def test_a_study_is_downloaded_as_it_is_stored_and_de_identified(open_as: Open) -> None:
    # By a session, whose cookie a link shows.
    page = open_as("", "login")
    page.get_by_label("Name").fill(DOCTOR)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Smith, Jane").click()
    stored = zipped(page)
    assert {str(each.PatientName) for each in stored} == {"Smith^Jane"}
    assert len(stored) == 2
    shown = zipped(page, "The series that is shown", "as the view research shows it")
    assert len(shown) == 2
    assert "Smith" not in str(shown[0].PatientName)
    assert {each.SOPInstanceUID for each in shown}.isdisjoint(each.SOPInstanceUID for each in stored)


def test_who_shows_a_key_downloads_too_and_is_told_what_there_is_not(gateway: Gateway, open_as: Open) -> None:
    page = open_as("radiologist")
    page.get_by_text("Smith, Jane").click()
    page.get_by_role("button", name="Download…").click()
    assert page.get_by_label("no de-identified view is there for you to download through").is_disabled()
    page.get_by_role("button", name="Cancel").click()
    assert {str(each.PatientName) for each in zipped(page)} == {"Smith^Jane"}
    researcher = open_as("researcher", in_view(gateway, "Smith^Jane"))
    assert not {str(each.PatientName) for each in zipped(researcher)} & {"Smith^Jane", "Doe^John"}


# The study page


def test_attributes_versions_and_accesses_are_for_who_may_know_them(gateway: Gateway, open_as: Open) -> None:
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "R-10206", "SRT", "antero-posterior"
    found = data_set(
        PatientID="AT-1", PatientName="Ångström^Åsa", SpecificCharacterSet="ISO_IR 192", ViewCodeSequence=[view]
    )
    for comment in ("first", "second"):
        found.PatientComments = comment
        store(gateway, part10_file(found))
    place = f"#/studies/{found.StudyInstanceUID}"
    page = open_as("administrator", place)
    page.locator("img.frame").wait_for()
    page.get_by_role("button", name="Attributes…").click()
    dialog = page.get_by_role("dialog", name="Attributes of this instance")
    rows = dialog.get_by_role("table", name="Attributes").get_by_role("row")
    search = dialog.get_by_label("Tag, keyword or value")
    search.fill("0010,0010")
    assert rows.last.inner_text().split("\t") == ["(0010,0010)", "PatientName", "PN", "Ångström^Åsa"]
    search.fill("codemeaning")
    assert rows.last.inner_text().split("\t") == ["(0008,0104)", "CodeMeaning", "LO", "antero-posterior"]
    search.fill("second")
    assert rows.count() == 2
    states = dialog.get_by_role("table", name="Versions").get_by_role("row")
    assert [each.get_by_role("cell").first.inner_text() for each in states.all()[1:]] == ["current", "replaced"]
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Accesses…").click()
    page.get_by_role("dialog", name="Who saw this study").get_by_role(
        "rowheader", name="administrator"
    ).first.wait_for()
    researcher = open_as("researcher", in_view(gateway, "Smith^Jane"))
    researcher.get_by_role("button", name="Attributes…").click()
    researcher.get_by_role("table", name="Attributes").wait_for()
    assert researcher.get_by_role("table", name="Versions").count() == 0
    assert researcher.get_by_role("button", name="Accesses…").count() == 0


def test_attributes_of_a_series_that_is_on_its_way_come_with_it_and_once(gateway: Gateway, open_as: Open) -> None:
    held = threading.Event()
    proxy = FaultyProxy(gateway.web.removesuffix("/dicomweb"))
    try:
        proxy.fail(Fault(until=held), when=lambda each: "/instances?" in each.target)
        page = open_as("radiologist", "", proxy.url)
        page.get_by_text("Smith, Jane").click()
        for _ in range(2):
            page.get_by_role("button", name="Attributes…").click()
        assert page.get_by_role("dialog").count() == 0
        held.set()
        page.get_by_role("table", name="Attributes").wait_for()
        page.locator("img.frame").wait_for()
        assert page.get_by_role("dialog").count() == 1
    finally:
        held.set()
        proxy.stop()


# Shares


def test_a_link_is_made_through_a_view_shown_as_a_qr_code_and_revoked(gateway: Gateway, open_as: Open) -> None:
    page = open_as("administrator")
    page.get_by_text("Doe, John").click()
    page.get_by_role("button", name="Share…").click()
    page.get_by_label("What is seen").select_option("research")
    page.get_by_label("PIN").fill("2468")
    page.get_by_label("For whom").fill("Dr. Gray")
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("The link").input_value()
    picture = page.get_by_role("img", name="The link as a QR code")
    until(page, lambda: page.evaluate("document.querySelector('.qr').naturalWidth > 0"))
    read, _, _ = cv2.QRCodeDetector().detectAndDecode(
        cv2.imdecode(np.frombuffer(picture.screenshot(), "u1"), cv2.IMREAD_COLOR)
    )
    assert read == link
    page.get_by_role("button", name="Close").click()
    assert link.partition("/share/")[2].strip("/") not in gateway.log + gateway.audit()
    visitor = open_as("", link.partition("/share/")[2], link.partition("/share/")[0] + "/share")
    visitor.get_by_label("PIN").fill("2468")
    visitor.keyboard.press("Enter")
    visitor.get_by_text("1 study").wait_for()
    assert visitor.get_by_text("Doe, John").count() == 0
    page.get_by_role("link", name="Shares").click()
    row = page.get_by_role("row", name="Dr. Gray")
    row.get_by_text("1, with a PIN").wait_for()
    row.get_by_text("1 study through research").wait_for()
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    row.get_by_text("the link was revoked").wait_for()
    assert row.get_by_role("button").count() == 0
    colleague = open_as("radiologist", "#/shares")
    colleague.get_by_text("No links.").wait_for()


# Arrivals


def test_a_study_that_arrives_is_listed_at_once_and_moves_nothing_that_is_read(gateway: Gateway, open_as: Open) -> None:
    page = open_as("administrator", "#/upload")
    with page.expect_response(lambda answer: answer.url.endswith("/changefeed")):
        page.get_by_role("link", name="Studies").click()
    page.get_by_text("Smith, Jane").wait_for()
    page.mouse.move(5, 5)
    (one,) = pictures(1, PatientName="Arrived^First", StudyDate="20260202")
    store(gateway, one)
    page.get_by_text("Arrived, First").wait_for()
    page.locator("a.study").nth(1).focus()
    reading = page.evaluate("document.activeElement.getBoundingClientRect().top")
    (other,) = pictures(1, PatientName="Arrived^Second", StudyDate="20260203")
    store(gateway, other)
    news = page.get_by_role("status").get_by_role("button", name="1 new study: show")
    news.wait_for()
    assert page.get_by_text("Arrived, Second").count() == 0
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") == reading
    news.click()
    assert page.locator("a.study").first.get_by_text("Arrived, Second").count() == 1
    until(page, lambda: page.evaluate("document.activeElement.textContent").count("Arrived, Second") == 1)
