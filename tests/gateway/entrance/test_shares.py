"""Share links: who makes them, what they open, and what they never do."""

from __future__ import annotations

import asyncio
import io
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset
from yarl import URL

from gateway.access import authentication, shares
from storage.control import base
from storage.control.base import change
from tests.clock import let_pass
from tests.gateway.entrance.conftest import Answer, Site, ct
from tests.instances import data_set, part10_file, uid

PIN = "2468"


def study_of(found: Dataset) -> str:
    return f"dicomweb/studies/{found.StudyInstanceUID}"


def instance_of(found: Dataset) -> str:
    return f"{study_of(found)}/series/{found.SeriesInstanceUID}/instances/{found.SOPInstanceUID}"


async def share(site: Site, *studies: Dataset, key: str = "radiologist", **wanted: Any) -> tuple[str, dict[str, Any]]:
    """A link to studies: its path, which ends with a slash, and what was told of it."""
    answer = await site.ask(
        "POST", "/shares", key, json={"studies": [each.StudyInstanceUID for each in studies], **wanted}
    )
    assert answer.status == 201, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    return "/share/" + answer.json["url"].partition("/share/")[2], answer.json


async def open_link(site: Site, link: str, **given: str) -> Answer:
    return await site.ask("POST", link, json=given)


def cookie_of(answer: Answer) -> str:
    assert answer.status in (200, 303), answer.body
    return f"gateway-share={answer.cookie('gateway-share').value}"


@pytest.fixture
async def study(site: Site) -> Dataset:
    found = ct(PatientName="Shared^Study")
    await site.store(found)
    return found


async def until_seen() -> None:
    """A revocation is seen within a second by whoever remembers the link."""
    await asyncio.sleep(1.05)


# Making


async def test_a_link_shows_its_study_and_no_other(site: Site, study: Dataset) -> None:
    other = ct(PatientName="Hidden^Study")
    await site.store(other)
    link, told = await share(site, study, label="for the clinic", days=2)
    assert told["madeBy"] == "api_key radiologist"
    assert told["state"] == "good"
    found = await site.ask("GET", f"{link}dicomweb/studies")
    assert [each["0020000D"]["Value"][0] for each in found.json] == [study.StudyInstanceUID]
    count = await site.ask("GET", f"{link}dicomweb/studies/count")
    assert count.json["count"] == 1
    for path in (study_of(study) + "/metadata", instance_of(study) + "/frames/1", instance_of(study) + "/rendered"):
        assert (await site.ask("GET", link + path)).status == 200, path
    answers = [
        await site.ask("GET", link + path)
        for each in (other, ct())
        for path in (study_of(each) + "/metadata", instance_of(each) + "/frames/1", instance_of(each) + "/rendered")
    ]
    assert {each.status for each in answers} == {404}
    assert len({each.detail for each in answers}) == 1


