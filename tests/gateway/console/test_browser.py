"""The console in a real browser, against running processes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import requests
from playwright.sync_api import Page, sync_playwright

from tests.instances import data_set, part10_file
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [need_program("chromium", "chromium"), pytest.mark.xdist_group("browser")]

_ARGUMENTS = [
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


@pytest.fixture
def page(gateway: Gateway) -> Iterator[Page]:
    """A page that fails the test when the browser reports an error."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
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
