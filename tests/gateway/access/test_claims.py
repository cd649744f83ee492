"""From claims to principals, and what SMART on FHIR scopes leave of them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access import policy
from gateway.access.actions import Action
from gateway.access.claims import principal
from gateway.config.access import IssuerSettings
from gateway.context import Principal, PrincipalKind
from gateway.errors import Unauthenticated
from storage.dicom.matching import EVERYTHING, matches
from storage.dicom.normal import normalise

LOOKING = {Action.READ, Action.DOWNLOAD, Action.RENDER}
ALL = LOOKING | {Action.SEARCH, Action.STORE, Action.DELETE}


def of(claims: dict[str, Any], **settings: Any) -> Principal:
    given = {"issuer": "https://id.example.org", "audience": "gateway", **settings}
    return principal({"sub": "ann", **claims}, IssuerSettings.model_validate(given))


# Who


@pytest.mark.parametrize("name", ["ann", "Ann Gray", "Jörg", "山田", "https://id.example.org/users/7", "x" * 128])
def test_a_name_is_taken_as_it_is(name: str) -> None:
    found = of({"sub": name})
    assert (found.name, found.kind, found.tenant) == (name, PrincipalKind.OIDC, "main")
    assert dict(found.attributes)["name"] == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "x" * 129,
        "a\nb",
        "a\r\nX: y",
        "\x1b[31mann",
        "a\x00",
        "ann\x7f",
        "a\x85b",
        "ann\u202e",
        "a\u2028b",
        "\ud800",
        "a\u200bb",
        None,
        7,
        True,
        {"a": 1},
        [],
        [7],
    ],
    ids=ascii,
)
def test_a_name_that_would_steer_a_log_or_names_nobody_is_refused(name: object) -> None:
    with pytest.raises(Unauthenticated):
        of({"sub": name})


def test_the_name_is_of_the_claim_of_the_settings_alone() -> None:
    assert of({"email": "a@b", "sub": "x"}, name_claim="email").name == "a@b"
    with pytest.raises(Unauthenticated):
        of({}, name_claim="email")


@pytest.mark.parametrize(
    ("path", "claims"),
    [
        ("roles", {"roles": ["viewer", "radiologist"]}),
        ("roles", {"roles": "viewer  radiologist"}),
        ("realm_access.roles", {"realm_access": {"roles": ["viewer", "radiologist"]}}),
        ("resource_access.gateway.roles", {"resource_access": {"gateway": {"roles": ["radiologist", "viewer"]}}}),
        ("https://id.example.org/roles", {"https://id.example.org/roles": ["viewer", "radiologist"]}),
    ],
)
def test_roles_are_a_list_or_words_wherever_they_stand(path: str, claims: dict[str, Any]) -> None:
    assert of(claims, roles_claim=path).roles == {"viewer", "radiologist"}


@pytest.mark.parametrize("roles", [None, 7, True, {"viewer": True}, [[]], [{"name": "viewer"}], [None], ""], ids=str)
def test_roles_that_are_no_names_are_none(roles: object) -> None:
    assert of({"roles": roles}).roles == frozenset()


@pytest.mark.parametrize("path", ["realm_access.roles", "roles.roles"])
def test_a_path_through_what_is_no_object_leads_nowhere(path: str) -> None:
    assert of({"realm_access": ["roles"], "roles": "x"}, roles_claim=path).roles == frozenset()


def test_roles_of_the_gateways_own_are_nobodys_to_give() -> None:
    text = policy.BUILT_IN
    given = ["own:this-machine", "smart:launch", "share:link", ":", "a:b", "view er", "x" * 65, "ro\u202ele", "viewer"]
    found = of({"roles": given})
    assert found.roles == {"viewer"}
    assert text.permission(found, Action.ADMIN) is None
    assert of({"roles": "own:this-machine smart:launch"}).roles == frozenset()


def test_the_tenant_is_of_the_settings_or_of_a_claim_that_has_to_be_there() -> None:
    assert of({"tenant": "x"}).tenant == "main"
    assert of({}, tenant="second").tenant == "second"
    assert of({"org": {"id": "north"}}, tenant_claim="org.id").tenant == "north"
    for org in (None, "", "a/b", "../main", "UPPER CASE", ["north", "south"], 7, {"id": "x"}):
        with pytest.raises(Unauthenticated):
            of({"org": org}, tenant_claim="org")


def test_what_scopes_may_ask_for_comes_from_claims() -> None:
    found = of(
        {"name": "Gray^Ann", "org": {"sites": ["A", "B", 7, ""]}, "unasked": "x"},
        attributes={"site": "org.sites", "none": "org.none"},
    )
    assert dict(found.attributes) == {"name": ("ann",), "person": ("Gray^Ann",), "site": ("A", "B"), "none": ()}


def test_a_rule_with_variables_is_filled_from_the_claims_and_empty_without(tmp_path: Any) -> None:
    (tmp_path / "policy.toml").write_text("""
