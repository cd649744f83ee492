"""What surrounds the resources: errors, media types, parameters that are not known, capabilities, the document."""

from __future__ import annotations

import io
import re
from collections.abc import Awaitable, Callable

import pytest

from gateway import assembly
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from gateway.fhir import outcome
from gateway.fhir.routes import routes
from gateway.http import application, problem
from tests.gateway.dicomweb.conftest import Client
from tests.gateway.fhir.conftest import get, ids, links, matches, valid
from tests.gateway.fhir.test_imaging_study import put
from tests.instances import data_set
from tests.issuer import DISCOVERY, Issuer


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("ImagingStudy?nonsense=1", 400, "invalid"),
        ("ImagingStudy?patient:missing=true", 400, "invalid"),
        ("ImagingStudy?modality:not=CT", 400, "invalid"),
        ("ImagingStudy?patient=", 400, "invalid"),
        ("ImagingStudy?patient=a,,b", 400, "invalid"),
        ("ImagingStudy?patient=Group/1", 400, "invalid"),
        ("ImagingStudy?patient=http://elsewhere.example.org/fhir/Patient/1", 400, "invalid"),
        ("ImagingStudy?started=yesterday", 400, "invalid"),
        ("ImagingStudy?started=ap2026", 400, "invalid"),
        ("ImagingStudy?started=2026-02-30", 400, "invalid"),
        ("ImagingStudy?started=2026-02-03T25:00Z", 400, "invalid"),
        ("ImagingStudy?started=2026-02-03T10:00%2B19:00", 400, "invalid"),
        ("ImagingStudy?started=9999-12-31", 400, "invalid"),
        ("ImagingStudy?identifier=a|b|c", 400, "invalid"),
        ("ImagingStudy?identifier=urn:dicom:uid|", 400, "invalid"),
        ("ImagingStudy?identifier=%00", 400, "invalid"),
        ("ImagingStudy?identifier=" + "a," * 101 + "a", 400, "invalid"),
        ("ImagingStudy?" + "&".join(["modality=CT"] * 70), 400, "invalid"),
        ("ImagingStudy?" + "&".join(["started=ne2026" + ",ne2026" * 66] * 3), 400, "invalid"),
        ("ImagingStudy?_count=-1", 400, "invalid"),
        ("ImagingStudy?_count=many", 400, "invalid"),
        ("ImagingStudy?_page=1", 400, "invalid"),
        ("ImagingStudy?_total=all", 400, "invalid"),
        ("ImagingStudy?_summary=short", 400, "invalid"),
        ("ImagingStudy?_sort=started", 400, "invalid"),
        ("ImagingStudy?_include=ImagingStudy:basedon", 400, "invalid"),
        ("ImagingStudy?_include=*", 400, "invalid"),
        ("Patient?birthdate=2026-01-01T10:00Z", 400, "invalid"),
        ("Patient?name=^", 400, "invalid"),
        ("Patient?name=Gr*", 400, "invalid"),
        ("Patient?name=" + "a+" * 900 + "a", 400, "invalid"),
        ("Patient?" + "&".join(["name=" + "a^a," * 10 + "a"] * 5), 400, "invalid"),
        ("Patient?name:exact=Gray", 400, "invalid"),
        ("Endpoint?address=x", 400, "invalid"),
        ("ImagingStudy?_format=xml", 406, "not-supported"),
        ("metadata?_format=application/fhir%2Bxml", 406, "not-supported"),
        ("Observation", 404, "not-found"),
        ("ImagingStudy/1.2.3/_history/1", 404, "not-found"),
        ("", 404, "not-found"),
    ],
)
async def test_errors_are_outcomes(client: Client, path: str, status: int, code: str) -> None:
    found = await get(client, path, status=status)
    assert found["resourceType"] == "OperationOutcome"
    (issue,) = found["issue"]
    assert (issue["severity"], issue["code"]) == ("error", code)
    assert issue["diagnostics"]


async def test_a_posted_search_is_the_same_as_another(client: Client) -> None:
    await put(client, data_set(PatientID="A"), data_set(PatientID="B", Modality="MR"))
    for kind, query in (
        ("ImagingStudy", {"patient": "A"}), ("Patient", {"identifier": "B", "_count": "1"}), ("Endpoint", {"_id": "x"}),
        ("AuditEvent", {"action": "C"}),
    ):  # fmt: skip
        gotten = await get(client, f"{kind}?{'&'.join(f'{name}={text}' for name, text in query.items())}")
        async with client.post(f"/fhir/{kind}/_search", data=query) as response:
            assert response.status == 200
            assert valid(await response.json(content_type=None)) == gotten
    async with client.post("/fhir/Patient/_search", data={"_format": "application/json"}) as response:
        assert response.headers["Content-Type"].startswith("application/json")
    for data, kind, status in (
        (b'{"patient": "A"}', "application/json", 415),
        (b"patient=A&nonsense=1", "application/x-www-form-urlencoded", 400),
        (b"patient=" + b"A" * (1 << 20), "application/x-www-form-urlencoded", 413),
        (b"patient=\xff", "application/x-www-form-urlencoded", 400),
        (b"patient=A", "application/x-www-form-urlencoded; charset=none", 400),
    ):
        async with client.post(
            "/fhir/ImagingStudy/_search", data=io.BytesIO(data), headers={"Content-Type": kind}
        ) as response:
            assert response.status == status
            valid(await response.json(content_type=None))


