"""What is out of somebody's scope is as what was never there: every principal, route and level, over both protocols.

Two archives hold the same of what the principals may have; one of them holds something hidden beside it, and something
hidden that was deleted. Whatever is asked of the hidden, both answer alike: status, body, headers, counts, entity tags,
and the engine is asked the same number of the same questions.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp.test_utils import TestClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role

from gateway import assembly, worker
from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.calling.verifying import verify
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.storing import StorageSettings
from gateway.console.pages import page
from gateway.console.pages import routes as console_routes
from gateway.dicomweb.routes import routes as dicomweb_routes
from gateway.dimse.server import DimseServer
from gateway.entrance.routes import routes as entrance_routes
from gateway.fhir.patient_ids import PatientIds, PatientKey
from gateway.fhir.routes import routes as fhir_routes
from gateway.http import application
from gateway.http.route import Route
from gateway.services.sealing import SECRET
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Target
from tests.instances import data_set, part10_file, uid

Client = TestClient[Any, Any]
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_ROOT_MOVE, STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOT_MOVE, PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.1.3"
PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"

ALL = '["search", "read", "render", "store", "delete", "share", "audit_read", "admin"]'
SCOPES = {
    "modality": 'scope = { Modality = ["US"] }',
    "patient": 'scope = { PatientID = ["OURS"] }',
    "issuer": 'scope = { IssuerOfPatientID = ["CLINIC"], PatientSex = ["F"] }',
    "study": 'scope = { StudyInstanceUID = ["OURSTUDY"] }',
    "body-part": 'scope = { BodyPartExamined = ["HEART"] }',
    "date": 'scope = { StudyDate = ["20200101-20201231"] }',
    "physician": 'scope = { ReferringPhysicianName = ["${person}"] }\nperson = "Gray^Ann"',
    "reading": 'scope = { NameOfPhysiciansReadingStudy = ["${person}"] }\nperson = "Gray^Ann=灰^安"',
    "two-values": 'scope = { Modality = ["XX", "US"], PatientID = ["O*"] }',
    "nothing": 'scope = { PatientID = ["${nothing}"] }',
    "tenant": 'tenant = "other"',
    "pictures": 'scope = { PatientID = ["OURS"] }\nobligations = ["rendered_only"]',
    "no-download": 'scope = { PatientID = ["OURS"] }\nobligations = ["no_download"]',
    "break-glass": 'scope = { PatientID = ["OURS"] }\nobligations = ["break_glass"]',
}
"""Principals by name, and the part of the archive that each may have."""

OURS = data_set(
    PatientID="OURS", PatientName="Ours^Only", IssuerOfPatientID="CLINIC", PatientSex="F", Modality="US",
    StudyDate="20200505", ReferringPhysicianName="Gray^Ann", BodyPartExamined="HEART", AccessionNumber="A-OURS",
    NameOfPhysiciansReadingStudy=["Black^Bob", "Gray^Ann=灰^安"], SpecificCharacterSet="ISO_IR 192",
)  # fmt: skip
HIDDEN = data_set(
    PatientID="HIDDEN", PatientName="Hidden^Away", IssuerOfPatientID="ELSEWHERE", PatientSex="M", Modality="MR",
    StudyDate="20190505", ReferringPhysicianName="Black^Bob", BodyPartExamined="HEAD", AccessionNumber="A-HIDDEN",
    NameOfPhysiciansReadingStudy=["Gray^Ann=他^人", "Black^Bob=灰^安"], SpecificCharacterSet="ISO_IR 192",
)  # fmt: skip
DELETED = data_set(
    PatientID="HIDDEN", PatientName="Hidden^Away", IssuerOfPatientID="ELSEWHERE", PatientSex="M", Modality="MR",
    StudyDate="20190606", ReferringPhysicianName="Black^Bob", BodyPartExamined="HEAD", AccessionNumber="A-DELETED",
)  # fmt: skip
TARGETS = {"hidden": HIDDEN, "deleted": DELETED}

WITHOUT_TARGET = {
    "/dicomweb/changefeed/latest": "a number alone, which every change makes larger",
    "/dicomweb/commitment-requests/{transaction}": "asked for by a request of its own, below",
    "/fhir/AuditEvent": "the trail of the tenant, by a right of its own",
    "/fhir/AuditEvent/{id}": "the trail of the tenant, by a right of its own",
    "/fhir/AuditEvent/_search": "the trail of the tenant, by a right of its own",
    "/fhir/Endpoint": "about service roots, not about studies",
    "/fhir/Endpoint/_search": "about service roots, not about studies",
    "/fhir/Endpoint/{id}": "about service roots, not about studies",
    "/history/studies/{study}": "the trail of the tenant, by a right of its own",
    "/admin/keys": "about principals, not about studies",
    "/admin/keys/{key}": "about principals, not about studies",
    "/admin/activity": "counts, queues and disks",
    "/admin/associations": "about peers, and how often they asked for what",
    "/admin/audit": "the trail of the tenant, by a right of its own",
    "/admin/audit/verification": "whether the trail is whole, by the same right",
    "/admin/quarantine": "the tenant's own, with the times at which it came, which no two archives share",
    "/admin/peers": "about peers; of the trail it tells when somebody came, and no subject",
    "/admin/peers/{aet}/echo": "about a peer, not about studies",
    "/admin/explain": "says to administrators of a tenant whether a study is there; that is what it is for",
    "/shares": "asked for by a request of its own, below",
    "/shares/{link}": "about links, not about studies",
    "/logout": "about a session",
    "/session": "about a session",
    "/session/reason": "about a session",
}
"""Routes that name nothing hidden, and why."""

PUBLIC = {
    "/health/live": "whether it runs",
    "/health/ready": "whether it serves",
    "/dicomweb": "what it can do, as WADL",
    "/dicomweb/": "the same, as PS3.18 8.9 has its target",
    "/dicomweb/openapi.json": "what it can do",
    "/dicomweb/api": "a page of that",
    "/fhir/metadata": "what it can do in FHIR",
    "/fhir/openapi.json": "the same for programs",
    "/fhir/.well-known/smart-configuration": "where SMART on FHIR finds the provider",
    "/openapi.json": "what it can do besides",
    "/api": "a page of that",
    "/login": "where one shows who one is",
    "/login/callback": "where one comes back from a provider",
    "/login/{provider}": "where one goes to a provider",
    "/viewers": "which viewers there are",
    "/ohif": "leads to the viewer's folder",
    "/ohif/{path:.*}": "files of the viewer, which have nothing of the archive",
    "/share/{share}": "leads to the folder of a link, whether there is one or not",
    "/share/{share}/": "the page of a link, which looks at the link itself",
}
"""What anybody may ask for, and what it is, beside the files of the console, which have nothing of the archive."""


OF_THE_WHOLE_TENANT = {"etag", "x-snapshot"}
"""Of searches: they say which state of the index was looked at, so how often anything has changed, but not what."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: frozenset[tuple[str, str]]
    body: bytes
    asked_of_engines: Counter[tuple[str, str]]

    def differs_from(self, other: Answer) -> list[str]:
        found = []
        if self.status != other.status:
            found.append(f"status {self.status} and {other.status}")
        if self.headers != other.headers:
            found.append(f"headers {sorted(self.headers ^ other.headers)}")
        if self.body != other.body:
            found.append(f"body {self.body[-300:]!r} and {other.body[-300:]!r}")
        if self.asked_of_engines != other.asked_of_engines:
            found.append(f"engines {dict(self.asked_of_engines)} and {dict(other.asked_of_engines)}")
        return found


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    json: Any = None
    body: bytes | None = None
    content_type: str = ""


