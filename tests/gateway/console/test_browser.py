"""The console in a real browser, against running processes."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import requests
from playwright.sync_api import Page, sync_playwright

from gateway.access import users
from storage.control.sqlite import SqliteControl
from tests.instances import data_set, part10_file
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [need_program("chromium", "chromium"), pytest.mark.xdist_group("browser")]

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
EVIL = "<img src=x onerror=document.title=1>"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("console")
    gateway = Gateway(folder / "data", folder / "gateway.log")
    gateway.start()
    ramp = np.linspace(0, 4000, 64 * 64, dtype="<u2").tobytes()
    names = (("Smith^Jane", "Head"), ("<b>Bold^Name", EVIL), ("Yamada^Tarou=山田^太郎", "Chest"))
    for number, (name, description) in enumerate(names):
        common = data_set()
        for place in range(3):
            found = data_set(
                SpecificCharacterSet="ISO_IR 192",
                PatientName=name, PatientID=f"P-{number}", StudyDescription=description,
                StudyInstanceUID=common.StudyInstanceUID, SeriesInstanceUID=common.SeriesInstanceUID,
                InstanceNumber=place, Rows=64, Columns=64, PixelData=ramp,
            )  # fmt: skip
            answer = requests.post(
                f"{gateway.web}/studies", part10_file(found), headers={"Content-Type": "application/dicom"}, timeout=30
            )
            assert answer.status_code == 200
    yield gateway
    gateway.stop()


PASSWORD, PIN = "correct horse battery", "2468"
POLICY = """
[[role]]
name = "on-call"
[[role.rule]]
name = "looking and sharing"
actions = ["search", "read", "render", "share"]
scope = {{ Modality = ["CT"] }}
[[role.rule]]
name = "emergency"
actions = ["search", "read", "render"]
obligations = ["break_glass"]

[[principal]]
name = "archivist"
kind = "api_key"
api_key_sha256 = "{digest}"
roles = ["administrator"]
"""
ARCHIVIST = {"Authorization": "Bearer archivist"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a gateway that asks who somebody is."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "policy.toml").write_text(POLICY.format(digest=hashlib.sha256(b"archivist").hexdigest()))
    control = SqliteControl(folder / "data" / "control.sqlite")
    for name, role in (("ann", "on-call"), ("bob", "viewer")):
        users.add(control, name, PASSWORD, "main", [role])
    control.close()
    policy = {"GATEWAY_ACCESS__POLICY_FILE": str(folder / "policy.toml")}
    gateway = Gateway(folder / "data", folder / "gateway.log", **policy)
    gateway.start()
    ramp = np.linspace(0, 4000, 64 * 64, dtype="<u2").tobytes()
    for name, modality in (("Smith^Jane", "CT"), ("Doe^John", "MR")):
        found = data_set(
            PatientName=name, Modality=modality, StudyDescription="Head", Rows=64, Columns=64, PixelData=ramp
        )
        headers = {"Content-Type": "application/dicom", **ARCHIVIST}
        answer = requests.post(f"{gateway.web}/studies", part10_file(found), headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
    yield gateway.web.removesuffix("/dicomweb")
    gateway.stop()


@pytest.fixture
def visitor() -> Iterator[Page]:
    """A page of a fresh browser; it fails the test on errors other than what a browser says of an answer 401."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert [each for each in errors if "status of 401" not in each] == []


def log_in(page: Page, guarded: str, name: str) -> None:
    page.goto(f"{guarded}/")
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_text(f"You are {name}").wait_for()


@pytest.fixture
def page(gateway: Gateway) -> Iterator[Page]:
    """A page that fails the test when the browser reports an error."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{gateway.http_port}/")
        yield page
        browser.close()
    assert errors == []


_LOADED = "() => [...document.images].filter(i => i.complete && i.naturalWidth > 0).length"


def loaded(page: Page, wanted: int) -> None:
    """Wait until so many pictures on the page have been decoded."""
    until(page, lambda: page.evaluate(_LOADED) >= wanted)


def until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait from outside of the page: its policy forbids the evaluation that Playwright's own waiting needs."""
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, page.content()[:2000]
        page.wait_for_timeout(50)