@pytest.mark.parametrize(
    ("wanted", "status", "words"),
    [
        ({"days": 0}, 400, "days"),
        ({"days": 400}, 400, "days"),
        ({"days": "7"}, 400, "days: Input should be a valid number"),
        ({"uses": 0}, 400, "uses"),
        ({"uses": True}, 400, "uses"),
        ({"uses": 1.5}, 400, "uses"),
        ({"pin": "12"}, 400, "pin"),
        ({"pin": 1234}, 400, "pin"),
        ({"pin": "a b c d"}, 400, "pin"),
        ({"label": "x" * 129}, 400, "label"),
        ({"label": "a\nb"}, 400, "label"),
        ({"actions": []}, 400, "actions"),
        ({"actions": ["store"]}, 400, "actions"),
        ({"actions": ["everything"]}, 400, "actions"),
        ({"studies": []}, 400, "studies"),
        ({"studies": "1.2"}, 400, "studies"),
        ({"studies": ["1.2/../3"]}, 400, "UID"),
        ({"studies": [f"1.2.{n}" for n in range(101)]}, 400, "studies"),
        ({"nonsense": 1}, 400, "nonsense: Extra inputs are not permitted"),
        ({f"n{n}": 1 for n in range(50)}, 400, "n0"),
        ({"n" * 4000: 1}, 400, "nnn"),
        ({"studies": [uid()]}, 404, "no such study"),
    ],
)
async def test_a_wish_that_will_not_do_is_refused_with_its_name(
    site: Site, study: Dataset, wanted: dict[str, Any], status: int, words: str
) -> None:
    answer = await site.ask("POST", "/shares", "radiologist", json={"studies": [study.StudyInstanceUID], **wanted})
    assert (answer.status, words in answer.detail) == (status, True), answer.body
    assert len(answer.body) < 1000
    assert (await site.ask("GET", "/shares", "boss")).json["shares"] == []


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"null", 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b'{"studies": ["1.2"], "label": "\\ud800"}', 400),
        ("application/json", b"[" * 100_000, 400),
        ("application/json", b'{"studies": ["1.2"], "days": NaN}', 400),
        ("application/json", b'{"studies": ["1.2"], "days": 1e999}', 400),
        ("application/json", b'{"label": "' + b"x" * (1 << 20) + b'"}', 413),
        ("application/x-www-form-urlencoded", b"studies=1.2", 400),
        ("application/x-www-form-urlencoded; charset=none", b"studies=1.2", 400),
        ("application/x-www-form-urlencoded", b"studies=\xff", 400),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * (1 << 20), 413),
        ("text/plain", b"{}", 415),
        ("", b"{}", 415),
    ],
)
async def test_a_body_that_is_none_is_refused(site: Site, content_type: str, body: bytes, status: int) -> None:
    answer = await site.ask("POST", "/shares", "boss", data=io.BytesIO(body), headers={"Content-Type": content_type})
    assert answer.status == status, answer.body
    assert answer.detail


async def test_only_who_may_share_makes_lists_and_revokes_links(site: Site, study: Dataset) -> None:
    link, told = await share(site, study)
    wanted = {"studies": [study.StudyInstanceUID]}
    for method, path in (("POST", "/shares"), ("GET", "/shares"), ("DELETE", f"/shares/{told['id']}")):
        assert (await site.ask(method, path, "viewer", json=wanted)).status == 403, method
        assert (await site.ask(method, path, json=wanted)).status == 401, method
    assert (await site.ask("GET", f"{link}dicomweb/studies")).status == 200
    assert site.outcomes("share").count("denied") == 3


async def test_links_are_listed_to_who_made_them_and_to_administrators_of_the_tenant(
    site: Site, study: Dataset
) -> None:
    _, first = await share(site, study)
    _, second = await share(site, study, key="colleague")
    seen = {
        key: [each["id"] for each in (await site.ask("GET", "/shares", key)).json["shares"]]
        for key in ("radiologist", "colleague", "boss", "elsewhere")
    }
    assert seen == {
        "radiologist": [first["id"]],
        "colleague": [second["id"]],
        "boss": [second["id"], first["id"]],
        "elsewhere": [],
    }
    for key in ("colleague", "elsewhere"):
        answer = await site.ask("DELETE", f"/shares/{first['id']}", key)
        assert (answer.status, answer.detail) == (404, "there is no such link")
    assert (await site.ask("DELETE", "/shares/%ff%00", "boss")).status == 404


async def test_a_link_gives_no_more_than_its_maker_had_when_it_was_made(site: Site) -> None:
    study = uid()
    inside, outside = data_set(StudyInstanceUID=study), data_set(StudyInstanceUID=study, Modality="MR")
    for each in (inside, outside):
        await site.store(each)
    link, _ = await share(site, inside, key="ct-only")
    later = data_set(StudyInstanceUID=study, Modality="SR")
    await site.store(later)
    series = await site.ask("GET", f"{link}{study_of(inside)}/series")
    assert [each["0020000E"]["Value"][0] for each in series.json] == [inside.SeriesInstanceUID]
    assert (await site.ask("GET", link + instance_of(inside) + "/metadata")).status == 200
    for each in (outside, later):
        assert (await site.ask("GET", link + instance_of(each) + "/metadata")).status == 404
    hidden = data_set(Modality="MR")
    await site.store(hidden)
    answer = await site.ask("POST", "/shares", "ct-only", json={"studies": [hidden.StudyInstanceUID]})
    assert (answer.status, answer.detail) == (404, "no such study")