def every_route() -> list[Route]:
    return [*dicomweb_routes(), *fhir_routes(), *entrance_routes(page, verify)]


PATIENT = "LOGICAL-ID-OF-THE-PATIENT"
"""Stands for it until it is known which archive is asked."""


def path_of(route: Route, target: Dataset) -> str:
    ids_of = {"/fhir/Patient/{id}": PATIENT, "/fhir/ImagingStudy/{id}": target.StudyInstanceUID}
    return route.path.format(**keys_of(target), id=ids_of.get(route.path, ""))


def keys_of(target: Dataset) -> dict[str, str]:
    return {
        "study": target.StudyInstanceUID, "series": target.SeriesInstanceUID, "instance": target.SOPInstanceUID,
        "frames": "1", "path": "7FE00010", "deletion": str(ids.version("0" * 26)), "name": "research",
        "version": "0" * 26,
    }  # fmt: skip


def test_nothing_is_public_but_what_is_meant_to_be() -> None:
    files = {each.path for each in console_routes()}
    assert {each.path for each in worker.routes() if each.action is None} - files == set(PUBLIC)


def questions(target: Dataset) -> Iterator[Asked]:
    """Everything that can be asked of a target over HTTP, by the table of routes."""
    reference = {
        "00081150": {"vr": "UI", "Value": [target.SOPClassUID]},
        "00081155": {"vr": "UI", "Value": [target.SOPInstanceUID]},
    }
    for route in every_route():
        if route.action is None or route.path in WITHOUT_TARGET:
            continue
        path = path_of(route, target)
        if (searched := route.path.removesuffix("/_search")) in FHIR_SEARCHES:
            for query in FHIR_SEARCHES[searched](target):
                if route.method == "POST":
                    yield Asked("POST", path, body=query.encode(), content_type="application/x-www-form-urlencoded")
                else:
                    yield Asked(route.method, f"{path}?{query}")
        elif route.path.rpartition("/")[2] in ("patients", "studies", "series", "instances", "count"):
            if route.method != "GET":
                continue  # STOW: below
            # Every key where rows come from, and some of each kind everywhere else.
            everywhere = route.path in ("/dicomweb/studies", "/dicomweb/instances")
            for query in searches(target)[:: 1 if everywhere else 4]:
                yield Asked(route.method, f"{path}?{query}")
        elif route.path == "/dicomweb/wado":
            where = f"studyUID={target.StudyInstanceUID}&seriesUID={target.SeriesInstanceUID}"
            for kind in ("", "&contentType=application/dicom"):
                yield Asked("GET", f"{path}?requestType=WADO&{where}&objectUID={target.SOPInstanceUID}{kind}")
        elif route.path == "/dicomweb/changefeed":
            yield Asked("GET", f"{path}?limit=200")
        elif route.action is not Action.STORE:
            yield Asked(route.method, path)
    yield Asked("POST", f"/dicomweb/commitment-requests/{uid()}", json={"00081199": {"vr": "SQ", "Value": [reference]}})
    yield Asked("POST", "/shares", json={"studies": [target.StudyInstanceUID]})
    for place in ({"StudyInstanceUID": target.StudyInstanceUID}, {"SOPInstanceUID": target.SOPInstanceUID}):
        stolen = part10_file(data_set(PatientID="THIEF", Modality="OT", StudyDate="20180101", **place))
        for path in ("/dicomweb/studies", f"/dicomweb/studies/{target.StudyInstanceUID}"):
            yield Asked("POST", path, body=stolen, content_type="application/dicom")
    yield Asked("POST", "/dicomweb/studies", body=part10_file(target), content_type="application/dicom")


