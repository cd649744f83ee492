"""The administrators' pages in a real browser, as somebody who sees them and as somebody who does not."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import threading
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Page, TimeoutError, sync_playwright
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.faulty_proxy import Fault, FaultyProxy
from tests.instances import data_set, part10_file
from tests.ports import free_port
from tests.programs import need_program
from tests.serving import Gateway

pytestmark = [need_program("chromium", "chromium"), pytest.mark.xdist_group("browser")]

_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROLES = {"boss": "administrator", "ann": "radiologist"}
BOSS = {"Authorization": "Bearer boss"}
POLICY = "\n".join(
    f'[[principal]]\nname = "{name}"\nkind = "api_key"\nroles = ["{role}"]\n'
    f'api_key_sha256 = "{hashlib.sha256(name.encode()).hexdigest()}"'
    for name, role in ROLES.items()
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("administration")
    (folder / "policy.toml").write_text(POLICY)
    peer = AE(ae_title="PACS")
    peer.add_supported_context("1.2.840.10008.1.1")
    listening = peer.start_server(("127.0.0.1", 0), block=False)
    places = {"PACS": listening.socket.getsockname()[1], "GONE": free_port()}
    (folder / "gateway.toml").write_text(
        f'[access]\npolicy_file = "{folder / "policy.toml"}"\n'
        + "".join(f'[dimse.destinations.{title}]\nhost = "127.0.0.1"\nport = {places[title]}\n' for title in places)
    )
    more = {"GATEWAY_METRICS__PORT": str(free_port())}
    gateway = Gateway(folder / "data", folder / "gateway.log", settings_file=folder / "gateway.toml", **more)
    gateway.start()
    yield gateway
    gateway.stop()
    listening.shutdown()


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a fresh browser; it fails the test on errors other than what a browser says of a refusal."""
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    assert [each for each in errors if "status of 401" not in each and "status of 409" not in each] == []


def store(gateway: Gateway, found: Dataset, status: int) -> None:
    headers = {"Content-Type": "application/dicom", **BOSS}
    answer = requests.post(f"{gateway.web}/studies", part10_file(found), headers=headers, timeout=30)
    assert answer.status_code == status, answer.text


def root_of(gateway: Gateway) -> str:
    return gateway.web.removesuffix("/dicomweb")


def come_in(page: Page, root: str, name: str, where: str = "") -> None:
    page.goto(f"{root}/#/{where}")
    page.get_by_label("API key").fill(name)
    page.get_by_role("button", name="Continue").click()
    page.get_by_text(f"You are {name}").wait_for()


def go(page: Page, title: str) -> None:
    """Follow the navigation to a page, whose heading has the focus then, and whose place is marked."""
    page.get_by_role("navigation").get_by_role("link", name=title).click()
    page.get_by_role("heading", name=title, level=1).wait_for()
    assert page.evaluate("document.activeElement.textContent") == title
    assert page.locator("nav [aria-current=page]").text_content() == title
    assert page.title() == f"{title} – Imaging Gateway"


def test_a_reader_sees_no_page_of_administrators(page: Page, gateway: Gateway) -> None:
    come_in(page, root_of(gateway), "ann")
    places = page.get_by_role("navigation").get_by_role("link")
    places.first.wait_for()
    assert places.all_inner_texts() == ["Studies", "Upload", "Shares"]
    for path in ("activity", "peers", "quarantine", "audit", "policy"):
        page.goto(f"{root_of(gateway)}/#/{path}")
        page.get_by_text("This page is not for you").wait_for()
        page.goto(f"{root_of(gateway)}/#/")
        page.get_by_text("This page is not for you").wait_for(state="detached")


def test_an_administrator_asks_why_somebody_may_do_something(page: Page, gateway: Gateway) -> None:
    come_in(page, root_of(gateway), "boss")
    go(page, "Policy")
    page.get_by_label("Of the name").fill("ann")
    page.get_by_label("May do what").select_option("delete")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("ann may not delete").wait_for()
    page.get_by_label("May do what").select_option("read")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("ann may read, by").wait_for()
    assert page.get_by_role("table", name="Rules").get_by_role("row").count() > 1
    page.get_by_role("navigation").get_by_role("link", name="Studies").click()
    page.get_by_role("searchbox").wait_for()
    assert page.title() == "Imaging Gateway"


def test_an_administrator_asks_a_peer_whether_it_is_there(page: Page, gateway: Gateway) -> None:
    come_in(page, root_of(gateway), "boss")
    go(page, "Peers")
    page.get_by_role("button", name="Verify PACS by C-ECHO").click()
    page.get_by_text("association in").wait_for()
    page.get_by_role("button", name="Verify GONE by C-ECHO").click()
    page.get_by_role("row").filter(has_text="GONE").get_by_text("no answer").wait_for()
    page.get_by_role("button", name="Refresh").click()
    page.get_by_role("row").filter(has_text="PACS").locator("time").wait_for()


def test_an_administrator_sees_what_the_gateway_does(page: Page, gateway: Gateway) -> None:
    come_in(page, root_of(gateway), "boss")
    go(page, "Activity")
    page.get_by_text("dimse workers ready").wait_for()
    assert page.get_by_role("table", name="Under way").get_by_role("row").count() > 5
    page.get_by_role("button", name="Refresh").click()
    answered = page.get_by_role("table", name="Done since").get_by_role("row").filter(has_text="answered 200")
    answered.filter(has_text="+").wait_for()


