"""The policy file, what it allows, and the door."""

from __future__ import annotations

import datetime
import logging
import time
from pathlib import Path

import pytest

from gateway.access import live, policy
from gateway.access.actions import Action
from gateway.access.door import Door
from gateway.access.live import LivePolicy
from gateway.access.policy import BUILT_IN
from gateway.access.rules import Permission, Policy, attributes
from gateway.audit.trail import AuditTrail
from gateway.config import InvalidSettings
from gateway.context import Bounds, Caller, Principal, PrincipalKind, Source
from gateway.errors import AuditUnavailable, Forbidden
from storage.dicom.attributes import Level
from storage.dicom.matching import EVERYTHING, NOTHING, OneOf, Record, matches
from storage.dicom.normal import normalise
from storage.index import rows
from tests import trails

AE = """
[[principal]]
name = "scanner"
kind = "ae"
ae_title = "CT1"
networks = ["10.1.0.0/16", "fd00::/8"]
actions = ["echo", "store"]
tenant = "radiology"
scope = { Modality = ["CT", "M*"], PatientSex = ["F"] }
"""

ROLES = """
[[role]]
name = "radiologist"

[[role.rule]]
name = "CT of the last year"
actions = ["search", "read", "render"]
scope = { Modality = ["CT"], StudyDate = ["last 365 days"] }

[[role.rule]]
name = "referred by me"
actions = ["search", "render", "read"]
obligations = ["no_download"]
scope = { ReferringPhysicianName = ["${person}"] }

[[role.rule]]
name = "emergency"
actions = ["search", "read"]
obligations = ["break_glass"]

[[role]]
name = "clinic"

[[role.rule]]
name = "pictures"
actions = ["search", "read", "render"]
obligations = ["rendered_only"]
scope = { PatientID = ["P?", "X1"] }

[[principal]]
name = "reading-room"
kind = "api_key"
api_key_sha256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"  # of "foo"
roles = ["radiologist"]
person = "Gray^Ann"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def load(tmp_path: Path, text: str) -> Policy:
    return policy.load(written(tmp_path, text))


def scanner(found: Policy) -> Principal:
    known = found.by_ae_title("CT1", "10.1.2.3")
    assert known is not None
    return known.principal()


def test_an_ae_is_known_by_title_and_network_together(tmp_path: Path) -> None:
    found = load(tmp_path, AE)
    principal = scanner(found)
    assert (principal.name, principal.kind, principal.tenant) == ("scanner", PrincipalKind.AE, "radiology")
    assert found.by_ae_title("CT1", "::ffff:10.1.2.3") is not None
    assert found.by_ae_title("CT1", "fd00::7") is not None
    assert found.by_ae_title("CT1", "10.2.0.1") is None
    assert found.by_ae_title("CT1", "127.0.0.1") is None
    assert found.by_ae_title("CT2", "10.1.2.3") is None
    assert found.by_name("scanner") == principal
    assert found.by_name("nobody") is None


def test_a_scope_needs_one_value_of_every_attribute(tmp_path: Path) -> None:
    found = load(tmp_path, AE)
    permission = found.permission(scanner(found), Action.STORE)
    assert permission is not None
    assert matches(permission.scope, {"modality": "MR", "patient_sex": "F"})
    assert not matches(permission.scope, {"modality": "US", "patient_sex": "F"})
    assert not matches(permission.scope, {"modality": "CT"})
    assert found.permission(scanner(found), Action.READ) is None


SENDING = """
[[principal]]
name = "scanner"
kind = "ae"
ae_title = "CT1"
actions = ["store"]
sending = {}
"""


def test_what_an_ae_may_send_is_named_by_keyword_or_uid(tmp_path: Path) -> None:
    written_as = '{ sop_classes = ["CTImageStorage", "1.2.3.4"], transfer_syntaxes = ["JPEG2000Lossless"] }'
    known = load(tmp_path, SENDING.replace("{}", written_as)).by_ae_title("CT1", "127.0.0.1")
    assert known is not None
    assert known.sending.sop_classes == {"1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"}
    assert known.sending.takes_syntax("1.2.840.10008.1.2.4.90")
    assert not known.sending.takes_syntax("1.2.840.10008.1.2")
    assert (known.sending.max_instance_bytes, known.sending.max_bytes_per_s, known.sending.conflict) == (None,) * 3


@pytest.mark.parametrize(
    ("sending", "fault"),
    [
        ('{ sop_classes = ["CTImage"] }', "'CTImage' is neither a UID nor the keyword of a SOP Class"),
        ('{ transfer_syntaxes = ["CTImageStorage"] }', "nor the keyword of a Transfer Syntax"),
        ("{ max_bytes_per_s = 10 }", "greater than or equal to 65536"),
        ('{ conflict = "keep" }', "'version' or 'reject'"),
        ("{ rate = 10 }", "Extra inputs are not permitted"),
    ],
)
def test_bounds_that_are_none_are_refused(tmp_path: Path, sending: str, fault: str) -> None:
    with pytest.raises(InvalidSettings, match=fault):
        load(tmp_path, SENDING.replace("{}", sending))


def test_only_an_ae_has_bounds_of_sending(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match='sending: only for kind = "ae"'):
        load(tmp_path, '[[principal]]\nname = "x"\nkind = "loopback"\nsending = { conflict = "reject" }\n')


def test_without_a_file_this_machine_may_do_everything_and_nobody_else_anything() -> None:
    here = BUILT_IN.by_loopback("127.0.0.1")
    assert here is not None
    assert all(
        BUILT_IN.permission(here, action) == Permission(EVERYTHING, ("administrator",), False)
        for action in Action
        if action not in (Action.READ_DEIDENTIFIED, Action.REIDENTIFY)
    )
    assert BUILT_IN.permission(here, Action.READ_DEIDENTIFIED, view="research") is not None
    assert BUILT_IN.default_view(here, Action.SEARCH) == ""
    assert BUILT_IN.permission(here, Action.REIDENTIFY) is None
    assert BUILT_IN.by_loopback("::1") is not None
    assert BUILT_IN.by_loopback("192.168.1.5") is None
    assert BUILT_IN.by_ae_title("ANY", "127.0.0.1") is not None
    assert BUILT_IN.by_ae_title("ANY", "192.168.1.5") is None
    assert BUILT_IN.by_api_key("", "127.0.0.1") is None


ANONYMOUS = """
[[principal]]
name = "reading-rooms"
kind = "anonymous"
networks = ["10.3.0.0/16", "127.0.0.0/8"]
actions = ["search", "render"]
"""


def test_who_shows_nothing_is_somebody_only_where_the_policy_says_so(tmp_path: Path) -> None:
    found = load(tmp_path, ANONYMOUS)
    here = found.anonymous("10.3.4.5")
    assert here is not None
    assert (here.name, here.kind) == ("reading-rooms", PrincipalKind.ANONYMOUS)
    assert found.permission(here, Action.READ) is None
    assert found.anonymous("10.4.0.1") is None
    assert found.by_loopback("127.0.0.1") is None
    assert BUILT_IN.anonymous("127.0.0.1") is None


def reader(*roles: str, person: str = "Gray^Ann", bounds: Bounds | None = None) -> Principal:
    """Somebody who was recognised elsewhere, by a password or token."""
    return Principal("ann", PrincipalKind.OIDC, "main", frozenset(roles), attributes("ann", person), bounds)


TODAY = datetime.datetime.now(datetime.UTC).date()
RECENT = {"modality": "CT", "study_date": f"{TODAY - datetime.timedelta(days=300):%Y%m%d}"}
OLD = {"modality": "CT", "study_date": f"{TODAY - datetime.timedelta(days=400):%Y%m%d}"}
REFERRED = {"modality": "MR", "referring_physician_name": str(normalise("PN", "Gray^Ann"))}


def may(found: Policy, principal: Principal, action: Action, record: Record, *, reason: bool = False) -> bool:
    permission = found.permission(principal, action, has_reason=reason)
    return permission is not None and matches(permission.scope, record)


def test_rules_of_a_role_add_up_and_a_date_moves_with_the_day(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    ann, bob = reader("radiologist"), reader("radiologist", person="Bob")
    assert may(found, ann, Action.READ, RECENT)
    assert not may(found, ann, Action.READ, OLD)
    assert may(found, ann, Action.READ, REFERRED)
    assert not may(found, bob, Action.READ, REFERRED)
    assert not may(found, reader("radiologist", person=""), Action.READ, {"referring_physician_name": ""})
    assert not may(found, ann, Action.DELETE, RECENT)


def test_what_is_known_of_a_principal_is_taken_literally(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    star = found.permission(reader("radiologist", person="*"), Action.RENDER)
    assert star is not None
    assert not matches(star.scope, {"referring_physician_name": "somebody else"})
    empty = found.permission(reader("radiologist", person="a=b=c=d"), Action.RENDER)
    assert empty is not None
    assert not matches(empty.scope, {"referring_physician_name": "a"})


@pytest.mark.parametrize("person", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "山田^太郎", "Yamada^Tarou", "=山田^太郎"])
def test_a_name_is_found_in_whichever_of_its_groups(tmp_path: Path, person: str) -> None:
    found = load(tmp_path, ROLES)
    groups = ("Yamada^Tarou", "山田^太郎", "やまだ^たろう")
    columns = (f"referring_physician_name{end}" for end in ("", "_i", "_p"))
    record = {column: str(normalise("PN", group)) for column, group in zip(columns, groups, strict=True)}
    assert may(found, reader("radiologist", person=person), Action.READ, record)
    assert not may(found, reader("radiologist", person=f"{person}=鈴木^一郎"), Action.READ, record)
    assert not may(found, reader("radiologist", person="=="), Action.READ, record)


PLACES = """
[[role]]
name = "reader"

