"""OHIF in a browser, on the sample studies of a running gateway: what a radiologist would do with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import requests
from playwright.sync_api import BrowserContext, Page, Response, sync_playwright

from tests.engines import Engines
from tests.instances import data_set, part10_file
from tests.interop.ohif import (
    ARCHIVIST,
    ARGUMENTS,
    DIST,
    NO_TOUR,
    PANE,
    WAIT_S,
    Viewer,
    pixels,
    policy_file,
    shows_picture,
    until,
)
from tests.programs import in_ci, need_program
from tests.serving import Gateway

pytestmark = [
    pytest.mark.dealt("s3+postgres"),
    need_program("chromium", "chromium"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.timeout(600),
]

SAMPLES = Path(__file__).parents[2] / "sample_dicom" / "studies"
_PLACE = "[data-cy='viewport-overlay-bottom-right']"


def pdf(text: str) -> bytes:
    """A page with a line of text, long enough to stand behind a BulkDataURI."""
    content = f"BT /F 24 Tf 20 100 Td ({text}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>",
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, places = "%PDF-1.4\n%" + "-" * 2000 + "\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj{each}endobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 6\n0000000000 65535 f \n{table}trailer<</Size 6/Root 1 0 R>>\nstartxref\n{len(body)}\n%%EOF"
    return (body + end + "\n" * ((len(body) + len(end)) % 2)).encode()


def document() -> Any:
    """An Encapsulated PDF instance in a study of its own."""
    no_image = dict.fromkeys(
        (
            "PixelData", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
            "PixelRepresentation", "PhotometricInterpretation",
        )
    )  # fmt: skip
    return data_set(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", PatientName="Letter^Paper", PatientID="PDF-1",
        SeriesDescription="Letter", StudyDescription="Letters", DocumentTitle="Letter",
        MIMETypeOfEncapsulatedDocument="application/pdf", EncapsulatedDocument=pdf("A letter"), **no_image,
    )  # fmt: skip


class Site:
    """A gateway with the samples, and the viewer beside it."""

    def __init__(self, folder: Path, engines: Engines, face_workers: dict[str, str]) -> None:
        self.viewer = Viewer()
        origins = json.dumps([self.viewer.url])
        views = json.dumps({"research": {"key": "ab" * 32}})
        environment = {"GATEWAY_HTTP__CORS_ORIGINS": origins, "GATEWAY_VIEWS": views, **face_workers}
        self.gateway = Gateway(folder / "data", folder / "gateway.log", engines, **environment)
        self.gateway.start()
        self.viewer.look_at(self.gateway.web)
        self.studies: dict[str, str] = {}
        for path in sorted(SAMPLES.rglob("*.dcm")):
            self._store(path.read_bytes())
        self._store(part10_file(document()))
        for study in requests.get(f"{self.gateway.web}/studies", timeout=30).json():
            self.studies[study["00081030"]["Value"][0]] = study["0020000D"]["Value"][0]

    def _store(self, body: bytes) -> None:
        headers = {"Content-Type": "application/dicom"}
        answer = requests.post(f"{self.gateway.web}/studies", data=body, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text

    def close(self) -> None:
        self.viewer.close()
        assert self.gateway.stop() == 0, self.gateway.log


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, engines: Engines, face_workers: dict[str, str]) -> Iterator[Site]:
    if not DIST.is_dir():
        (pytest.fail if in_ci() else pytest.skip)(f"needs @ohif/app in {DIST}: make test puts it there")
    found = Site(tmp_path_factory.mktemp("ohif"), engines, face_workers)
    yield found
    found.close()


class GuardedSite:
    """A gateway where nobody on this machine has rights, a provider of others, and a study."""

    def __init__(self, folder: Path, issuer: str) -> None:
        self.viewer, self.issuer = Viewer(), issuer
        provider = {"issuer": issuer, "audience": "gateway", "roles_claim": "realm_access.roles", "login": True}
        environment = {
            "GATEWAY_HTTP__CORS_ORIGINS": json.dumps([self.viewer.url]),
            "GATEWAY_ACCESS__POLICY_FILE": policy_file(folder),
            "GATEWAY_ACCESS__ISSUERS": json.dumps([{**provider, "client_id": "pages"}]),
        }
        self.gateway = Gateway(folder / "data", folder / "gateway.log", **environment)
        self.gateway.start()
        for path in (SAMPLES / "echo").rglob("*.dcm"):
            headers = {"Content-Type": "application/dicom", **ARCHIVIST}
            url = f"{self.gateway.web}/studies"
            assert requests.post(url, data=path.read_bytes(), headers=headers, timeout=30).status_code == 200
        (study,) = requests.get(f"{self.gateway.web}/studies", headers=ARCHIVIST, timeout=30).json()
        self.study: str = study["0020000D"]["Value"][0]

    def close(self) -> None:
        self.viewer.close()
        assert self.gateway.stop() == 0, self.gateway.log


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, javascript_provider: tuple[str, IO[str], IO[str]]
) -> Iterator[GuardedSite]:
    """On the embedded engines: who asks is found out before any other is asked."""
    if not DIST.is_dir():
        (pytest.fail if in_ci() else pytest.skip)(f"needs @ohif/app in {DIST}: make test puts it there")
    found = GuardedSite(tmp_path_factory.mktemp("guarded"), javascript_provider[0])
    yield found
    found.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """One browser for all tests, so that what it has loaded and compiled of the viewer stays."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        context = chromium.new_context(viewport={"width": 1400, "height": 900})
        context.set_default_timeout(WAIT_S * 1000)
        context.add_init_script(NO_TOUR)
        yield context
        chromium.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A page that fails the test when the gateway refuses something, or the page itself fails."""
    wrong: list[str] = []

    def note(response: Response) -> None:
        if response.status >= 400:
            wrong.append(f"{response.status} {response.request.method} {response.url}")

    page = browser.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", note)
    yield page
    page.close()
    assert wrong == []


def open_study(page: Page, site: Site, description: str) -> None:
    page.goto(f"{site.viewer.url}/viewer?StudyInstanceUIDs={site.studies[description]}")
    page.wait_for_selector(PANE)


def open_series(page: Page, description: str) -> None:
    page.get_by_text(description, exact=True).first.dblclick()


def scroll(page: Page, steps: int) -> None:
    box = page.locator(PANE).first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for _ in range(steps):
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(30)


def test_the_study_list_is_shown_and_filtered(page: Page, site: Site) -> None:
    page.goto(f"{site.viewer.url}/")
    until(page, lambda: "1-5 of 5" in page.inner_text("body"), "five studies are listed")
    assert "Łukasiewicz, Ünal" in page.inner_text("body")
    page.locator("input").first.fill("Müller")
    until(page, lambda: "1-2 of 2" in page.inner_text("body"), "two studies of the patient are listed")
    assert "CT head with contrast" in page.inner_text("body")


def test_a_ct_series_is_read_and_reformatted(page: Page, site: Site) -> None:
    open_study(page, site, "CT head with contrast")
    until(page, lambda: shows_picture(page), "the first series is shown")
    open_series(page, "Head axial 3 mm")
    until(page, lambda: "/52" in page.inner_text(_PLACE), "the axial series is open")
    scroll(page, 25)
    until(page, lambda: shows_picture(page), "a slice of the middle is shown")
    page.click("[data-cy='Layout']")
    page.get_by_text("MPR", exact=True).first.click()
    until(page, lambda: page.locator(PANE).count() == 3, "three planes are laid out")
    for pane in range(3):
        until(page, lambda pane=pane: shows_picture(page, pane), f"plane {pane} is shown")


def test_an_mr_series_is_read(page: Page, site: Site) -> None:
    open_study(page, site, "MR head")
    until(page, lambda: re.search(r"/\s*\d\d\)", page.inner_text(_PLACE)), "the series is open")
    scroll(page, 12)
    until(page, lambda: shows_picture(page), "a slice is shown")


def test_an_ultrasound_loop_plays(page: Page, site: Site) -> None:
    open_study(page, site, "Echocardiogram")
    until(page, lambda: shows_picture(page), "a frame is shown")
    page.click("[data-cy='cine-player-play-pause']")
    places: set[str] = set()
    until(page, lambda: places.add(page.inner_text(_PLACE)) or len(places) > 4, "the loop goes on")


def test_a_segmentation_lies_over_its_series(page: Page, site: Site) -> None:
    open_study(page, site, "CT head with contrast")
    open_series(page, "Lesion")
    page.get_by_role("button", name="Yes").click()

    def is_red() -> bool:
        seen = pixels(page).astype(int)
        return bool(((seen[..., 0] > seen[..., 1] + 50) & (seen[..., 0] > seen[..., 2] + 50)).sum() > 200)

    until(page, is_red, "the segment is coloured")


def test_a_report_is_read(page: Page, site: Site) -> None:
    open_study(page, site, "CT head with contrast")
    open_series(page, "Report")
    until(page, lambda: "Ring-enhancing lesion" in page.inner_text("body"), "the report's text is shown")


def test_a_pdf_is_shown(page: Page, site: Site) -> None:
    seen: list[str] = []
    page.on("response", lambda response: seen.append(response.headers.get("content-type", "")))
    open_study(page, site, "Letters")
    until(page, lambda: page.locator("object[type='application/pdf']").count(), "the document is embedded")
    source = page.locator("object[type='application/pdf']").get_attribute("data")
    body = page.evaluate("async (source) => (await (await fetch(source)).text()).slice(0, 8)", source)
    assert body == "%PDF-1.4"


def test_a_study_is_read_through_a_de_identified_view_in_pseudonyms_only(page: Page, site: Site) -> None:
    """The patient's name is in every instance, in a private attribute and in the report."""
    root = site.gateway.web.removesuffix("/dicomweb") + "/views/research/dicomweb"
    asked = {"StudyDescription": "CT head with contrast"}

    def shown() -> Any:
        found = requests.get(f"{root}/studies", params=asked, timeout=30)
        return found.json() if found.status_code == 200 else None

    (study,) = until(page, shown, "the view has the study")
    uid, name = study["0020000D"]["Value"][0], study["00100010"]["Value"][0]["Alphabetic"].partition("^")[2]
    seen: list[Response] = []
    page.on("response", lambda response: seen.append(response) if "/dicomweb/" in response.url else None)
    site.viewer.look_at(root)
    try:
        page.goto(f"{site.viewer.url}/")
        until(page, lambda: name in page.inner_text("body"), "the list shows the pseudonym")
        assert "Müller" not in page.inner_text("body")
        page.goto(f"{site.viewer.url}/viewer?StudyInstanceUIDs={uid}")
        page.wait_for_selector(PANE)
        open_series(page, "Head axial 3 mm")
        until(page, lambda: "/52" in page.inner_text(_PLACE), "the axial series is open")
        scroll(page, 25)
        until(page, lambda: shows_picture(page), "a slice of the middle is shown")
        assert "Müller" not in page.inner_text("body")
    finally:
        site.viewer.look_at(site.gateway.web)
    assert any("/frames/" in each.url for each in seen)
    assert all(each.url.startswith(root) for each in seen)
    original = site.studies["CT head with contrast"].encode()
    for url in dict.fromkeys(each.url for each in seen):
        body = requests.get(url, headers={"Accept": "*/*"}, timeout=30).content
        assert original not in body, url
        assert "Müller".encode() not in body, url