@pytest.mark.parametrize(
    ("key", "actions", "status"),
    [
        ("pictures-only", ["search", "render"], 201),
        ("pictures-only", ["search", "read"], 403),
        ("no-download", ["search", "read"], 201),
        ("no-download", ["download"], 403),
        ("radiologist", ["download"], 201),
    ],
)
async def test_nobody_shares_an_action_that_it_does_not_have(
    site: Site, study: Dataset, key: str, actions: list[str], status: int
) -> None:
    wanted = {"studies": [study.StudyInstanceUID], "actions": actions}
    assert (await site.ask("POST", "/shares", key, json=wanted)).status == status


async def test_a_link_has_the_actions_it_was_made_with(site: Site, study: Dataset) -> None:
    pictures, _ = await share(site, study, actions=["render"])
    usual, _ = await share(site, study)
    whole, _ = await share(site, study, actions=["read", "download"])
    expected = {pictures: (403, 403, 403, 200), usual: (200, 200, 403, 200), whole: (403, 200, 200, 403)}
    for link, statuses in expected.items():
        paths = ("dicomweb/studies", study_of(study) + "/metadata", study_of(study), instance_of(study) + "/rendered")
        answers = [await site.ask("GET", link + path, headers={"Accept": "*/*"}) for path in paths]
        assert tuple(each.status for each in answers) == statuses


# Using


async def test_urls_in_answers_stay_within_the_link(site: Site, study: Dataset) -> None:
    link, told = await share(site, study)
    root = told["url"] + "dicomweb/"
    found = await site.ask("GET", f"{link}dicomweb/studies")
    assert found.json[0]["00081190"]["Value"][0].startswith(root)
    metadata = await site.ask("GET", f"{link}{study_of(study)}/metadata")
    uris = re.findall(rb'"BulkDataURI":\s*"([^"]+)"', metadata.body)
    assert len(uris) == 2
    for each in uris:
        assert each.decode().startswith(root)
        path = link + each.decode().removeprefix(told["url"])
        assert (await site.ask("GET", path)).status == 200
    bulk = await site.ask("GET", f"{link}{instance_of(study)}/bulkdata", headers={"Accept": "multipart/related"})
    locations = re.findall(rb"(?i)content-location: *([^\r]+)", bulk.body)
    assert locations
    assert all(each.decode().startswith(root) for each in locations)
    outside = await site.ask("GET", f"/{study_of(study)}/metadata", "boss")
    assert b"/share/" not in outside.body


@pytest.mark.parametrize(
    "altered",
    [
        lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
        lambda token: ("A" if token[0] != "A" else "B") + token[1:],
        lambda token: token.partition(".")[0],
        lambda token: token + "A",
        str.swapcase,
    ],
)
async def test_an_altered_link_is_no_link(site: Site, study: Dataset, altered: Callable[[str], str]) -> None:
    link, _ = await share(site, study)
    token = altered(link.removeprefix("/share/").rstrip("/"))
    for method, path in (("GET", ""), ("POST", ""), ("GET", "dicomweb/studies")):
        answer = await site.ask(method, f"/share/{token}/{path}", json={})
        assert answer.status == 404
    assert set(site.outcomes("authenticate")) == {"denied"}
    assert token not in str(site.trail("authenticate"))


async def test_a_link_without_its_slash_leads_to_its_folder_and_nowhere_else(site: Site, study: Dataset) -> None:
    link, _ = await share(site, study)
    answer = await site.ask("GET", link.rstrip("/"))
    assert (answer.status, answer.headers["Location"]) == (308, link.split("/")[2] + "/")
    for evil in (
        "%2F%2Fevil.example",
        "%2Fevil",
        "https:%2F%2Fevil.example",
        "x%0d%0aSet-Cookie:%20a=b",
        "javascript:a",
    ):
        answer = await site.ask("GET", URL(f"/share/{evil}", encoded=True))
        assert answer.status == 404
        assert "Location" not in answer.headers


