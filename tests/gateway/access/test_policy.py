"""The policy file and the door."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.access import policy
from gateway.access.door import Door
from gateway.access.policy import BUILT_IN, Action
from gateway.audit.trail import AuditTrail
from gateway.config import InvalidSettings
from gateway.context import Caller, Principal, PrincipalKind, Source
from gateway.errors import AuditUnavailable, Forbidden
from storage.dicom.matching import EVERYTHING, matches

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


def load(tmp_path: Path, text: str) -> policy.Policy:
    (tmp_path / "policy.toml").write_text(text)
    return policy.load(tmp_path / "policy.toml")


def test_an_ae_is_known_by_title_and_network_together(tmp_path: Path) -> None:
    found = load(tmp_path, AE)
    assert found.by_ae_title("CT1", "10.1.2.3") == Principal("scanner", PrincipalKind.AE)
    assert found.by_ae_title("CT1", "::ffff:10.1.2.3") is not None
    assert found.by_ae_title("CT1", "fd00::7") is not None
    assert found.by_ae_title("CT1", "10.2.0.1") is None
    assert found.by_ae_title("CT1", "127.0.0.1") is None
    assert found.by_ae_title("CT2", "10.1.2.3") is None


def test_a_scope_needs_one_value_of_every_attribute(tmp_path: Path) -> None:
    scope = load(tmp_path, AE).scope(Principal("scanner", PrincipalKind.AE))
    assert matches(scope, {"modality": "MR", "patient_sex": "F"})
    assert not matches(scope, {"modality": "US", "patient_sex": "F"})
    assert not matches(scope, {"modality": "CT"})


def test_without_a_file_this_machine_may_do_everything_and_nobody_else_anything() -> None:
    assert BUILT_IN.by_loopback("127.0.0.1") is not None
    assert BUILT_IN.by_loopback("::1") is not None
    assert BUILT_IN.by_loopback("192.168.1.5") is None
    assert BUILT_IN.by_ae_title("ANY", "127.0.0.1") is not None
    assert BUILT_IN.by_ae_title("ANY", "192.168.1.5") is None
    assert BUILT_IN.by_api_key("", "127.0.0.1") is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nonsense", "not TOML"),
        ("[[principal]]\nname='a'\nkind='robot'\nactions=[]", "principal.0.kind"),
        ("[[principal]]\nname='a'\nkind='api_key'\nactions=[]", "api_key_sha256"),
        ("[[principal]]\nname='a'\nkind='ae'\nactions=['store']", "ae_title"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=['fly']", "principal.0.actions"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nscope={Rows=['1']}", "scope.Rows"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\ntenant='A B'", "tenant"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\n" * 2, "'a' stands twice"),
        ("[[principal]]\nname='a'\nkind='loopback'\nactions=[]\nsecret='x'", "secret"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(InvalidSettings, match=fault):
        load(tmp_path, text)


def caller(name: str = "scanner") -> Caller:
    return Caller(Principal(name, PrincipalKind.AE), Source("DIMSE", "10.1.2.3", "CT1", "GATEWAY"))


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_every_decision_is_on_the_trail_before_it_is_given(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", "test")
    door = Door(load(tmp_path, AE), trail)
    decision = door.enter(caller(), Action.STORE, ("1.2.3",))
    assert decision.tenant == "radiology"
    assert decision.scope != EVERYTHING
    with pytest.raises(Forbidden):
        door.enter(caller(), Action.READ)
    trail.close()
    _, allowed, denied, _ = lines(tmp_path / "audit")
    assert (allowed["outcome"], allowed["action"], allowed["subject"]) == ("allowed", "store", ["1.2.3"])
    assert (denied["outcome"], denied["action"], denied["principal"]) == ("denied", "read", "scanner")
    assert (denied["calling"], denied["address"]) == ("CT1", "10.1.2.3")


def test_a_decision_that_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", "test")
    (tmp_path / "audit").rmdir()
    with pytest.raises(AuditUnavailable):
        Door(load(tmp_path, AE), trail).enter(caller(), Action.STORE)


def test_control_characters_of_a_peer_cannot_start_another_line(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "audit", "test")
    evil = Caller(
        Principal("scanner", PrincipalKind.AE), Source("DIMSE", "10.1.2.3", 'A\n{"outcome":"allowed"}', "B\x1b[2J")
    )
    Door(load(tmp_path, AE), trail).enter(evil, Action.STORE)
    trail.close()
    assert [line["action"] for line in lines(tmp_path / "audit")] == ["start", "store", "stop"]