def test_a_page_that_is_left_while_its_answer_still_comes_takes_nothing_from_the_next(
    page: Page, gateway: Gateway
) -> None:
    held = threading.Event()
    proxy = FaultyProxy(root_of(gateway))
    try:
        proxy.fail(Fault(rest_until=held), when=lambda each: each.target == "/admin/activity")
        with page.expect_response("**/admin/activity"):
            come_in(page, proxy.url, "boss", "activity")
        go(page, "Policy")
        page.get_by_label("Of the name").wait_for()
    finally:
        held.set()
        proxy.stop()


def test_an_administrator_sees_the_last_associations(page: Page, gateway: Gateway) -> None:
    peer = AE(ae_title="CT1")
    peer.add_requested_context("1.2.840.10008.1.1")
    peer.add_requested_context("1.2.840.10008.3.1.2.3.3")
    assert peer.associate("127.0.0.1", gateway.dimse_port, ae_title="GATEWAY").is_rejected, "the policy has no CT1"
    come_in(page, root_of(gateway), "boss")
    go(page, "Activity")
    row = page.get_by_role("table", name="Last associations").get_by_role("row").filter(has_text="CT1")
    for _ in range(60):
        page.get_by_role("button", name="Refresh").click()
        with contextlib.suppress(TimeoutError):
            row.wait_for(timeout=1000)
            break
    row.get_by_text("rejected").wait_for()
    row.get_by_text("calling AE title not recognised").wait_for()


def test_an_administrator_compares_releases_and_discards_what_is_in_quarantine(page: Page, gateway: Gateway) -> None:
    first = data_set(PatientID="P-1", PatientName="Right^Ann")
    store(gateway, first, 200)
    for patient in ("P-2", "P-3"):
        store(gateway, data_set(PatientID=patient, PatientName="Wrong^Bob", SOPInstanceUID=first.SOPInstanceUID), 409)
    come_in(page, root_of(gateway), "boss")
    go(page, "Quarantine")
    page.get_by_text("2 instances in quarantine.").wait_for()
    page.get_by_role("button", name="Compare").first.click()
    row = page.get_by_role("dialog").get_by_role("row").filter(has_text="PatientName")
    row.get_by_text("differs").wait_for()
    assert row.get_by_role("cell").all_text_contents() == ["Wrong^Bob", "Right^Ann", "differs"]
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Release").first.click()
    page.get_by_role("button", name="Release", exact=True).click()
    page.get_by_role("alert").get_by_text("it stays in quarantine").wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Discard").last.click()
    page.get_by_role("button", name="Discard for good").click()
    page.get_by_text("Discarded. 1 instance in quarantine.").wait_for()
    assert page.evaluate("document.activeElement.textContent").startswith("Discarded.")
    answer = requests.delete(f"{gateway.web}/studies/{first.StudyInstanceUID}", headers=BOSS, timeout=30)
    assert answer.status_code == 204
    page.get_by_role("button", name="Release").click()
    page.get_by_role("button", name="Release", exact=True).click()
    page.get_by_text("Released: stored. Nothing is in quarantine.").wait_for()


def test_who_may_read_the_trail_searches_it_and_sees_that_it_is_whole(page: Page, gateway: Gateway) -> None:
    come_in(page, root_of(gateway), "boss")
    go(page, "Audit")
    page.get_by_text("as it was recorded").wait_for()
    page.get_by_label("Who").fill("boss")
    page.get_by_label("Did what").fill("audit_read")
    page.get_by_role("button", name="Search").click()
    rows = page.get_by_role("table", name="Records").get_by_role("row")
    rows.filter(has_text="principal=boss").first.wait_for()
    assert {each.split()[0] for each in rows.locator("[data-label=Who]").all_inner_texts()} == {"boss"}
    page.get_by_label("Days to verify").select_option("7 days")
    with page.expect_response("**/admin/audit/verification?days=7"):
        page.get_by_role("button", name="Verify").click()
    page.get_by_text("as it was recorded").wait_for()
    page.get_by_label("Study Instance UID").fill("1.2.3")
    page.get_by_role("button", name="Search").click()
    page.get_by_text("0 records", exact=True).wait_for()


def test_what_an_earlier_search_of_the_trail_finds_late_is_not_shown(page: Page, gateway: Gateway) -> None:
    requests.get(f"{gateway.web}/studies", headers={"Authorization": "Bearer ann"}, timeout=30)
    held = threading.Event()
    proxy = FaultyProxy(root_of(gateway))
    try:
        proxy.fail(Fault(until=held), when=lambda each: each.target.partition("?")[0] == "/admin/audit")
        come_in(page, proxy.url, "boss", "audit")
        page.get_by_label("Who").fill("ann")
        page.get_by_role("button", name="Search").click()
        rows = page.get_by_role("table", name="Records").get_by_role("row")
        rows.filter(has_text="ann").first.wait_for()
        shown = rows.count()
        with page.expect_response("**/admin/audit") as late:
            held.set()
        late.value.finished()
        page.get_by_role("button", name="Verify").click()
        page.get_by_role("button", name="Verify", disabled=False).wait_for()
        assert (rows.count(), rows.filter(has_text="boss").count()) == (shown, 0)
    finally:
        held.set()
        proxy.stop()