def test_a_measurement_is_stored_as_a_structured_report(page: Page, site: Site) -> None:
    open_study(page, site, "CT head with contrast")
    until(page, lambda: shows_picture(page), "the first series is shown")
    page.click("[data-cy='MeasurementTools-split-button-primary']")
    box = page.locator(PANE).first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 100, y)
    page.mouse.down()
    page.mouse.move(x, y - 20, steps=5)
    page.mouse.move(x + 90, y - 30, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Yes").click()
    page.click("[data-cy='trackedMeasurements-btn']")
    page.get_by_text("Create SR").click()
    page.get_by_role("button", name="Save").click()
    url = f"{site.gateway.web}/studies/{site.studies['CT head with contrast']}/series"

    def stored() -> list[Any]:
        found: list[Any] = requests.get(url, params={"Modality": "SR"}, timeout=30).json()
        return [each for each in found if each["0008103E"]["Value"] != ["Report"]]

    (series,) = until(page, stored, "a second series of reports is there")
    metadata = requests.get(f"{series['00081190']['Value'][0]}/metadata", timeout=30).json()
    assert '"Length"' in json.dumps(metadata)


def test_who_logs_in_to_the_viewer_reads_with_bearer_tokens(page: Page, guarded: GuardedSite) -> None:
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request) if "/dicomweb/" in request.url else None)
    guarded.viewer.look_at(guarded.gateway.web, guarded.issuer)
    page.goto(f"{guarded.viewer.url}/viewer?StudyInstanceUIDs={guarded.study}")
    until(page, lambda: page.locator(PANE).count() and shows_picture(page), "a frame is shown after the login")
    sent = [(each.url, each.all_headers().get("authorization", "")) for each in asked if each.method == "GET"]
    assert any("/frames/" in url for url, _ in sent)
    assert all(shown.startswith("Bearer ey") for _, shown in sent), sent
    for url in dict.fromkeys(url for url, _ in sent):
        assert requests.get(url, timeout=30).status_code == 401, "without a token nobody is let in"
    url, shown = sent[-1]
    assert requests.get(url, headers={"Authorization": shown}, timeout=30).status_code == 200
    assert requests.get(url, headers={"Authorization": shown[:-8]}, timeout=30).status_code == 401
    assert '"principal":"johndoe"' in guarded.gateway.audit().replace(" ", "")