async def test_a_link_lets_nothing_be_changed(site: Site, study: Dataset) -> None:
    link, told = await share(site, study, actions=["search", "read", "download", "render"])
    body, headers = part10_file(ct()), {"Content-Type": "application/dicom"}
    before = (await site.ask("GET", "/dicomweb/changefeed/latest", "boss")).body
    for method, path in (
        ("POST", "dicomweb/studies"),
        ("PUT", "dicomweb/studies"),
        ("POST", study_of(study)),
        ("DELETE", study_of(study)),
        ("DELETE", instance_of(study)),
        ("DELETE", ""),
        ("PUT", ""),
        ("POST", f"dicomweb/commitment-requests/{uid()}"),
        ("GET", "dicomweb/deletions"),
        ("GET", "dicomweb/changefeed"),
        ("POST", "shares"),
        ("GET", "shares"),
        ("DELETE", f"shares/{told['id']}"),
        ("GET", "session"),
        ("POST", "login"),
        ("GET", "admin/keys"),
        ("GET", "admin/explain"),
        ("GET", "fhir/AuditEvent"),
        ("GET", "fhir/ImagingStudy"),
        ("GET", "fhir/Patient"),
        ("GET", "fhir/Endpoint"),
    ):
        # A key that may do all of it, sent along, is of no account.
        for key in ("", "boss"):
            answer = await site.ask(method, link + path, key, data=body, headers=headers)
            assert answer.status in (404, 405), (method, path, answer.status)
    assert (await site.ask("GET", "/dicomweb/changefeed/latest", "boss")).body == before
    assert (await site.ask("HEAD", link + study_of(study) + "/metadata")).status == 200


async def test_a_key_or_session_sent_along_changes_nothing(site: Site, study: Dataset) -> None:
    other = ct()
    await site.store(other)
    link, _ = await share(site, study)
    for options in ({"key": "boss"}, {"key": "wrong"}, {"cookies": "gateway-session=wrong"}):
        assert (await site.ask("GET", f"{link}{study_of(study)}/metadata", **options)).status == 200
        assert (await site.ask("GET", f"{link}{study_of(other)}/metadata", **options)).status == 404
        assert (await site.ask("GET", f"{link}{study_of(study)}", **options)).status == 403
    assert {each["principal"] for each in site.trail("read")} == {f"share {(await listed(site))['id']}"}


async def listed(site: Site) -> dict[str, Any]:
    (found,) = (await site.ask("GET", "/shares", "boss")).json["shares"]
    return dict(found)


# Ending


async def test_a_revoked_link_shows_nothing_any_more(site: Site, study: Dataset) -> None:
    link, told = await share(site, study)
    assert (await site.ask("GET", f"{link}dicomweb/studies")).status == 200
    assert (await site.ask("DELETE", f"/shares/{told['id']}", "radiologist")).status == 204
    await until_seen()
    answer = await site.ask("GET", f"{link}dicomweb/studies")
    assert (answer.status, answer.detail) == (404, "the link was revoked")
    page = await site.ask("GET", link)
    assert page.status == 404
    assert b"This link shows nothing" in page.body
    assert (await open_link(site, link)).status == 404
    assert (await listed(site))["state"] == "the link was revoked"
    assert site.outcomes("share") == ["allowed", "made", "allowed", "revoked", "allowed"]