[[role.rule]]
name = "read by me"
actions = ["read"]
scope = { NameOfPhysiciansReadingStudy = ["${person}"] }

[[role]]
name = "outpost"

[[role.rule]]
name = "sent by us"
actions = ["read"]
scope = { SourceApplicationEntityTitle = ["OUT_*", "CT9"] }

[[role]]
name = "anywhere"

[[role.rule]]
name = "sent by somebody"
actions = ["read"]
scope = { SourceApplicationEntityTitle = ["*"] }
"""


def read_by(*names_: str) -> Record:
    element = {
        "vr": "PN",
        "Value": [{"Alphabetic": a, "Ideographic": i} for a, _, i in (n.partition("=") for n in names_)],
    }
    return rows.record({"00081060": element}, Level.STUDY)


def test_who_reads_a_study_is_any_one_of_those_it_names(tmp_path: Path) -> None:
    found = load(tmp_path, PLACES)
    ann = reader("reader", person="Gray^Ann=灰^安")
    assert may(found, ann, Action.READ, read_by("Black^Bob", "gray^ANN=灰^安"))
    assert not may(found, ann, Action.READ, read_by("Gray^Ann=他^人", "Black^Bob=灰^安")), "the groups of two others"
    assert not may(found, ann, Action.READ, read_by("Black^Bob"))
    assert not may(found, ann, Action.READ, read_by())
    assert not may(found, reader("reader", person=""), Action.READ, read_by(""))


@pytest.mark.parametrize(
    ("sources", "of_outpost", "of_anybody"),
    [
        (["OUT_1"], True, True),
        (["OUT_1", "CT9", "OUT_2"], True, True),
        (["OUT_1", "CT1"], False, True),
        (["OUT_1", ""], False, False),
        ([""], False, False),
        ([], False, False),
    ],
)
def test_a_series_is_in_scope_if_all_of_its_sources_are_known_and_allowed(
    tmp_path: Path, sources: list[str], of_outpost: bool, of_anybody: bool
) -> None:
    found = load(tmp_path, PLACES)
    record: Record = {"series_source": [{"source_ae_title": each} for each in sources]}
    assert may(found, reader("outpost"), Action.READ, record) is of_outpost
    assert may(found, reader("anywhere"), Action.READ, record) is of_anybody
    assert not may(found, reader("anywhere"), Action.READ, {}), "of which nothing is known"


def test_obligations_take_actions_away(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    ann, clinic = reader("radiologist"), reader("clinic")
    assert may(found, ann, Action.READ, REFERRED)
    assert not may(found, ann, Action.DOWNLOAD, REFERRED)
    assert may(found, ann, Action.DOWNLOAD, RECENT)
    assert may(found, clinic, Action.RENDER, {"patient_id": "P1"})
    assert not may(found, clinic, Action.RENDER, {"patient_id": "P11"})
    assert may(found, clinic, Action.SEARCH, {"patient_id": "X1"})
    assert found.permission(clinic, Action.READ) is None
    assert found.permission(clinic, Action.DOWNLOAD) is None


def test_the_glass_is_broken_by_a_reason_only(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    ann = reader("radiologist")
    assert not may(found, ann, Action.READ, OLD)
    assert may(found, ann, Action.READ, OLD, reason=True)
    broken = found.permission(ann, Action.READ, has_reason=True)
    assert broken is not None
    assert broken.broke_glass
    assert "radiologist: emergency" in broken.rules
    # Nothing is broken where no such rule allows the action.
    rendered = found.permission(ann, Action.RENDER, has_reason=True)
    assert rendered is not None
    assert not rendered.broke_glass


def test_bounds_narrow_what_roles_give(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    bounds = Bounds(frozenset(("read", "delete")), OneOf("StudyInstanceUID", ("1.2",)))
    ann = reader("radiologist", bounds=bounds)
    assert may(found, ann, Action.READ, {**RECENT, "study_uid": "1.2"})
    assert not may(found, ann, Action.READ, {**RECENT, "study_uid": "1.3"})
    assert found.permission(ann, Action.SEARCH) is None
    assert found.permission(ann, Action.DELETE) is None


def test_roles_that_nobody_declared_give_nothing(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    assert found.permission(reader("boss"), Action.SEARCH) is None
    assert found.permission(reader(), Action.SEARCH) is None
    assert found.permission(reader("viewer"), Action.SEARCH) is not None
    assert found.roles >= {"radiologist", "clinic", "viewer", "administrator"}
    # The built-in one of that name is replaced.
    assert found.permission(reader("radiologist"), Action.SHARE) is None
    assert not any(":" in name for name in found.roles)


def test_it_can_be_asked_why(tmp_path: Path) -> None:
    found = load(tmp_path, ROLES)
    readings = {each.rule: each for each in found.readings(reader("radiologist", "boss", person=""), Action.READ)}
    assert readings["(no role 'boss')"].why == "the policy does not know the role"
    assert readings["radiologist: emergency"].why == "needs a reason (break glass)"
    assert readings["radiologist: referred by me"].scope == NOTHING
    assert "empty" in readings["radiologist: referred by me"].why
    counting = readings["radiologist: CT of the last year"]
    assert counting.scope is not None
    assert matches(counting.scope, RECENT)
    assert found.readings(reader("clinic"), Action.READ)[0].why == "does not allow read"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nonsense", "not TOML"),
        ("[[principal]]\nname='a'\nkind='robot'\nactions=[]", "principal.0.kind"),
        ("[[principal]]\nname='a'\nkind='api_key'\nactions=[]", "api_key_sha256"),
        ("[[principal]]\nname='a'\nkind='ae'\nactions=['store']", "ae_title"),
        ("[[principal]]\nname='a'\nkind='anonymous'\nactions=['search']", "networks: needed"),
        ("[[principal]]\nname='a'\nkind='user'\nactions=['store']", "is not declared in a policy"),
        ("[[principal]]\nname='a'\nkind='gateway'\nactions=['store']", "is not declared in a policy"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=['fly']", "principal.0.actions"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nscope={Rows=['1']}", "scope.Rows"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nscope={Modality=[]}", "scope.Modality"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nscope={StudyDate=['last week']}", "scope.StudyDate"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nscope={PatientID=['a${name}']}", "stands alone"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\ntenant='A B'", "tenant"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\n" * 2, "'a' stands twice"),
        ("[[principal]]\nname='a'\nkind='loopback'\nroles=['boss']", "principal a: no role 'boss'"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nsecret='x'", "secret"),
        ("[[role]]\nname='own:a'\n[[role.rule]]\nname='r'\nactions=['read']", "role.0.name"),
        ("[[role]]\nname='r'\nrule=[]", "role.0.rule"),
        ("[[role]]\nname='r'\n[[role.rule]]\nname='x'\nactions=[]", "role.0.rule.0.actions"),
        (
            "[[role]]\nname='r'\n" + "[[role.rule]]\nname='x'\nactions=['read']\n" * 2,
            "role r: the rule 'x' stands twice",
        ),
        ("[[role]]\nname='r'\n[[role.rule]]\nname='x'\nactions=['read']\nobligations=['x']", "obligations"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InvalidSettings, match=fault):
        load(tmp_path, text)


# The file while it is in force


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LOOK_EVERY_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_changed_file_is_in_force_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, str]] = []
    path = written(tmp_path, AE)
    kept = LivePolicy(path, lambda outcome, detail: told.append((outcome, detail)))
    assert kept.current().by_ae_title("CT2", "10.1.2.3") is None
    path.write_text(AE.replace("CT1", "CT2"))
    assert kept.current().by_ae_title("CT2", "10.1.2.3") is not None
    assert told == [("changed", "")]
    for broken in (lambda: path.write_text("nonsense"), path.unlink):
        with caplog.at_level(logging.ERROR):
            broken()
            assert kept.current().by_ae_title("CT2", "10.1.2.3") is not None
        assert told[-1][0] == "refused"
    assert len(told) == 3
    assert "the policy stays as it was" in caplog.text
    # As administrators do it: another file takes the place.
    (tmp_path / "new").write_text(AE)
    (tmp_path / "new").replace(path)
    assert kept.current().by_ae_title("CT1", "10.1.2.3") is not None


@pytest.mark.usefixtures("impatient")
def test_a_change_that_cannot_be_recorded_does_not_happen(tmp_path: Path) -> None:
    path = written(tmp_path, AE)
    trail = AuditTrail(tmp_path / "audit", "test")
    door = Door(path, trail)
    path.write_text(AE.replace("CT1", "CT2"))
    (tmp_path / "audit").rmdir()
    for _ in range(2):
        with pytest.raises(AuditUnavailable):
            _ = door.policy
    (tmp_path / "audit").mkdir()
    assert door.policy.by_ae_title("CT2", "10.1.2.3") is not None
    trail.close()


def test_the_file_is_looked_at_once_a_second_however_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    kept = LivePolicy(written(tmp_path, AE))
    stamp = live._stamp

    def counted(path: Path | None) -> object:
        nonlocal looks
        looks += 1
        return stamp(path)

    monkeypatch.setattr(live, "_stamp", counted)
    started_s = time.monotonic()
    for _ in range(10_000):
        kept.current()
    assert looks <= 1 + (time.monotonic() - started_s) / live._LOOK_EVERY_S


# The door


def lines(folder: Path) -> list[dict[str, object]]:
    """What a trail says, but for where each process began and ended."""
    return [each for each in trails.records(folder) if each["action"] not in ("start", "stop")]


def test_every_decision_is_on_the_trail_before_it_is_given(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", "test")
    door = Door(written(tmp_path, AE), trail)
    caller = Caller(scanner(door.policy), Source("DIMSE", "10.1.2.3", "CT1", "GATEWAY"))
    decision = door.enter(caller, Action.STORE, ("1.2.3",))
    assert decision.tenant == "radiology"
    assert decision.scope != EVERYTHING
    with pytest.raises(Forbidden):
        door.enter(caller, Action.READ)
    trail.close()
    allowed, denied = lines(tmp_path / "audit")
    assert (allowed["outcome"], allowed["action"], allowed["subject"]) == ("allowed", "store", ["1.2.3"])
    assert (denied["outcome"], denied["action"], denied["principal"]) == ("denied", "read", "scanner")
    assert (denied["calling"], denied["address"]) == ("CT1", "10.1.2.3")


def test_breaking_the_glass_is_recorded_with_its_reason_and_alarms(tmp_path: Path) -> None:
    alarms: list[None] = []
    trail = AuditTrail(tmp_path / "audit", "test")
    door = Door(written(tmp_path, ROLES), trail, lambda: alarms.append(None))
    source = Source("DICOMweb", "10.1.2.3")
    door.enter(Caller(reader("radiologist"), source, reason="stroke, unconscious"), Action.RENDER)
    assert not alarms
    door.enter(Caller(reader("radiologist"), source, reason="stroke, unconscious"), Action.READ, ("1.2",))
    assert len(alarms) == 1
    trail.close()
    plain, broken = (each for each in lines(tmp_path / "audit") if each["outcome"] != "completed")
    assert (plain["outcome"], plain["detail"]) == ("allowed", "")
    assert (broken["outcome"], broken["detail"]) == ("break-glass", "stroke, unconscious")


def test_a_decision_that_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", "test")
    door = Door(written(tmp_path, AE), trail)
    (tmp_path / "audit").rmdir()
    with pytest.raises(AuditUnavailable):
        door.enter(Caller(scanner(door.policy), Source("DIMSE", "10.1.2.3", "CT1", "GATEWAY")), Action.STORE)


def test_control_characters_of_a_peer_cannot_start_another_line(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", "test")
    door = Door(written(tmp_path, AE), trail)
    evil = Source("DIMSE", "10.1.2.3", 'A\n{"outcome":"allowed"}', "B\x1b[2J")
    door.enter(Caller(scanner(door.policy), evil), Action.STORE)
    trail.close()
    assert [line["action"] for line in lines(tmp_path / "audit")] == ["store"]