def searches(target: Dataset) -> Sequence[str]:
    return (
        f"StudyInstanceUID={target.StudyInstanceUID}&includefield=all",
        f"SeriesInstanceUID={target.SeriesInstanceUID}",
        f"SOPInstanceUID={target.SOPInstanceUID}",
        f"PatientID={target.PatientID}",
        f"PatientName={quote('Hid*')}",
        "PatientName=hidden&fuzzymatching=true",
        f"AccessionNumber={target.AccessionNumber}",
        f"StudyDate={target.StudyDate}",
        "BodyPartExamined=HEAD",
        "NameOfPhysiciansReadingStudy=Black*",
    )


def of_studies(target: Dataset) -> Sequence[str]:
    day = target.StudyDate
    return (
        f"_id={target.StudyInstanceUID}",
        f"identifier=urn:dicom:uid|urn:oid:{target.StudyInstanceUID}",
        f"identifier={target.AccessionNumber}",
        f"patient={target.PatientID}",
        f"patient=Patient/{PATIENT}",
        f"patient:identifier={target.IssuerOfPatientID}|{target.PatientID}",
        f"started={day[:4]}-{day[4:6]}-{day[6:]}",
        f"modality={target.Modality}&_include=ImagingStudy:endpoint&_include=ImagingStudy:patient",
        "_count=1&_total=accurate",
        "_summary=count",
        "_lastUpdated=gt2020-01-01",
    )