async def test_a_link_ends_by_itself_also_for_who_has_it_open(
    site: Site, study: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, told = await share(site, study, pin=PIN)
    cookie = cookie_of(await open_link(site, link, pin=PIN))
    change(site.core.control, "share", told["id"], lambda body: {**body, "ends_at_s": time.time() + 30.0})
    assert (await site.ask("GET", f"{link}dicomweb/studies", cookies=cookie)).status == 200
    let_pass(monkeypatch, 31.0, authentication, base, shares)
    answer = await site.ask("GET", f"{link}dicomweb/studies", cookies=cookie)
    assert (answer.status, answer.detail) == (404, "the link has ended")
    assert (await open_link(site, link, pin=PIN)).detail == "the link has ended"
    assert (await listed(site))["state"] == "the link has ended"


@pytest.mark.parametrize("http", [{"failed_attempts": 3}], indirect=True)
async def test_showing_an_ended_or_unopened_link_again_and_again_locks_nobody_out(site: Site, study: Dataset) -> None:
    ended, told = await share(site, study)
    closed, _ = await share(site, study, pin=PIN)
    good, _ = await share(site, study)
    await site.ask("DELETE", f"/shares/{told['id']}", "boss")
    for _ in range(10):
        assert (await site.ask("GET", f"{ended}dicomweb/studies")).status == 404
        assert (await site.ask("GET", f"{closed}dicomweb/studies")).status == 401
        assert (await site.ask("GET", closed)).status == 200
    assert (await site.ask("GET", f"{good}dicomweb/studies")).status == 200
    assert (await open_link(site, closed, pin=PIN)).status == 200


# Opening


async def test_a_link_with_a_pin_shows_nothing_until_it_is_opened_in_this_browser(site: Site, study: Dataset) -> None:
    link, told = await share(site, study, pin=PIN)
    assert told["pin"] is True
    assert PIN not in str(told)
    for path in ("dicomweb/studies", study_of(study) + "/metadata", instance_of(study) + "/rendered"):
        answer = await site.ask("GET", link + path)
        assert (answer.status, answer.detail) == (401, "the link has to be opened first")
    page = await site.ask("GET", link)
    assert page.status == 200
    assert b'name="pin"' in page.body
    assert b"Shared" not in page.body
    opened = await open_link(site, link, pin=PIN)
    assert opened.json["root"] == told["url"] + "dicomweb"
    assert opened.json["uses"] == 0
    cookie = opened.cookie("gateway-share")
    assert (cookie["path"], cookie["httponly"], cookie["samesite"], cookie["secure"]) == (link, True, "Lax", "")
    assert 43_000 < int(cookie["max-age"]) <= 43_200
    for path in ("dicomweb/studies", study_of(study) + "/metadata"):
        assert (await site.ask("GET", link + path, cookies=cookie_of(opened))).status == 200
    page = await site.ask("GET", link, cookies=cookie_of(opened))
    assert b"console/app.js" in page.body
    assert (await site.ask("GET", link + "dicomweb/studies", cookies="gateway-share=other")).status == 401
    assert "opened" in site.outcomes("share")


async def test_the_cookie_of_one_link_opens_no_other(site: Site, study: Dataset) -> None:
    first, _ = await share(site, study, pin=PIN)
    second, _ = await share(site, study, pin=PIN)
    cookie = cookie_of(await open_link(site, first, pin=PIN))
    assert (await site.ask("GET", f"{first}dicomweb/studies", cookies=cookie)).status == 200
    assert (await site.ask("GET", f"{second}dicomweb/studies", cookies=cookie)).status == 401


async def test_a_form_opens_a_link_and_leads_to_its_page(site: Site, study: Dataset) -> None:
    link, _ = await share(site, study, pin=PIN)
    wrong = await site.ask("POST", link, data={"pin": "0000"})
    assert wrong.status == 401
    assert wrong.headers["Content-Type"].startswith("text/html")
    assert b"PIN is not right" in wrong.body
    assert "Set-Cookie" not in wrong.headers
    empty = await site.ask("POST", link, data={"pin": ""})
    assert empty.status == 401
    right = await site.ask("POST", link, data={"pin": PIN})
    assert (right.status, right.headers["Location"]) == (303, "./")
    assert (await site.ask("GET", link, cookies=cookie_of(right))).status == 200


@pytest.mark.parametrize("http", [{"failed_attempts": 3}], indirect=True)
async def test_a_pin_is_not_guessed(site: Site, study: Dataset) -> None:
    link, _ = await share(site, study, pin=PIN)
    statuses = [(await open_link(site, link, pin=f"{n:04}")).status for n in range(6)]
    assert statuses == [401] * 4 + [429] * 2
    locked = await open_link(site, link, pin=PIN)
    assert locked.status == 429
    assert int(locked.headers["Retry-After"]) >= 1
    page = await site.ask("POST", link, data={"pin": PIN})
    assert page.status == 429
    assert b"too many failed" in page.body.lower()
    assert "Retry-After" in page.headers
    assert site.outcomes("authenticate").count("locked") == 1
    assert "denied" in site.outcomes("authenticate")
    assert PIN not in str(site.trail("authenticate"))


async def test_a_link_is_opened_as_often_as_it_may_be(site: Site, study: Dataset) -> None:
    link, told = await share(site, study, uses=2)
    assert told["mostUses"] == 2
    assert (await site.ask("GET", f"{link}dicomweb/studies")).status == 401
    answers = await asyncio.gather(*(open_link(site, link) for _ in range(5)))
    assert sorted(each.status for each in answers) == [200, 200, 404, 404, 404]
    opened = [each for each in answers if each.status == 200]
    for each in opened:
        assert (await site.ask("GET", f"{link}dicomweb/studies", cookies=cookie_of(each))).status == 200
    assert {each.detail for each in answers if each.status == 404} == {"the link was used as often as it may be"}
    assert (await listed(site))["uses"] == 2
    assert site.outcomes("share").count("opened") == 2
    assert "the link was used as often as it may be" in {each["detail"] for each in site.trail("authenticate")}


async def test_a_wrong_pin_uses_nothing_up(site: Site, study: Dataset) -> None:
    link, _ = await share(site, study, pin=PIN, uses=1)
    assert (await open_link(site, link, pin="9999")).status == 401
    assert (await open_link(site, link, pin=PIN)).status == 200
    assert (await open_link(site, link, pin=PIN)).status == 404


@pytest.mark.parametrize("body", [{"pin": 1234}, {"pin": PIN, "more": 1}, [], "x"])
async def test_an_opening_that_is_none_is_refused(site: Site, study: Dataset, body: Any) -> None:
    link, _ = await share(site, study, pin=PIN)
    assert (await site.ask("POST", link, json=body)).status == 400
    assert (await site.ask("POST", link, data=b"x", headers={"Content-Type": "text/plain"})).status == 415


async def test_pages_of_a_link_run_nothing_of_others_and_tell_nobody_where_they_are(site: Site, study: Dataset) -> None:
    link, _ = await share(site, study, pin=PIN)
    for answer in (await site.ask("GET", link), await site.ask("POST", link, data={"pin": "<b>"})):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "script" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("http", "headers", "root", "path"),
    [
        ({"path_prefix": "/imaging"}, {}, "http://127.0.0.1:{port}/imaging", "/imaging"),
        (
            {"trusted_proxies": ("127.0.0.1",)},
            {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example", "X-Forwarded-Prefix": "/viewer"},
            "https://pacs.example/viewer",
            "/viewer",
        ),
        ({"public_url": "https://pacs.example/dicom"}, {}, "https://pacs.example/dicom", "/dicom"),
    ],
    indirect=["http"],
)
async def test_a_link_is_right_behind_a_proxy(
    site: Site, http: dict[str, Any], headers: dict[str, str], root: str, path: str
) -> None:
    root = root.format(port=site.client.port)
    prefix = http.get("path_prefix", "")
    found = ct()
    await site.store(found)
    wanted = {"studies": [found.StudyInstanceUID], "pin": PIN}
    made = await site.ask("POST", f"{prefix}/shares", "boss", json=wanted, headers=headers)
    url = made.json["url"]
    assert url.startswith(f"{root}/share/")
    inner = prefix + "/share/" + url.partition("/share/")[2]
    opened = await site.ask("POST", inner, json={"pin": PIN}, headers=headers)
    cookie = opened.cookie("gateway-share")
    assert cookie["path"] == path + "/share/" + url.partition("/share/")[2]
    assert bool(cookie["secure"]) is root.startswith("https")
    studies = await site.ask("GET", f"{inner}dicomweb/studies", cookies=cookie_of(opened), headers=headers)
    assert studies.json[0]["00081190"]["Value"][0].startswith(f"{url}dicomweb/")
