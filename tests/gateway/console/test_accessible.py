"""No page of the console has a fault for anybody who comes there: at a desk and on a phone, in light and in dark.

``pytest tests/gateway/console/test_accessible.py --screenshots DIR`` keeps a picture of each.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect
from pynetdicom import AE

from tests.gateway.console.guarded import as_
from tests.gateway.console.test_reading import Open, browser, gateway, open_as
from tests.instances import data_set, part10_file
from tests.programs import in_ci, need_program
from tests.serving import Gateway

__all__ = ["browser", "gateway", "open_as"]

AXE = Path(sys.prefix) / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    need_program("chromium", "chromium"),
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(not AXE.exists() and not in_ci(), reason=f"needs {AXE}: make test puts it there"),
]
_RUN = """async only => (await axe.run(document, { resultTypes: ["violations"], ...only })).violations.map(
  each => `${each.id}: ${each.help}: ${each.nodes.map(node => node.html).join(" | ")}`)"""
_WIDTHS = {"desk": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
_COLOURS = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""What is looked for in each: in the dark everything but the colours is as it was in the light."""
_TOO_WIDE = """() => {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  const wide = [...document.querySelectorAll("body *")]
    .filter(each => each.getBoundingClientRect().right > clientWidth + 1);
  const told = wide.slice(0, 3).map(each => each.outerHTML.slice(0, 200)).join(" | ");
  return [`${scrollWidth} px in a window of ${clientWidth}: ${told}`];
}"""


class Faults:
    """What is wrong with the pages that somebody sees, by the name of the page."""

    def __init__(self, who: str, pictures: Path | None) -> None:
        self.found: dict[str, list[str]] = {}
        self._who = who
        self._pictures = pictures

    def look(self, page: Page, name: str) -> None:
        """Look at a page as it is, in every width and colour."""
        self.found[name] = [*self._faults(page, name)]

    def _faults(self, page: Page, name: str) -> Iterator[str]:
        page.evaluate(AXE.read_text(encoding="utf-8"))
        for width, size in _WIDTHS.items():
            page.set_viewport_size(size)  # type: ignore[arg-type]
            yield from (f"{width}: {each}" for each in page.evaluate(_TOO_WIDE))
            for colours, only in _COLOURS.items():
                page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
                # The colours are of no width.
                if width == "desk" or colours == "light":
                    yield from (f"{width}, {colours}: {each}" for each in page.evaluate(_RUN, only))
                if self._pictures is not None:
                    file = f"{self._who}-{name.lower().replace(' ', '-')}-{width}-{colours}.png"
                    page.screenshot(path=self._pictures / file, full_page=True)
        page.set_viewport_size(_WIDTHS["desk"])  # type: ignore[arg-type]

    def none(self) -> None:
        """Fail where there is one."""
        told = [f"{name}: {each}" for name, faulty in self.found.items() for each in faulty]
        assert not told, "\n".join(told)


@pytest.fixture
def pictures(pytestconfig: pytest.Config) -> Path | None:
    """Where pictures are kept, if they are wanted."""
    folder: Path | None = pytestconfig.getoption("--screenshots")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def busy(gateway: Gateway) -> Gateway:
    """The gateway with something on every page: an association, something in quarantine, a link of each who shares."""
    peer = AE(ae_title="CT1")
    peer.add_requested_context("1.2.840.10008.1.1")
    assert peer.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY").is_rejected
    studies = requests.get(f"{gateway.web}/studies", headers=as_("administrator"), timeout=30).json()
    study = studies[0]["0020000D"]["Value"]
    found = requests.get(f"{gateway.web}/studies/{study[0]}/instances", headers=as_("administrator"), timeout=30).json()
    stolen = part10_file(
        data_set(PatientID="P-9", PatientName="Wrong^Bob", SOPInstanceUID=found[0]["00080018"]["Value"][0])
    )
    headers = {"Content-Type": "application/dicom", **as_("administrator")}
    assert requests.post(f"{gateway.web}/studies", stolen, headers=headers, timeout=30).status_code == 409
    for name in ("administrator", "radiologist"):
        share = requests.post(
            gateway.web.replace("dicomweb", "shares"), json={"studies": study}, headers=as_(name), timeout=30
        )
        assert share.status_code == 201
    return gateway


def ready(page: Page) -> None:
    """Wait until a page has its heading and nothing is loading any more."""
    page.locator("main h1").first.wait_for(state="attached")
    page.locator("main").get_by_text("Loading").wait_for(state="detached")
    page.locator("main img:not([src], .missing)").first.wait_for(state="detached")


@pytest.mark.parametrize("name", ["administrator", "radiologist", "technologist", "researcher"])
def test_every_page_that_somebody_may_go_to_is_without_fault(
    busy: Gateway, open_as: Open, name: str, pictures: Path | None
) -> None:
    page = open_as(name)
    ready(page)
    faults = Faults(name, pictures)
    faults.look(page, "first")
    for link in page.locator("#places a:visible").all():
        title = link.inner_text()
        link.click()
        page.get_by_role("heading", name=title).or_(page.locator("a.study").first).first.wait_for()
        ready(page)
        faults.look(page, title)
    if name != "technologist":
        page.goto(page.url.partition("#")[0] + "#/")
        page.locator("a.study").first.click()
        page.locator("img.frame").wait_for()
        faults.look(page, "study")
        # Other people's dialogs are the same, or fewer.
        for button in page.locator(".actions button").all() if name == "administrator" else ():
            what = button.inner_text()
            button.click()
            page.get_by_role("dialog").wait_for()
            faults.look(page, what)
            page.keyboard.press("Escape")
            page.get_by_role("dialog").wait_for(state="detached")
    faults.none()
    seen = [*faults.found]
    assert len(seen) == {"administrator": 14, "radiologist": 5, "technologist": 1, "researcher": 2}[name], seen


def test_the_pages_of_who_is_nobody_yet_are_without_fault(
    gateway: Gateway, open_as: Open, pictures: Path | None
) -> None:
    faults = Faults("nobody", pictures)
    for place in ("", "login"):
        page = open_as("", place)
        page.locator("h1").wait_for()
        faults.look(page, place or "first")
    (study, *_) = requests.get(f"{gateway.web}/studies", headers=as_("administrator"), timeout=30).json()
    wanted = {"studies": study["0020000D"]["Value"], "pin": "2468"}
    made = requests.post(
        gateway.web.replace("dicomweb", "shares"), json=wanted, headers=as_("administrator"), timeout=30
    )
    page = open_as("", made.json()["url"].partition("/share/")[2], f"{gateway.web.replace('/dicomweb', '')}/share")
    faults.look(page, "PIN")
    page.get_by_label("PIN").fill("2468")
    page.keyboard.press("Enter")
    page.locator("a.study").wait_for()
    faults.look(page, "link")
    faults.none()


def test_on_a_phone_the_place_where_one_is_stands_in_sight(gateway: Gateway, open_as: Open) -> None:
    page = open_as("administrator")
    page.set_viewport_size(_WIDTHS["phone"])  # type: ignore[arg-type]
    for title in ("Policy", "Studies", "Quarantine"):
        page.locator("#places").get_by_role("link", name=title).click()
        expect(page.locator("#places [aria-current]")).to_have_text(title)
        expect(page.locator("#places [aria-current]")).to_be_in_viewport(ratio=0.9)


def test_who_is_nobody_yet_is_not_offered_a_search(open_as: Open) -> None:
    page = open_as("")
    page.get_by_role("heading", name="The gateway asks who you are").wait_for()
    assert not page.get_by_role("searchbox").is_visible()