def of_patients(target: Dataset) -> Sequence[str]:
    return (
        f"_id={PATIENT}", f"identifier={target.PatientID}", "name=hid", "name:contains=idd", "gender=male",
        "birthdate=lt2100", "_count=1", "_summary=count",
    )  # fmt: skip


FHIR_SEARCHES = {"/fhir/ImagingStudy": of_studies, "/fhir/Patient": of_patients}


class Site:
    """One of the two archives, with a client for each principal."""

    def __init__(self, core: Core, wide: Core, client: Client) -> None:
        self.core, self.wide, self.client = core, wide, client
        of_hidden = PatientKey(HIDDEN.IssuerOfPatientID, HIDDEN.PatientID)
        self.patient = PatientIds(core.sealing, "main", "").id_of(of_hidden)

    def operations(self) -> Counter[tuple[str, str]]:
        """How often each engine was asked what.

        As in the metrics, but out of the histogram itself: a collection of them all, twice for each question, cost
        more than all of the questions.
        """
        asked = self.core.metrics._operations._metrics.copy()
        return Counter({names: int(sum(each.get() for each in child._buckets)) for names, child in asked.items()})

    def collected(self) -> Counter[tuple[str, str]]:
        """The same, as the metrics tell it."""
        found: Counter[tuple[str, str]] = Counter()
        for family in self.core.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == "gateway_engine_operation_seconds_count":
                    found[sample.labels["engine"], sample.labels["operation"]] = int(sample.value)
        return found

    async def answer(self, asked: Asked, headers: dict[str, str]) -> Answer:
        """Everything of an answer that somebody could tell apart, and what the engines were asked for it."""
        before = self.operations()
        sent = None if asked.body is None else asked.body.replace(PATIENT.encode(), self.patient.encode())
        data = {"json": asked.json} if asked.json is not None else {"data": sent}
        kind = {"Content-Type": asked.content_type} if asked.content_type else {}
        if "commitment" in asked.path:
            kind = {"Content-Type": "application/dicom+json"}
        head = {"Accept": "*/*", **headers, **kind}
        path = asked.path.replace(PATIENT, self.patient)
        async with self.client.request(asked.method, path, headers=head, **data) as response:
            body = self._plain(await response.read())
            kept = {name.lower(): value for name, value in response.headers.items()}
        for name in OF_THE_WHOLE_TENANT & kept.keys():
            kept[name] = "..."
        del kept["x-request-id"], kept["date"]
        return Answer(response.status, frozenset(kept.items()), body, self.operations() - before)

    def _plain(self, body: bytes) -> bytes:
        """A body without what differs between any two archives, or requests."""
        body = body.replace(f":{self.client.port}".encode(), b"")
        body = re.sub(rb'"(request|epoch|time|version)": ?"[^"]*"', b"", body)
        body = re.sub(rb'("OperationOutcome","id":|"lastUpdated":)"[^"]*"', rb"\1", body)
        # Numbers of changes tell how many there were in all, but not of what.
        return re.sub(rb'"(sequence|next|latest|first|last)": ?\d+', b"", body)