[[role]]
name = "clinic"
[[role.rule]]
name = "own site"
actions = ["search"]
scope = { InstitutionName = ["${site}"] }
""")
    given = policy.load(tmp_path / "policy.toml")

    def sees(claims: dict[str, Any], institution: str) -> bool:
        found = given.permission(of({"roles": ["clinic"], **claims}, attributes={"site": "site"}), Action.SEARCH)
        return found is not None and matches(found.scope, {"institution_name": normalise("LO", institution)})

    assert sees({"site": ["North", "South"]}, "South")
    assert not sees({"site": ["North", "South"]}, "East")
    for hostile in ("*", "N*", "?????", "a\\b", "x' OR '1'='1", "\x00", "\ud800", "x" * 5000):
        assert not sees({"site": hostile}, "North")
    assert not sees({}, "")
    assert not sees({}, "North")


# SMART App Launch


@pytest.mark.parametrize(
    ("scope", "actions"),
    [
        ("user/ImagingStudy.rs", LOOKING | {Action.SEARCH}),
        ("user/ImagingStudy.r", LOOKING),
        ("user/ImagingStudy.s", {Action.SEARCH}),
        ("user/ImagingStudy.c", {Action.STORE}),
        ("user/ImagingStudy.u", {Action.STORE}),
        ("user/ImagingStudy.d", {Action.DELETE}),
        ("user/ImagingStudy.cruds", ALL),
        ("user/*.rs", LOOKING | {Action.SEARCH}),
        ("user/ImagingStudy.read", LOOKING | {Action.SEARCH}),
        ("user/ImagingStudy.write", {Action.STORE, Action.DELETE}),
        ("user/*.*", ALL),
        ("openid fhirUser user/ImagingStudy.s user/ImagingStudy.r", LOOKING | {Action.SEARCH}),
        ("user/Patient.rs user/ImagingStudy.s", {Action.SEARCH}),
    ],
)
def test_scopes_of_a_user_bound_what_the_users_roles_allow(scope: str, actions: set[Action]) -> None:
    found = of({"scope": scope, "roles": ["viewer"]}, smart=True)
    assert found.roles == {"viewer"}
    assert found.bounds is not None
    assert (found.bounds.actions, found.bounds.scope) == (actions, EVERYTHING)
    assert of({"scope": scope.split(), "roles": ["viewer"]}, smart=True) == found, "a list is the same"
    allowed = {each for each in Action if policy.BUILT_IN.permission(found, each) is not None}
    assert allowed == actions & (LOOKING | {Action.SEARCH}), "a viewer stores nothing, whatever the token says"


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "openid profile",
        "user/Patient.rs",
        "user/imagingstudy.rs",
        "user/ImagingStudy",
        "user/ImagingStudy.",
        "user/ImagingStudy.sr",
        "user/ImagingStudy.rsx",
        "user/ImagingStudy.rr",
        "user/ImagingStudy.Read",
        "user/ImagingStudyX.rs",
        "users/ImagingStudy.rs",
        "xuser/ImagingStudy.rs",
        "user/ImagingStudy.rs?modality=CT",
        "user/ImagingStudy.cruds?",
        "user/*.rs?_security=R",
        "system/ImagingStudy.read?x=y",
        None,
        7,
        {"user/ImagingStudy.rs": True},
        [["user/ImagingStudy.rs"]],
    ],
    ids=str,
)
def test_other_scopes_and_such_with_a_query_give_nothing(scope: object) -> None:
    found = of({"scope": scope, "roles": ["administrator"]}, smart=True)
    assert not any(policy.BUILT_IN.permission(found, each) for each in Action)


def _sees(found: Principal, action: Action, patient_id: str) -> bool:
    allowed = policy.BUILT_IN.permission(found, action)
    return allowed is not None and matches(allowed.scope, {"patient_id": normalise("LO", patient_id)})


def test_a_patients_scope_is_that_patient_alone_whatever_else_is_there() -> None:
    for scope in (
        "patient/ImagingStudy.rs",
        "user/*.cruds patient/ImagingStudy.rs",
        "patient/*.read system/*.*",
        " ".join(["user/*.cruds", *(f"user/Kind{n}.rs" for n in range(200)), "patient/ImagingStudy.rs"]),
    ):
        found = of({"scope": scope, "patient": "P1", "roles": ["administrator"]}, smart=True)
        assert _sees(found, Action.SEARCH, "P1")
        assert _sees(found, Action.READ, "P1")
        assert not _sees(found, Action.READ, "P2")
        for action in (Action.DELETE, Action.STORE, Action.ADMIN, Action.AUDIT_READ, Action.SHARE):
            assert policy.BUILT_IN.permission(found, action) is None


@pytest.mark.parametrize("patient", [None, "", 7, [], ["P1", "P2"], {"id": "P1"}, "\x00"], ids=ascii)
@pytest.mark.parametrize("scope", ["patient/ImagingStudy.rs", "patient/ImagingStudy.rs?x=y user/ImagingStudy.rs"])
def test_a_patients_scope_without_one_patient_is_nobodys(patient: object, scope: str) -> None:
    with pytest.raises(Unauthenticated):
        of({"scope": scope, "patient": patient, "roles": ["administrator"]}, smart=True)


@pytest.mark.parametrize("patient", ["*", "P*", "P?", "P1,P2", "P1' OR '1'='1"])
def test_a_patient_is_taken_literally(patient: str) -> None:
    found = of({"scope": "patient/ImagingStudy.rs", "patient": patient}, smart=True)
    assert not _sees(found, Action.SEARCH, "P1")
    assert not _sees(found, Action.SEARCH, "P")
    assert _sees(found, Action.SEARCH, patient)


def test_a_patients_scope_with_a_query_does_not_widen_into_the_users() -> None:
    claims = {"scope": "patient/ImagingStudy.rs?modality=CT user/ImagingStudy.rs", "patient": "P1", "roles": ["viewer"]}
    found = of(claims, smart=True)
    assert not any(policy.BUILT_IN.permission(found, each) for each in Action)


def test_a_systems_scope_is_all_of_the_tenant_without_a_role() -> None:
    found = of({"scope": "system/ImagingStudy.rs"}, smart=True)
    assert _sees(found, Action.SEARCH, "anybody")
    assert policy.BUILT_IN.permission(found, Action.STORE) is None
    assert policy.BUILT_IN.permission(found, Action.ADMIN) is None


def test_without_the_setting_scopes_neither_bound_nor_give_anything() -> None:
    found = of({"scope": "system/*.* patient/*.rs", "roles": ["viewer"]})
    assert (found.roles, found.bounds) == ({"viewer"}, None)
