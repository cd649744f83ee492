"""In a view, too, what is out of scope is as what was never there: by its pseudonyms and as it is stored.

The matrix of ``test_isolation``, for who sees the archive through a view: what a rule's scope hides of what the view
shows, what the view's own scope leaves out, what is withheld, what was deleted, and every UID as it is stored.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from gateway import assembly, views
from gateway.access.actions import Action
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import DestinationSettings, DimseSettings
from gateway.config.storing import StorageSettings
from gateway.config.views import ViewSettings
from gateway.context import command_line
from gateway.fhir.patient_ids import PatientIds, PatientKey
from gateway.http import application
from gateway.services.sealing import SECRET
from gateway.viewing.definition import Definition
from gateway.viewing.patients import Patient
from storage.dicom import identifiers as ids
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING
from storage.index.questions import Search, Target
from tests.gateway.access.test_isolation import (
    HIDDEN,
    OURS,
    PATIENT,
    Answer,
    Asked,
    Client,
    Site,
    dimse,
    every_route,
    questions,
    this_machine,
)
from tests.instances import data_set, part10_file
from tests.ports import free_port

MAIN = ids.Tenant("main")
ALL = '["search", "read_deidentified", "download", "render", "store", "share"]'
OPTIONS = ("clean_descriptors", "retain_longitudinal_full_dates", "retain_patient_characteristics")
VIEWS = {
    "research": ViewSettings(key="ab" * 32, options=OPTIONS),
    "ours": ViewSettings(key="cd" * 32, options=OPTIONS, scope={"PatientID": ("OURS",)}),
}


@dataclass(frozen=True)
class Through:
    """A view, and what its rule says beside it; ``{study}`` and ``{patient}`` are pseudonyms of what is not hidden."""

    view: str
    rule: str
    sees: bool = True
    as_stored: str = ""


THOROUGHLY = ("patient", "scope-of-the-view")
"""Those of whom everything is asked at every service root; of the others, what they differ in."""
PRINCIPALS = {
    "modality": Through("research", 'scope = { Modality = ["CT"] }'),
    "patient": Through("research", 'scope = { PatientID = ["{patient}"] }'),
    "study": Through("research", 'scope = { StudyInstanceUID = ["{study}"] }'),
    "sex": Through("research", 'scope = { PatientSex = ["F"] }'),
    "body-part": Through("research", 'scope = { BodyPartExamined = ["HEART"] }'),
    "date": Through("research", 'scope = { StudyDate = ["20200101-20201231"] }'),
    "two-values": Through("research", 'scope = { Modality = ["XX", "CT"], PatientID = ["{patient}"] }'),
    "stored-patient": Through("research", 'scope = { PatientID = ["OURS"] }', sees=False),
    "physician": Through(
        "research", 'scope = { ReferringPhysicianName = ["${person}"] }\nperson = "Gray^Ann"', sees=False
    ),
    "tenant": Through("research", 'tenant = "other"', sees=False),
    "pictures": Through("research", 'scope = { PatientID = ["{patient}"] }\nobligations = ["rendered_only"]'),
    "no-download": Through("research", 'scope = { PatientID = ["{patient}"] }\nobligations = ["no_download"]'),
    "break-glass": Through(
        "research", 'scope = { PatientID = ["{patient}"] }\nobligations = ["break_glass"]', sees=False
    ),
    "scope-of-the-view": Through("ours", ""),
    "scopes-of-both": Through("ours", 'scope = { Modality = ["CT"] }'),
    "as-stored-too": Through(
        "research", 'scope = { PatientID = ["{patient}"] }', as_stored='scope = { PatientID = ["OURS"] }'
    ),
    "of-another-view": Through("ours", 'scope = { Modality = ["MR"] }', sees=False),
}
KEYS = {name: f"key-of-{name}" for name in PRINCIPALS}

SHOWN = copy.deepcopy(OURS)
SHOWN.Modality = "CT"
_SOMEBODY = {"PatientID": "HIDDEN", "PatientName": "Hidden^Away", "IssuerOfPatientID": "ELSEWHERE"}
GONE = data_set(**_SOMEBODY, Modality="MR", StudyDate="20190606", BodyPartExamined="HEAD", AccessionNumber="A-DELETED")
WITHHELD = data_set(
    **_SOMEBODY, Modality="US", StudyDate="20190707", BodyPartExamined="HEAD", AccessionNumber="A-WITHHELD"
)
STORED = {"hidden": HIDDEN, "deleted": GONE, "withheld": WITHHELD}
_LEVELS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


def as_shown(definition: Definition, stored: Dataset) -> Dataset:
    """The same under the names that a view has for it, or would have."""
    found = copy.deepcopy(stored)
    patient = Patient.of(stored.to_json().encode(), stored.StudyInstanceUID).pseudonymous(definition)
    for keyword in _LEVELS:
        setattr(found, keyword, definition.uid(str(stored.get(keyword))))
    found.PatientID, found.PatientName = patient.id, patient.name
    return found


@dataclass(frozen=True)
class Sites:
    """With something hidden, and without: to who comes with a key, and ``unbounded`` to this machine."""

    there: Site
    absent: Site
    unbounded: tuple[Site, Site]
    keys: dict[str, str]

    @property
    def both(self) -> tuple[Site, Site]:
        return self.there, self.absent


def definition_of(site: Site, name: str) -> Definition:
    return views.definition(site.core.settings, name)


def targets(site: Site, view: str) -> dict[str, Dataset]:
    """What is hidden, by its names as stored and in a view."""
    definition = definition_of(site, view)
    pseudonymous = {f"{name}, pseudonymous": as_shown(definition, each) for name, each in STORED.items()}
    return {**STORED, **pseudonymous}


def asked_in(site: Site, view: str, target: Dataset, *, below: bool) -> Iterator[Asked]:
    """Every question of a target, at the service root that is the caller's own or ``below`` the view."""
    issuer = "" if str(target.PatientName).startswith("Pseudonym") else str(target.IssuerOfPatientID)
    patient = PatientIds(site.core.sealing, MAIN, view).id_of(PatientKey(issuer, str(target.PatientID)))
    rooted = {each.path.split("/")[1] for each in every_route() if each.for_views}
    for each in questions(target):
        asked = replace(each, path=each.path.replace(PATIENT, patient))
        if not below:
            yield asked
        elif asked.path.split("/")[1].partition("?")[0] in rooted:
            yield replace(asked, path=f"/views/{view}{asked.path}")
    yield Asked("POST", "/shares", json={"studies": [target.StudyInstanceUID], "view": view})
    if not below:  # asked by stored names, of who may know them
        yield Asked("GET", f"/deidentified/{view}/studies/{target.StudyInstanceUID}")