@pytest.fixture
async def sites(
    tmp_path: Path, aiohttp_client: Callable[..., Awaitable[Client]]
) -> AsyncIterator[tuple[Site, Site, dict[str, str]]]:
    """With something hidden, and without; and each principal's key."""
    keys = {name: f"key-of-{name}" for name in SCOPES}
    text = "".join(
        f'[[principal]]\nname = "{name}"\nkind = "api_key"\nactions = {ALL}\n'
        f'api_key_sha256 = "{hashlib.sha256(keys[name].encode()).hexdigest()}"\n{scope}\n\n'
        f'[[principal]]\nname = "ae-{name}"\nkind = "ae"\nae_title = "{name.upper()[:16]}"\nactions = {ALL}\n'
        f"{scope}\n\n"
        for name, scope in SCOPES.items()
    ).replace("OURSTUDY", OURS.StudyInstanceUID)
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    with ExitStack() as ends:
        made = []
        for name, stored in (("with", (OURS, HIDDEN, DELETED)), ("without", (OURS,))):
            settings = Settings(storage=StorageSettings(directory=tmp_path / name, fsync=False))
            wide = assembly.build(settings, "wide")
            ends.callback(wide.close)
            # Logical ids are under a key of each archive's own, which here has to be the same.
            wide.control.put(*SECRET, {"key": "ab" * 64}, expected=None)
            everybody = await aiohttp_client(application.build(wide, every_route()))
            for each in stored:
                headers = {"Content-Type": "application/dicom"}
                async with everybody.post("/dicomweb/studies", data=part10_file(each), headers=headers) as response:
                    assert response.status == 200
            if DELETED in stored:
                async with everybody.delete(f"/dicomweb/studies/{DELETED.StudyInstanceUID}") as response:
                    assert response.status == 204
            access = settings.model_copy(update={"access": AccessSettings(policy_file=policy)})
            narrow = assembly.build(access, "narrow")
            ends.callback(narrow.close)
            made.append(Site(narrow, wide, await aiohttp_client(application.build(narrow, every_route()))))
        yield made[0], made[1], keys


def test_every_route_is_asked_or_says_why_not() -> None:
    """A new route stands in the matrix, or in the list of those that name nothing hidden."""
    asked = {each.path.partition("?")[0] for each in questions(HIDDEN)}
    for route in every_route():
        if route.action is None or route.path in WITHOUT_TARGET:
            continue
        assert path_of(route, HIDDEN) in asked, f"{route.method} {route.path}"


@pytest.mark.parametrize("principal", [*SCOPES, "link"])
async def test_what_is_hidden_is_answered_as_what_was_never_there(
    sites: tuple[Site, Site, dict[str, str]], principal: str
) -> None:
    there, absent, keys = sites
    told = []
    for asked in (each for target in TARGETS.values() for each in questions(target)):
        answers = []
        for site in (there, absent):
            if principal == "link":
                answers.append(await by_link(site, asked))
            else:
                answers.append(await site.answer(asked, {"Authorization": f"Bearer {keys[principal]}"}))
        if differences := answers[0].differs_from(answers[1]):
            told.append(f"{asked.method} {asked.path}: {'; '.join(differences)}")
    assert not told, "\n".join(told)


async def by_link(site: Site, asked: Asked) -> Answer:
    """The same through a link to what is not hidden."""
    token = await link_of(site)
    found = await site.answer(replace(asked, path=f"/share/{token}{asked.path}"), {})
    return replace(found, body=found.body.replace(token.encode(), b""))


