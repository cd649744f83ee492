"""No page of the console has a fault that axe-core finds, in light and in dark, for anybody who comes there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page

from tests.gateway.console.guarded import as_
from tests.gateway.console.test_reading import Open, browser, gateway, open_as
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
_COLOURS = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""What is looked for in each: in the dark everything but the colours is as it was in the light."""


def faults(page: Page) -> Iterator[str]:
    """What axe-core finds."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for colours, only in _COLOURS.items():
        page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
        yield from (f"{colours}: {each}" for each in page.evaluate(_RUN, only))


def ready(page: Page) -> None:
    """Wait until a page has its heading and nothing is loading any more."""
    page.locator("main h1").first.wait_for(state="attached")
    page.locator("main").get_by_text("Loading").wait_for(state="detached")


@pytest.mark.parametrize("name", ["administrator", "radiologist", "technologist", "researcher"])
def test_every_page_that_somebody_may_go_to_is_accessible(gateway: Gateway, open_as: Open, name: str) -> None:
    page = open_as(name)
    ready(page)
    found = {"first": [*faults(page)]}
    for link in page.locator("#places a:visible").all():
        title = link.inner_text()
        link.click()
        page.get_by_role("heading", name=title).or_(page.locator("a.study").first).first.wait_for()
        ready(page)
        found[title] = [*faults(page)]
    if name != "technologist":
        page.goto(page.url.partition("#")[0] + "#/")
        page.locator("a.study").first.click()
        page.locator("img.frame").wait_for()
        found["study"] = [*faults(page)]
        # Other people's dialogs are the same, or fewer.
        for button in page.locator(".actions button").all() if name == "administrator" else ():
            what = button.inner_text()
            button.click()
            page.get_by_role("dialog").wait_for()
            found[what] = [*faults(page)]
            page.keyboard.press("Escape")
            page.get_by_role("dialog").wait_for(state="detached")
    assert not any(found.values()), "\n".join(f"{place}: {each}" for place, faulty in found.items() for each in faulty)
    assert len(found) == {"administrator": 14, "radiologist": 5, "technologist": 1, "researcher": 2}[name], [*found]


def test_the_pages_of_who_is_nobody_yet_are_accessible(gateway: Gateway, open_as: Open) -> None:
    found = {}
    for place in ("", "login"):
        page = open_as("", place)
        page.locator("h1").wait_for()
        found[place] = [*faults(page)]
    (study, *_) = requests.get(f"{gateway.web}/studies", headers=as_("administrator"), timeout=30).json()
    wanted = {"studies": study["0020000D"]["Value"], "pin": "2468"}
    made = requests.post(
        gateway.web.replace("dicomweb", "shares"), json=wanted, headers=as_("administrator"), timeout=30
    )
    page = open_as("", made.json()["url"].partition("/share/")[2], f"{gateway.web.replace('/dicomweb', '')}/share")
    found["PIN"] = [*faults(page)]
    page.get_by_label("PIN").fill("2468")
    page.keyboard.press("Enter")
    page.locator("a.study").wait_for()
    found["link"] = [*faults(page)]
    assert not any(found.values()), "\n".join(f"{place}: {each}" for place, faulty in found.items() for each in faulty)