async def test_of_other_methods_too_and_below_views(client: Client) -> None:
    for path in ("/fhir/ImagingStudy", "/views/none/fhir/Patient/1"):
        async with client.post(path, json={}) as response:
            assert response.status == 405
            assert valid(await response.json(content_type=None))["issue"][0]["code"] == "not-supported"
            assert "GET" in response.headers["Allow"]
    await get(client, "/views/none/fhir/ImagingStudy", status=404)
    await get(client, "/share/none/fhir/ImagingStudy", status=404)
    async with client.get("/dicomweb/nothing") as response:
        assert response.headers["Content-Type"].startswith(problem.MEDIA_TYPE)


async def test_whatever_an_error_is_an_outcome_tells_it(
    client: Client, core: assembly.Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("with a Patient^Name in it")

    monkeypatch.setattr(core.projections.stored.query.__class__, "search", fails)
    found = await get(client, "ImagingStudy", status=500)
    assert "Patient^Name" not in str(found)
    assert found["issue"][0]["code"] == "exception"
    for status in {*problem.STATUS.values()}:
        response = outcome.told(status, "wrong", "0" * 16)  # type: ignore[arg-type]
        assert response.headers.get("Retry-After") == problem.headers_of(status).get("Retry-After")


async def test_unknown_parameters_are_passed_over_for_who_wants_it(client: Client) -> None:
    await put(client, data_set())
    for prefer in ("handling=lenient", "return=minimal, handling=lenient", 'respond-async; handling="lenient"'):
        bundle = await get(client, "ImagingStudy?nonsense=1&modality=CT", headers={"Prefer": prefer})
        assert (len(matches(bundle)), links(bundle)["self"]) == (1, "/fhir/ImagingStudy?modality=CT")
    for prefer in ("handling=strict", "return=minimal", "handling=lenientish"):
        await get(client, "ImagingStudy?nonsense=1", status=400, headers={"Prefer": prefer})
    await get(client, "ImagingStudy?modality:not=CT", status=400, headers={"Prefer": "handling=lenient"})
    await get(client, "AuditEvent?nonsense=1", headers={"Prefer": "handling=lenient"})


@pytest.mark.parametrize(
    ("accept", "query", "kind"),
    [
        (None, "", "application/fhir+json"),
        ("*/*", "", "application/fhir+json"),
        ("application/*", "", "application/fhir+json"),
        ("application/fhir+json; fhirVersion=4.0", "", "application/fhir+json"),
        ("application/json", "", "application/json"),
        ("application/fhir+xml, application/json;q=0.5, application/fhir+json;q=0.1", "", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "", "application/fhir+json"),
        ("application/fhir+xml", "?_format=json", "application/fhir+json"),
        ("application/fhir+xml", "?_format=application/fhir+json", "application/fhir+json"),
        ("application/fhir+xml", "?_format=application/json", "application/json"),
        ("application/fhir+xml", "", None),
        ("text/html", "", None),
        ("application/fhir+json; fhirVersion=5.0", "", None),
        ("application/fhir+json;q=0", "", None),
    ],
)
async def test_the_media_type_is_the_one_that_is_asked_for(
    client: Client, accept: str | None, query: str, kind: str | None
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    skipped = ["Accept"] if accept is None else []
    for path in ("metadata", "ImagingStudy", "Patient", "Endpoint", "Endpoint/dicom-wado-rs", "AuditEvent"):
        async with client.get(f"/fhir/{path}{query}", headers=headers, skip_auto_headers=skipped) as response:
            found = valid(await response.json(content_type=None))
            assert response.status == (406 if kind is None else 200)
            assert response.headers["Content-Type"] == f"{kind or 'application/fhir+json'}; charset=utf-8"
            assert response.headers["Cache-Control"] == "no-store" or kind is None
            assert found.get("resourceType") != "OperationOutcome" or kind is None


async def test_the_statement_names_what_there_is_and_nothing_else(client: Client) -> None:
    statement = await get(client, "metadata", headers={"X-API-Key": "nobody's"})
    (rest,) = statement["rest"]
    assert statement["fhirVersion"] == "4.0.1"
    assert rest["security"]["cors"] is False
    assert "extension" not in rest["security"]
    kinds = {each["type"]: each for each in rest["resource"]}
    served = {route.path.split("/")[2] for route in routes() if route.action is not None}
    assert kinds.keys() == served
    sample = {"date": "2026", "reference": "x"}
    for name, kind in kinds.items():
        assert [each["code"] for each in kind["interaction"]] == ["read", "search-type"]
        for each in kind["searchParam"]:
            value = "1.2.3" if each["name"] == "entity" else sample.get(each["type"], "x")
            async with client.get(f"/fhir/{name}?{each['name']}={value}") as response:
                assert response.status == 200, each
    below = await get(client, "/views/research/fhir/metadata")
    assert {each["type"] for each in below["rest"][0]["resource"]} == served - {"AuditEvent"}
    assert below["implementation"]["url"].endswith("/views/research/fhir")


async def test_the_statement_tells_where_tokens_come_from(
    settings: Settings, issuer: Issuer, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    issuer.answers[DISCOVERY] = {
        **issuer.answers[DISCOVERY],  # type: ignore[dict-item]
        "authorization_endpoint": f"{issuer.url}/authorize",
        "token_endpoint": f"{issuer.url}/token",
        "code_challenge_methods_supported": ["S256"],
        "something_else": "not ours to tell",
    }
    for smart, code in ((False, "OAuth"), (True, "SMART-on-FHIR")):
        access = AccessSettings(issuers=(issuer.settings(smart=smart),))
        http = HttpSettings(port=0, cors_origins=("https://app.example.org",))
        core = assembly.build(settings.model_copy(update={"access": access, "http": http}), f"http-{code}")
        client = await aiohttp_client(application.build(core, routes()))
        security = (await get(client, "metadata"))["rest"][0]["security"]
        assert security["cors"] is True
        assert security["service"][0]["coding"][0]["code"] == code
        (uris,) = security["extension"]
        assert uris["url"] == "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
        assert {each["url"]: each["valueUri"] for each in uris["extension"]} == {
            "authorize": f"{issuer.url}/authorize",
            "token": f"{issuer.url}/token",
        }
        async with client.get("/fhir/.well-known/smart-configuration") as response:
            assert response.status == (200 if smart else 404)
            found = await response.json(content_type=None)
        if smart:
            assert (found["issuer"], found["token_endpoint"]) == (issuer.url, f"{issuer.url}/token")
            assert found["code_challenge_methods_supported"] == ["S256"]
            assert "smart-imaging-access" in found["capabilities"]
            assert "patient/ImagingStudy.rs" in found["scopes_supported"]
            assert "something_else" not in found
        core.close()


async def test_a_provider_that_does_not_answer_is_asked_once_in_a_while(
    settings: Settings, issuer: Issuer, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    issuer.is_down = True
    access = AccessSettings(issuers=(issuer.settings(smart=True, refresh_s=60.0),))
    core = assembly.build(settings.model_copy(update={"access": access}), "http-1")
    client = await aiohttp_client(application.build(core, routes()))
    for _ in range(5):
        security = (await get(client, "metadata"))["rest"][0]["security"]
        assert "extension" not in security
    assert issuer.asked[DISCOVERY] == 1
    core.close()


async def test_the_document_has_every_route(client: Client) -> None:
    async with client.get("/fhir/openapi.json", headers={"X-API-Key": "nobody's"}) as response:
        assert response.status == 200
        document = await response.json()
    for route in routes():
        if route.path.endswith("openapi.json"):
            continue
        entry = document["paths"][route.path.removeprefix("/fhir")]
        operation = entry[route.method.lower()]
        assert ("requestBody" in operation) is (route.method == "POST")
        assert operation["summary"]
        assert {each["name"] for each in entry["parameters"]} == set(re.findall(r"\{(\w+)\}", route.path))
        assert "application/json" in operation["responses"]["200"]["content"]
    refused = document["components"]["responses"]["400"]["content"]
    assert list(refused) == ["application/fhir+json"]


async def test_an_app_of_another_site_may_say_how_it_wants_it(
    settings: Settings, aiohttp_client: Callable[..., Awaitable[Client]]
) -> None:
    http = HttpSettings(port=0, cors_origins=("https://app.example.org",))
    core = assembly.build(settings.model_copy(update={"http": http}), "http-1")
    client = await aiohttp_client(application.build(core, routes()))
    head = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "GET"}
    async with client.options("/fhir/ImagingStudy", headers=head) as response:
        assert response.status == 204
        assert {"Authorization", "Prefer"} <= set(response.headers["Access-Control-Allow-Headers"].split(", "))
    core.close()


async def test_endpoints_are_found_by(client: Client) -> None:
    for query, count in (
        ("", 1), ("_id=dicom-wado-rs", 1), ("_id=x", 0), ("connection-type=dicom-wado-rs,x", 1), ("status=off", 0),
        ("connection-type=http://terminology.hl7.org/CodeSystem/endpoint-connection-type|dicom-wado-rs", 1),
    ):  # fmt: skip
        bundle = await get(client, f"Endpoint?{query}")
        assert (len(ids(bundle)), bundle["total"]) == (count, count), query
    found = await get(client, "Endpoint/dicom-wado-rs")
    assert found["address"] == str(client.make_url("/dicomweb"))
    assert found["connectionType"]["code"] == "dicom-wado-rs"
    assert found["extension"][0]["valueBoolean"] is False, "this machine shows nothing"