def test_studies_are_listed_with_their_thumbnails(page: Page) -> None:
    page.get_by_text("Smith, Jane").wait_for()
    loaded(page, 3)
    assert page.get_by_text("山田").count() >= 1
    assert page.get_by_text("3 studies").count() == 1


def test_a_name_made_of_markup_is_shown_as_text(page: Page) -> None:
    page.get_by_text("onerror=document.title=1").first.wait_for()
    assert page.get_by_text("<b>Bold").count() == 1
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert page.title() != "1"


def test_searching_narrows_the_list_as_one_types(page: Page) -> None:
    page.get_by_text("Smith, Jane").wait_for()
    page.get_by_role("searchbox").fill("yamada")
    page.get_by_text("Smith, Jane").wait_for(state="detached")
    page.get_by_text("山田").first.wait_for()
    page.get_by_role("searchbox").fill("nobody of that name")
    page.get_by_text("山田").first.wait_for(state="detached")


def test_a_study_opens_with_its_images_and_back_leads_to_the_list(page: Page) -> None:
    page.get_by_text("Smith, Jane").click()
    page.wait_for_url("**/#/studies/**")
    loaded(page, 1)
    until(page, lambda: page.evaluate("document.querySelector('img.frame')?.naturalWidth === 64"))
    page.get_by_text("2 / 3").wait_for()
    page.locator(".stage").press("ArrowDown")
    page.get_by_text("3 / 3").wait_for()
    page.get_by_role("button", name="Bone").click()
    until(page, lambda: page.locator("[aria-pressed=true]").text_content() == "Bone")
    page.go_back()
    page.get_by_text("山田").first.wait_for()


def test_the_page_asks_who_one_is_and_leads_back_after_the_login(visitor: Page, guarded: str) -> None:
    visitor.goto(f"{guarded}/#/studies/1.2.3")
    visitor.get_by_label("API key").wait_for()
    link = visitor.get_by_role("link", name="Log in")
    link.wait_for()
    until(visitor, lambda: visitor.evaluate("document.activeElement.textContent") == "Log in")
    visitor.keyboard.press("Enter")
    visitor.get_by_label("Name").fill("ann")
    visitor.get_by_label("Password").fill("something else")
    visitor.keyboard.press("Enter")
    visitor.get_by_role("alert").wait_for()
    assert visitor.get_by_label("Name").input_value() == "ann"
    visitor.get_by_label("Password").fill(PASSWORD)
    visitor.keyboard.press("Enter")
    visitor.wait_for_url("**/#/studies/1.2.3")
    visitor.get_by_text("This study is not here").wait_for()
    visitor.get_by_role("button", name="Log out").click()
    visitor.get_by_role("link", name="Log in").wait_for()
    assert visitor.context.cookies() == []


def test_an_api_key_still_opens_the_page(visitor: Page, guarded: str) -> None:
    visitor.goto(f"{guarded}/")
    visitor.get_by_label("API key").fill("wrong")
    visitor.keyboard.press("Enter")
    visitor.get_by_text("This API key is not known").wait_for()
    visitor.get_by_label("API key").fill("archivist")
    visitor.keyboard.press("Enter")
    visitor.get_by_text("Smith, Jane").wait_for()
    visitor.get_by_text("You are archivist").wait_for()
    assert visitor.get_by_role("button", name="Log out").count() == 0
    assert visitor.get_by_role("button", name="Emergency access").count() == 0
    visitor.get_by_role("button", name="Forget API key").click()
    visitor.get_by_role("link", name="Log in").wait_for()