async def link_of(site: Site) -> str:
    if not hasattr(site, "token"):
        asked = {"studies": [OURS.StudyInstanceUID], "actions": ["search", "read", "download", "render"]}
        token, _ = site.wide.sharing.share(
            this_machine(site.wide), "main", [ids.study_uid(asked["studies"][0])], days=1,
            actions=[Action(each) for each in asked["actions"]],
        )  # fmt: skip
        site.token = token  # type: ignore[attr-defined]
        await site.answer(Asked("GET", f"/share/{token}/dicomweb/studies"), {})
    found: str = site.token  # type: ignore[attr-defined]
    return found


def this_machine(core: Core) -> Any:
    from gateway.context import Caller, Source

    principal = core.door.policy.by_loopback("127.0.0.1")
    assert principal is not None
    return Caller(principal, Source("test", "127.0.0.1"))


async def test_what_is_not_hidden_is_there_for_each_that_may_have_it(
    sites: tuple[Site, Site, dict[str, str]],
) -> None:
    """Or the matrix would prove nothing."""
    there, absent, keys = sites
    for principal in SCOPES.keys() - {"nothing", "tenant", "break-glass"}:
        for site in (there, absent):
            headers = {"Authorization": f"Bearer {keys[principal]}"}
            async with site.client.get("/dicomweb/studies", headers=headers) as response:
                assert response.headers["X-Total-Count"] == "1", principal
                (study,) = await response.json(content_type=None)
            assert study["0020000D"]["Value"] == [OURS.StudyInstanceUID]
            async with site.client.get("/dicomweb/patients/count", headers=headers) as response:
                assert (await response.json(content_type=None))["count"] == 1
            for kind in ("ImagingStudy", "Patient"):
                async with site.client.get(f"/fhir/{kind}", headers=headers) as response:
                    bundle = await response.json(content_type=None)
                (entry,) = bundle["entry"]
                assert (bundle["total"], entry["resource"]["resourceType"]) == (1, kind), principal
    for site in (there, absent):
        assert site.operations() == site.collected()
        assert "index" in {engine for engine, _ in site.operations()}


@pytest.mark.parametrize("place", ["StudyInstanceUID", "SOPInstanceUID"])
async def test_what_would_take_the_place_of_something_hidden_is_refused_and_changes_nothing(
    sites: tuple[Site, Site, dict[str, str]], place: str
) -> None:
    """The one answer that says that a UID is taken: it goes to who has the UID and may store, and says no more."""
    there, _, keys = sites
    of_ours = {
        name: OURS.get(name) for name in ("PatientID", "PatientName", "IssuerOfPatientID", "Modality", "StudyDate")
    }
    sent = part10_file(data_set(**of_ours, **{place: HIDDEN.get(place)}))
    asked = Asked("POST", "/dicomweb/studies", body=sent, content_type="application/dicom")
    found = await there.answer(asked, {"Authorization": f"Bearer {keys['patient']}"})
    assert found.status == 409
    for word in ("HIDDEN", "Hidden", "MR", "20190505", HIDDEN.SeriesInstanceUID):
        assert word.encode() not in found.body
    wide = assembly.build(there.wide.settings, "again")
    try:
        (study,) = wide.archive.index.locate(
            Target(ids.Tenant("main"), ids.study_uid(HIDDEN.StudyInstanceUID)), EVERYTHING
        )
        assert study.key.sop_uid == HIDDEN.SOPInstanceUID
    finally:
        wide.close()


@pytest.mark.parametrize("principal", SCOPES)
async def test_over_dimse_too(sites: tuple[Site, Site, dict[str, str]], principal: str) -> None:
    there, absent, _ = sites
    found = await asyncio.to_thread(lambda: [dimse(site, principal) for site in (there, absent)])
    assert found[0] == found[1]


