"""Everything that changes something, by the cookie of a session: it goes from the console, and from nowhere else."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from gateway import worker
from gateway.access import users
from gateway.config.serving import DestinationSettings
from tests.gateway.entrance.conftest import Site, ct
from tests.gateway.entrance.test_login import log_in, session_of
from tests.gateway.entrance.test_quarantine import listed, misplace
from tests.instances import data_set, part10_file, uid
from tests.ports import free_port

ORIGIN = "https://elsewhere.test"
FROM_ELSEWHERE: tuple[Mapping[str, str], ...] = (
    {},
    {"Origin": ORIGIN},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
    {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"X-CSRF-Token": ""},
    {"X-CSRF-Token": "wrong"},
)

Asked = tuple[str, dict[str, Any]]
"""A path, and the rest of a request."""
Makes = Callable[[Site], Awaitable[Asked]]


def dicom(place: str) -> Makes:
    async def made(_: Site) -> Asked:
        found = data_set()
        path = place.format(study=found.StudyInstanceUID)
        return path, {"data": part10_file(found), "headers": {"Content-Type": "application/dicom"}}

    return made


def stored(place: str) -> Makes:
    async def made(site: Site) -> Asked:
        found = ct()
        await site.store(found)
        ids = {"study": found.StudyInstanceUID, "series": found.SeriesInstanceUID, "instance": found.SOPInstanceUID}
        return place.format(**ids), {}

    return made


async def deletion(site: Site) -> Asked:
    path, _ = await stored("/dicomweb/studies/{study}")(site)
    answer = await site.ask("DELETE", path, "boss")
    return f"/dicomweb/deletions/{answer.headers['Location'].rpartition('/deletions/')[2].partition('/')[0]}/undo", {}


async def commitment(site: Site) -> Asked:
    found = ct()
    await site.store(found)
    reference = {
        "00081150": {"vr": "UI", "Value": [found.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [found.SOPInstanceUID]},
    }
    body = {"00081199": {"vr": "SQ", "Value": [reference]}}
    headers = {"Content-Type": "application/dicom+json"}
    return f"/dicomweb/commitment-requests/{uid()}", {"json": body, "headers": headers}


def form(path: str, **fields: str) -> Makes:
    async def made(_: Site) -> Asked:
        return path, {"data": fields}

    return made


async def new_key(_: Site) -> Asked:
    return "/admin/keys", {"json": {"name": "robot", "roles": ["viewer"]}}


async def old_key(site: Site) -> Asked:
    path, body = await new_key(site)
    return f"{path}/{(await site.ask('POST', path, 'boss', **body)).json['id']}", {}


async def new_share(site: Site) -> Asked:
    found = ct()
    await site.store(found)
    return "/shares", {"json": {"studies": [found.StudyInstanceUID]}}


async def old_share(site: Site) -> Asked:
    path, body = await new_share(site)
    return f"{path}/{(await site.ask('POST', path, 'boss', **body)).json['id']}", {}


async def peer(_: Site) -> Asked:
    return "/admin/peers/GONE/echo", {}


def quarantined(what: str) -> Makes:
    async def made(site: Site) -> Asked:
        first, _ = await misplace(site)
        if what == "release":
            assert (await site.ask("DELETE", f"/dicomweb/studies/{first.StudyInstanceUID}", "boss")).status == 204
        *_, latest = await listed(site)
        return f"/admin/quarantine/{latest['version']}/{what}", {}

    return made


async def reason(_: Site) -> Asked:
    return "/session/reason", {"json": {"reason": "an emergency"}}


async def logout(_: Site) -> Asked:
    return "/logout", {}


STUDY = "/dicomweb/studies/{study}"
SERIES = STUDY + "/series/{series}"
CHANGES: Mapping[tuple[str, str], tuple[Makes, int]] = {
    ("POST", "/dicomweb/studies"): (dicom("/dicomweb/studies"), 200),
    ("PUT", "/dicomweb/studies"): (dicom("/dicomweb/studies"), 200),
    ("POST", STUDY): (dicom(STUDY), 200),
    ("PUT", STUDY): (dicom(STUDY), 200),
    ("POST", "/dicomweb/commitment-requests/{transaction}"): (commitment, 200),
    ("DELETE", STUDY): (stored(STUDY), 204),
    ("DELETE", SERIES): (stored(SERIES), 204),
    ("DELETE", SERIES + "/instances/{instance}"): (stored(SERIES + "/instances/{instance}"), 204),
    ("POST", "/dicomweb/deletions/{deletion}/undo"): (deletion, 200),
    ("POST", "/fhir/ImagingStudy/_search"): (form("/fhir/ImagingStudy/_search", _count="1"), 200),
    ("POST", "/fhir/Patient/_search"): (form("/fhir/Patient/_search", _count="1"), 200),
    ("POST", "/fhir/Endpoint/_search"): (form("/fhir/Endpoint/_search", _count="1"), 200),
    ("POST", "/fhir/AuditEvent/_search"): (form("/fhir/AuditEvent/_search", _count="1"), 200),
    ("POST", "/admin/keys"): (new_key, 201),
    ("DELETE", "/admin/keys/{key}"): (old_key, 204),
    ("POST", "/admin/peers/{aet}/echo"): (peer, 200),
    ("POST", "/admin/quarantine/{version}/release"): (quarantined("release"), 200),
    ("POST", "/admin/quarantine/{version}/discard"): (quarantined("discard"), 204),
    ("POST", "/shares"): (new_share, 201),
    ("DELETE", "/shares/{link}"): (old_share, 204),
    ("POST", "/session/reason"): (reason, 204),
    ("POST", "/logout"): (logout, 204),
}
"""How each of them is asked for, and what it answers when it is done."""


@pytest.fixture
def settings(settings: Any) -> Any:
    gone = DestinationSettings(host="127.0.0.1", port=free_port())
    return settings.model_copy(update={"dimse": settings.dimse.model_copy(update={"destinations": {"GONE": gone}})})


def test_all_that_changes_something_is_here() -> None:
    safe = {"GET", "HEAD", "OPTIONS"}
    found = {(each.method, each.path): each.action for each in worker.routes() if each.method not in safe}
    public = {("POST", "/login"), ("POST", "/share/{share}/")}
    assert {asked for asked, action in found.items() if action is None} == public, "they begin a session"
    assert found.keys() - public == CHANGES.keys()


@pytest.mark.parametrize("asked", CHANGES, ids=" ".join)
async def test_it_is_done_for_the_console_and_for_no_other_page(site: Site, asked: tuple[str, str]) -> None:
    """The refusals come first: what they had done would not be there to be done any more."""
    assert users.add(site.core.control, "ann", "correct horse battery", "main", ["administrator"]) is not None
    makes, done = CHANGES[asked]
    for by_token in (True, False):
        cookies = session_of(await log_in(site))
        token = (await site.ask("GET", "/session", cookies=cookies)).json["csrf"]
        path, rest = await makes(site)
        ask = functools.partial(_ask, site, asked[0], path, cookies, rest)
        of_another = (await site.ask("GET", "/session", cookies=session_of(await log_in(site)))).json["csrf"]
        for shown in (*FROM_ELSEWHERE, {"X-CSRF-Token": of_another, "Sec-Fetch-Site": "cross-site"}):
            assert await ask(shown) == 403, shown
        assert await ask({"X-CSRF-Token": token} if by_token else {"Sec-Fetch-Site": "same-origin"}) == done


async def _ask(
    site: Site, method: str, path: str, cookies: str, rest: Mapping[str, Any], shown: Mapping[str, str]
) -> int:
    headers = {**rest.get("headers", {}), **shown}
    answer = await site.ask(method, path, cookies=cookies, **{**rest, "headers": headers})
    return answer.status