def test_who_may_share_makes_a_link_that_opens_by_its_pin_alone(visitor: Page, guarded: str) -> None:
    log_in(visitor, guarded, "ann")
    visitor.get_by_text("Smith, Jane").click()
    visitor.get_by_role("button", name="Share").focus()
    visitor.keyboard.press("Enter")
    dialog = visitor.get_by_role("dialog", name="Share this study")
    dialog.get_by_label("Days").fill("3")
    dialog.get_by_label("Openings").fill("5")
    dialog.get_by_label("PIN").fill(PIN)
    dialog.get_by_role("button", name="Make a link").click()
    link = dialog.get_by_label("The link").input_value()
    assert link.startswith(f"{guarded}/share/")
    dialog.get_by_role("button", name="Copy").click()
    dialog.get_by_role("status").get_by_text("Cop").wait_for()
    visitor.keyboard.press("Escape")
    until(visitor, lambda: visitor.get_by_role("dialog").count() == 0)
    (share,) = requests.get(f"{guarded}/shares", headers=ARCHIVIST, timeout=30).json()["shares"]
    assert (share["mostUses"], share["pin"], share["madeBy"]) == (5, True, "user ann")

    visitor.context.clear_cookies()
    visitor.goto(link)
    visitor.get_by_label("PIN").fill("9999")
    visitor.keyboard.press("Enter")
    visitor.get_by_role("alert").get_by_text("The PIN is not right").wait_for()
    visitor.get_by_label("PIN").fill(PIN)
    visitor.keyboard.press("Enter")
    visitor.get_by_text("1 study").wait_for()
    loaded(visitor, 2)
    visitor.get_by_text("Smith, Jane").click()
    until(visitor, lambda: visitor.evaluate("document.querySelector('img.frame')?.naturalWidth === 64"))
    for role, name in (("button", "Share"), ("button", "Log out"), ("link", "Log in"), ("button", "Emergency")):
        assert visitor.get_by_role(role, name=name).count() == 0  # type: ignore[arg-type]
    requests.delete(f"{guarded}/shares/{share['id']}", headers=ARCHIVIST, timeout=30)


def test_a_wish_that_will_not_do_is_told_in_the_dialog(visitor: Page, guarded: str) -> None:
    log_in(visitor, guarded, "ann")
    visitor.get_by_text("Smith, Jane").click()
    visitor.get_by_role("button", name="Share").click()
    visitor.get_by_role("spinbutton", name="Days").fill("500")
    visitor.get_by_role("button", name="Make a link").click()
    assert visitor.evaluate("document.querySelector('#share-days').validity.rangeOverflow")
    visitor.get_by_role("spinbutton", name="Days").fill("3")
    visitor.context.clear_cookies()
    visitor.get_by_role("button", name="Make a link").click()
    visitor.get_by_role("alert").wait_for()
    visitor.get_by_role("button", name="Cancel").click()
    until(visitor, lambda: visitor.get_by_role("dialog").count() == 0)


def test_who_may_break_the_glass_does_it_with_a_reason(visitor: Page, guarded: str) -> None:
    log_in(visitor, guarded, "ann")
    visitor.get_by_text("1 study").wait_for()
    visitor.get_by_role("button", name="Emergency access").click()
    visitor.get_by_label("Reason").fill("unconscious, no history")
    visitor.get_by_role("button", name="Break the glass").click()
    visitor.get_by_text("2 studies").wait_for()
    visitor.get_by_role("button", name="End emergency access").click()
    visitor.get_by_text("1 study").wait_for()


def test_who_may_only_look_is_offered_nothing_more(visitor: Page, guarded: str) -> None:
    log_in(visitor, guarded, "bob")
    visitor.get_by_text("Smith, Jane").click()
    until(visitor, lambda: visitor.evaluate("document.querySelector('img.frame')?.naturalWidth === 64"))
    assert visitor.get_by_role("button", name="Share").count() == 0
    assert visitor.get_by_role("button", name="Emergency").count() == 0