def dimse(site: Site, principal: str, targets: Iterable[Dataset] = tuple(TARGETS.values())) -> list[object]:
    """Answers of C-FIND, C-GET and C-MOVE at every level and of C-STORE, to keys of the hidden."""
    server = DimseServer(site.core, socket.create_server(("127.0.0.1", 0)))
    server.start()
    try:
        ae = AE(ae_title=principal.upper()[:16])
        for model in (STUDY_ROOT_FIND, PATIENT_ROOT_FIND):
            ae.add_requested_context(model)
        retrievals = (STUDY_ROOT_GET, PATIENT_ROOT_GET, STUDY_ROOT_MOVE, PATIENT_ROOT_MOVE)
        for model in retrievals:
            ae.add_requested_context(model)
        ae.add_requested_context(HIDDEN.SOPClassUID)
        association = ae.associate(
            *server.address, ae_title="GATEWAY", ext_neg=[build_role(HIDDEN.SOPClassUID, scu_role=True, scp_role=True)]
        )
        assert association.is_established
        answers: list[object] = []
        for target in targets:
            for model in retrievals:
                for level, keys in retrieved(target, patient_root=model in (PATIENT_ROOT_GET, PATIENT_ROOT_MOVE)):
                    query = Dataset()
                    query.QueryRetrieveLevel = level
                    for name, value in keys.items():
                        setattr(query, name, value)
                    before = site.operations()
                    if model in (STUDY_ROOT_GET, PATIENT_ROOT_GET):
                        told = association.send_c_get(query, model)
                    else:
                        told = association.send_c_move(query, "NOBODY", model)
                    answers.append((model, level, [(str(each), str(more)) for each, more in told]))
                    answers.append(site.operations() - before)
            for model, level, keys in finds(target):
                query = Dataset()
                query.QueryRetrieveLevel = level
                for name, value in keys.items():
                    setattr(query, name, value)
                before = site.operations()
                got = [(status.Status, str(each)) for status, each in association.send_c_find(query, model)]
                answers.append((level, keys, got, site.operations() - before))
            stolen = data_set(StudyInstanceUID=target.StudyInstanceUID, PatientID="THIEF", Modality="OT")
            for sent in (stolen, target):
                status = association.send_c_store(dcmread(BytesIO(part10_file(sent))))
                answers.append(("C-STORE", status.get("Status")))
        association.release()
        return answers
    finally:
        server.stop(2.0)


def retrieved(target: Dataset, *, patient_root: bool) -> list[tuple[str, dict[str, str]]]:
    patient = {"PatientID": target.PatientID} if patient_root else {}
    study = {**patient, "StudyInstanceUID": target.StudyInstanceUID}
    series = {**study, "SeriesInstanceUID": target.SeriesInstanceUID}
    levels = [
        ("STUDY", study),
        ("SERIES", series),
        ("IMAGE", {**series, "SOPInstanceUID": target.SOPInstanceUID}),
        ("STUDY", {**study, "StudyInstanceUID": [target.StudyInstanceUID, "1.2.3"]}),
    ]
    return [("PATIENT", patient), *levels] if patient_root else levels


def finds(target: Dataset) -> list[tuple[str, str, dict[str, str]]]:
    study, series = {"StudyInstanceUID": target.StudyInstanceUID}, {"SeriesInstanceUID": target.SeriesInstanceUID}
    patient = {"PatientID": target.PatientID, "PatientName": ""}
    return [
        (PATIENT_ROOT_FIND, "PATIENT", patient),
        (PATIENT_ROOT_FIND, "STUDY", {"PatientID": target.PatientID, "StudyInstanceUID": ""}),
        (STUDY_ROOT_FIND, "STUDY", {**study, "PatientName": "", "NumberOfStudyRelatedInstances": ""}),
        (STUDY_ROOT_FIND, "STUDY", {"PatientName": "Hid*", "StudyInstanceUID": ""}),
        (STUDY_ROOT_FIND, "SERIES", {**study, "SeriesInstanceUID": "", "Modality": ""}),
        (STUDY_ROOT_FIND, "IMAGE", {**study, **series, "SOPInstanceUID": target.SOPInstanceUID}),
    ]
