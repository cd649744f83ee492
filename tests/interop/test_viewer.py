"""OHIF as the gateway serves it: from the console, with its key; within a view; within a share link."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, sync_playwright

from gateway.viewer import release
from tests.interop.ohif import ARCHIVIST, ARGUMENTS, DIST, NO_TOUR, PANE, WAIT_S, policy_file, shows_picture, until
from tests.programs import in_ci, need_program
from tests.serving import Gateway

pytestmark = [
    need_program("chromium", "chromium"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(600),
]

SAMPLES = Path(__file__).parents[2] / "sample_dicom" / "studies"


def command(directory: Path, *arguments: str) -> dict[str, Any]:
    """What a command of the viewer reports."""
    run = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "viewer", *arguments, "--json"],
        env={"GATEWAY_VIEWER__DIRECTORY": str(directory), "PATH": ""},
        check=True,
        capture_output=True,
        timeout=300,
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


class Site:
    """A gateway below a prefix that asks who somebody is, with the viewer installed by its command."""

    def __init__(self, folder: Path, package: Path) -> None:
        viewer = folder / "viewer"
        report = command(viewer, "install", "--from", str(package))
        assert (report["version"], report["integrity"]) == (release.VERSION, release.INTEGRITY)
        assert command(viewer, "status")["installed"]["version"] == release.VERSION
        self.gateway = Gateway(
            folder / "data",
            folder / "gateway.log",
            GATEWAY_HTTP__PATH_PREFIX="/imaging",
            GATEWAY_VIEWER__DIRECTORY=str(viewer),
            GATEWAY_ACCESS__POLICY_FILE=policy_file(folder),
            GATEWAY_VIEWS=json.dumps({"research": {"key": "ab" * 32}}),
        )
        self.gateway.start()
        self.url = f"http://127.0.0.1:{self.gateway.http_port}/imaging"
        for path in (each for name in ("echo", "chest") for each in sorted((SAMPLES / name).rglob("*.dcm"))):
            headers = {"Content-Type": "application/dicom", **ARCHIVIST}
            answer = requests.post(f"{self.url}/dicomweb/studies", path.read_bytes(), headers=headers, timeout=30)
            assert answer.status_code == 200, answer.text
        (self.study,) = self.studies("", "Echocardiogram")

    def studies(self, within: str, description: str) -> list[str]:
        """The studies of a service root that have a description."""
        asked = {"StudyDescription": description}
        answer = requests.get(f"{self.url}{within}/dicomweb/studies", asked, headers=ARCHIVIST, timeout=30)
        return [each["0020000D"]["Value"][0] for each in answer.json()] if answer.status_code == 200 else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    package = next(DIST.parents[1].glob("ohif-app-*.tgz"), None)
    if package is None:
        (pytest.fail if in_ci() else pytest.skip)(f"needs the package of @ohif/app in {DIST.parents[1]}: make test")
    found = Site(tmp_path_factory.mktemp("viewer"), package)
    yield found
    assert found.gateway.stop() == 0, found.gateway.log


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The first page of a person's own browser, all of whose pages have to do without an error."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(WAIT_S * 1000)
    # A tab is blank before it is the viewer's.
    context.add_init_script(f"if (location.protocol !== 'about:') {{ {NO_TOUR} }}")
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    context.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield context.new_page()
    context.close()
    # Before the key is shown nobody is known, which is how the console learns that it has to ask.
    assert [each for each in wrong if "401 (Unauthorized)" not in each] == []


def test_the_console_opens_a_study_in_the_viewer_with_the_key_of_its_tab(page: Page, site: Site) -> None:
    page.goto(f"{site.url}/")
    page.fill("#api-key", "archivist")
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Echocardiogram").click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open in OHIF").click()
    viewer = opened.value
    viewer.wait_for_selector(PANE)
    until(viewer, lambda: shows_picture(viewer), "a picture is shown")
    assert viewer.url == f"{site.url}/ohif/viewer?StudyInstanceUIDs={site.study}"
    # What its workers decode is shared with them rather than copied.
    assert viewer.evaluate("crossOriginIsolated")


def test_a_view_has_a_viewer_of_its_own(page: Page, site: Site) -> None:
    (uid,) = until(page, lambda: site.studies("/views/research", "Chest PA"), "the view has the study")
    page.goto(f"{site.url}/")
    # A console that asks who somebody is forgets the key that was shown before.
    page.wait_for_selector("#api-key")
    page.evaluate("sessionStorage.setItem('gateway.api-key', 'archivist')")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/dicomweb/" in request.url else None)
    page.goto(f"{site.url}/views/research/ohif/viewer?StudyInstanceUIDs={uid}")
    page.wait_for_selector(PANE)
    until(page, lambda: any(f"/{uid}/" in url for url in asked), "the study is asked for")
    until(page, lambda: "Chest PA" in page.inner_text("body"), "the study is shown")
    assert all(url.startswith(f"{site.url}/views/research/dicomweb/") for url in asked)


def test_a_share_link_has_a_viewer_of_its_own(page: Page, site: Site) -> None:
    made = requests.post(f"{site.url}/shares", json={"studies": [site.study]}, headers=ARCHIVIST, timeout=30)
    link = made.json()["url"]
    page.goto(link)
    page.get_by_text("Echocardiogram").click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Open in OHIF").click()
    viewer = opened.value
    viewer.wait_for_selector(PANE)
    until(viewer, lambda: shows_picture(viewer), "a picture is shown")
    assert viewer.url == f"{link}ohif/viewer?StudyInstanceUIDs={site.study}"


def test_who_is_not_known_any_more_is_led_to_the_console(browser: Browser, site: Site) -> None:
    context = browser.new_context()
    context.set_default_timeout(WAIT_S * 1000)
    page = context.new_page()
    page.goto(f"{site.url}/ohif/viewer?StudyInstanceUIDs={site.study}")
    page.wait_for_url(f"{site.url}/")
    page.wait_for_selector("#api-key")
    context.close()