def test_a_shared_study_is_read_without_logging_in(page: Page, guarded: GuardedSite) -> None:
    root = guarded.gateway.web.removesuffix("/dicomweb")
    wanted = {"studies": [guarded.study], "days": 1}
    made = requests.post(f"{root}/shares", json=wanted, headers=ARCHIVIST, timeout=30).json()
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request) if "/dicomweb/" in request.url else None)
    guarded.viewer.look_at(f"{made['url']}dicomweb")
    page.goto(f"{guarded.viewer.url}/viewer?StudyInstanceUIDs={guarded.study}")
    until(page, lambda: page.locator(PANE).count() and shows_picture(page), "a frame is shown")
    assert any("/frames/" in each.url for each in asked)
    assert all(each.url.startswith(made["url"]) for each in asked)
    assert not any("authorization" in each.all_headers() for each in asked)
    assert f'"principal":"share {made["id"]}"' in guarded.gateway.audit().replace('": "', '":"')


def test_somebody_logs_in_to_the_pages_with_a_provider_of_others(guarded: GuardedSite) -> None:
    root = guarded.gateway.web.removesuffix("/dicomweb")
    with requests.Session() as browser:
        page = browser.get(f"{root}/login/0", params={"to": "#/"}, timeout=30)
        assert page.status_code == 200, page.text
        assert page.url.split("#")[0] == f"{root}/"
        told = browser.get(f"{root}/session", timeout=30).json()
        assert (told["principal"], told["kind"], told["roles"]) == ("johndoe", "oidc", ["viewer"])
        assert browser.post(f"{root}/logout", headers={"X-CSRF-Token": told["csrf"]}, timeout=30).status_code == 204
        assert browser.get(f"{root}/session", timeout=30).status_code == 401