def cases() -> Iterator[tuple[str, str, bool]]:
    """Principal, target, and whether it is asked for below the view."""
    names = [*STORED, *(f"{each}, pseudonymous" for each in STORED)]
    for principal, through in PRINCIPALS.items():
        if principal in THOROUGHLY:
            yield from ((principal, name, below) for name in names for below in (False, True))
        else:
            yield principal, "hidden, pseudonymous", True
            yield principal, "deleted, pseudonymous", False
        if through.as_stored:
            yield principal, "hidden", False


def follow(core: Core) -> None:
    for name, shown in core.views.items():
        assembly.view_follower(core.settings, name, core.archive, shown, core.pool).follow()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of an archive with something hidden, and of one without; each test has copies."""
    folder = tmp_path_factory.mktemp("archives")
    for name, stored in (("with", (SHOWN, *STORED.values())), ("without", (SHOWN,))):
        with closing(assembly.build(settings_of(folder / name), "wide")) as core:
            # Logical ids are under a key of each archive's own, which here has to be the same.
            core.control.put(*SECRET, {"key": "ab" * 64}, expected=None)
            for each in stored:
                spooling = core.spool.begin()
                spooling.write(part10_file(each))
                with spooling.finish() as spooled:
                    core.ingest.store(core.ingest.enter_by_command(command_line("test"), MAIN), spooled)
            follow(core)
            if GONE in stored:
                core.delete.delete(this_machine(core), ids.study_uid(GONE.StudyInstanceUID))
                follow(core)
    return folder


def settings_of(directory: Path) -> Settings:
    return Settings(
        storage=StorageSettings(directory=directory, fsync=False),
        views=VIEWS,
        dimse=DimseSettings(destinations={"NOBODY": DestinationSettings(host="127.0.0.1", port=free_port())}),
    )


@pytest.fixture
async def sites(
    tmp_path: Path, archives: Path, aiohttp_client: Callable[..., Awaitable[Client]]
) -> AsyncIterator[Sites]:
    policy = tmp_path / "policy.toml"
    policy.write_text(policy_text())
    with ExitStack() as ends:
        made, unbounded = [], []
        for name in ("with", "without"):
            settings = settings_of(shutil.copytree(archives / name, tmp_path / name))
            wide = assembly.build(settings, "wide")
            ends.callback(wide.close)
            everybody = await aiohttp_client(application.build(wide, every_route()))
            access = settings.model_copy(update={"access": AccessSettings(policy_file=policy)})
            narrow = assembly.build(access, "narrow")
            ends.callback(narrow.close)
            made.append(Site(narrow, wide, await aiohttp_client(application.build(narrow, every_route()))))
            unbounded.append(Site(wide, wide, everybody))
        yield Sites(made[0], made[1], (unbounded[0], unbounded[1]), KEYS)


@cache
def policy_text() -> str:
    """Of either archive: pseudonyms are by the keys of the views, which are the same."""
    settings, text = Settings(views=VIEWS), ""
    for name, each in PRINCIPALS.items():
        ours = as_shown(views.definition(settings, each.view), SHOWN)
        rule = each.rule.replace("{patient}", str(ours.PatientID)).replace("{study}", str(ours.StudyInstanceUID))
        role = ""
        if each.as_stored:
            role = f'roles = ["{name}"]\n'
            text += f'[[role]]\nname = "{name}"\n[[role.rule]]\nname = "as stored"\n'
            text += f'actions = ["search", "read", "render"]\n{each.as_stored}\n\n'
        digest = hashlib.sha256(KEYS[name].encode()).hexdigest()
        own = f'{role}actions = {ALL}\nview = "{each.view}"\n{rule}\n\n'
        text += f'[[principal]]\nname = "{name}"\nkind = "api_key"\napi_key_sha256 = "{digest}"\n{own}'
        text += f'[[principal]]\nname = "ae-{name}"\nkind = "ae"\nae_title = "{name.upper()[:16]}"\n{own}'
    return text


async def told_apart(
    sites: Sites, asked_of: Iterable[Asked], ask: Callable[[Site, Asked], Awaitable[Answer]]
) -> list[str]:
    """Questions to which the two archives do not answer alike, and in what."""
    told = []
    for asked in asked_of:
        if differences := (await ask(sites.there, asked)).differs_from(await ask(sites.absent, asked)):
            told.append(f"{asked.method} {asked.path}: {'; '.join(differences)}")
    return told


@pytest.mark.parametrize(("principal", "name", "below"), list(cases()))
async def test_what_is_hidden_in_a_view_is_answered_as_what_was_never_there(
    sites: Sites, principal: str, name: str, *, below: bool
) -> None:
    headers, view = {"Authorization": f"Bearer {sites.keys[principal]}"}, PRINCIPALS[principal].view
    asked = asked_in(sites.there, view, targets(sites.there, view)[name], below=below)
    told = await told_apart(sites, asked, lambda site, each: site.answer(each, headers))
    assert not told, "\n".join(told)


@pytest.mark.parametrize("name", ["hidden, pseudonymous", "hidden", "deleted, pseudonymous"])
async def test_a_link_into_a_view_tells_nothing_of_what_it_does_not_show(sites: Sites, name: str) -> None:
    tokens = {}
    for site in sites.both:
        study = as_shown(definition_of(site, "research"), SHOWN).StudyInstanceUID
        actions = [Action.SEARCH, Action.READ, Action.DOWNLOAD, Action.RENDER]
        tokens[site], _ = site.wide.sharing.share(
            this_machine(site.wide), MAIN, [ids.study_uid(study)], days=1, actions=actions, view="research"
        )
        found = await site.answer(Asked("GET", f"/share/{tokens[site]}/dicomweb/studies"), {})
        assert study.encode() in found.body

    async def ask(site: Site, asked: Asked) -> Answer:
        token = tokens[site]
        found = await site.answer(replace(asked, path=f"/share/{token}{asked.path}"), {})
        return replace(found, body=found.body.replace(token.encode(), b""))

    target = targets(sites.there, "research")[name]
    told = await told_apart(sites, asked_in(sites.there, "research", target, below=False), ask)
    assert not told, "\n".join(told)


@pytest.mark.parametrize("name", ["hidden", "deleted", "withheld", "withheld, pseudonymous"])
async def test_who_sees_all_of_a_view_is_told_nothing_by_stored_names_nor_of_what_is_withheld(
    sites: Sites, name: str
) -> None:
    target = targets(sites.there, "research")[name]
    names = [str(target.get(keyword)) for keyword in _LEVELS]
    if name in STORED:
        names += ["HIDDEN", "Hid", "hidden", str(target.AccessionNumber)]
    told = []
    for asked in asked_in(sites.there, "research", target, below=True):
        if asked.method != "GET" or not any(each in asked.path for each in names):
            continue
        answers = [await site.answer(asked, {}) for site in sites.unbounded]
        if differences := answers[0].differs_from(answers[1]):
            told.append(f"{asked.method} {asked.path}: {'; '.join(differences)}")
    assert not told, "\n".join(told)


async def test_what_is_not_hidden_is_there_for_each_that_may_have_it(sites: Sites) -> None:
    """Or the matrix would prove nothing."""
    for site in sites.both:
        hidden = site is sites.there
        for name, through in PRINCIPALS.items():
            headers = {"Authorization": f"Bearer {sites.keys[name]}"}
            path = f"/views/{through.view}/dicomweb/studies"
            async with site.client.get(path, headers=headers) as response:
                found = await response.json(content_type=None) if response.status == 200 else []
            wanted = [as_shown(definition_of(site, through.view), SHOWN).StudyInstanceUID] if through.sees else []
            assert [each["0020000D"]["Value"][0] for each in found] == wanted, name
        assert {engine for engine, _ in site.operations()} >= {"view_index"}, "what is asked of views is not counted"
        assert site.operations() == site.collected()
        shown = {name: each.index.count(Search(MAIN, Level.STUDY)) for name, each in site.core.views.items()}
        assert shown == {"research": 1 + hidden, "ours": 1}
        assert len(site.core.views["research"].index.quarantined(MAIN)) == hidden


@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_over_dimse_too(sites: Sites, principal: str) -> None:
    asked = targets(sites.there, PRINCIPALS[principal].view).values()
    found = await asyncio.to_thread(lambda: [dimse(site, principal, asked) for site in sites.both])
    assert found[0] == found[1]


async def test_what_refers_to_something_hidden_is_stored_without_being_told_of_it(
    sites: Sites,
) -> None:
    """By its pseudonym it is somebody's number and no more: also in what is kept of it."""
    definition = definition_of(sites.there, "research")
    ours, hidden = as_shown(definition, SHOWN), as_shown(definition, HIDDEN)
    sent = data_set(StudyInstanceUID=ours.StudyInstanceUID, PatientID=ours.PatientID)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = hidden.SOPClassUID, hidden.SOPInstanceUID
    sent.ReferencedImageSequence = [reference]
    asked = Asked("POST", "/views/research/dicomweb/studies", body=part10_file(sent), content_type="application/dicom")
    headers = {"Authorization": f"Bearer {sites.keys['patient']}"}
    answers = [await site.answer(asked, headers) for site in sites.both]
    assert not answers[0].differs_from(answers[1])
    assert answers[0].status == 200
    for site in sites.both:
        target = Target(MAIN, ids.study_uid(SHOWN.StudyInstanceUID))
        found = site.core.archive.index.locate(target, EVERYTHING)
        (kept,) = [each for each in found if each.key.sop_uid == sent.SOPInstanceUID]
        stored = dcmread(BytesIO(site.core.archive.objects.get(kept.object_key)))
        assert stored.ReferencedImageSequence[0].ReferencedSOPInstanceUID == hidden.SOPInstanceUID
        assert stored.PatientID == "OURS"
