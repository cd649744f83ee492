"""``gateway key``, ``gateway user`` and ``gateway policy``: what they do, say, and exit with."""

from __future__ import annotations

import io
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyotp
import pytest

from gateway import assembly, cli, config
from gateway.access import keys, sessions, users
from gateway.context import command_line
from storage.control.base import ControlStore
from storage.dicom import identifiers as ids
from tests.instances import data_set, part10_file

PASSWORD = "correct horse battery"
pytestmark = pytest.mark.usefixtures("cheap_hashes")
POLICY = """
[[role]]
name = "clinic"
[[role.rule]]
name = "own referrals"
actions = ["search", "read"]
scope = { ReferringPhysicianName = ["${person}"], Modality = ["CT"] }
[[role.rule]]
name = "emergency"
actions = ["search", "read"]
obligations = ["break_glass"]

[[principal]]
name = "this-machine"
kind = "loopback"
actions = ["search"]

[[principal]]
name = "outpost"
kind = "ae"
ae_title = "OUT_1"
person = "Gray^Ann"
actions = ["read"]
scope = { NameOfPhysiciansReadingStudy = ["${person}"], SourceApplicationEntityTitle = ["OUT_*"] }
"""


class Site:
    """A settings file, and commands given beside it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / "gateway.toml"
        self.policy = folder / "policy.toml"
        self.policy.write_text(POLICY)
        self.file.write_text('[storage]\ndirectory = "data"\nfsync = false\n[access]\npolicy_file = "policy.toml"\n')
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def give(self, *arguments: str, typed: str = "") -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        self._capsys.readouterr()
        status = cli.main([*arguments, "-c", str(self.file)])
        shown = self._capsys.readouterr()
        return status, shown.out, shown.err

    def told(self, *arguments: str) -> Any:
        """What a command tells a script."""
        status, out, err = self.give(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    def control(self) -> closing[ControlStore]:
        """The control state, looked at from outside."""
        return closing(assembly.control(config.load(self.file)))

    def trail(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "data" / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, capsys, monkeypatch)


# Keys


def test_a_key_is_made_listed_and_revoked(site: Site) -> None:
    status, out, err = site.give("key", "create", "viewer [bold]", "--role", "viewer", "--network", "10.1.0.0/16",
                                 "--days", "30")  # fmt: skip
    assert status == 0
    assert "not shown again" in err
    key = out.strip()
    key_id = keys.key_id_of(key)
    assert key_id is not None, "standard output is the key alone"
    status, out, _ = site.give("key", "list")
    assert (status, out.count("\n")) == (0, 1)
    assert f"{key_id}  viewer [bold]  viewer  made " in out
    assert "until 2" in out
    assert "from 10.1.0.0/16" in out
    (listed,) = site.told("key", "list")["keys"]
    assert (listed["id"], listed["roles"], listed["networks"]) == (key_id, ["viewer"], ["10.1.0.0/16"])
    assert round((listed["expires_at_s"] - listed["created_at_s"]) / 86400) == 30
    assert site.give("key", "revoke", key_id)[:2] == (0, "the key is no good any more\n")
    assert site.told("key", "list") == {"keys": []}
    status, out, err = site.give("key", "list")
    assert (status, out) == (0, "")
    assert "gateway key create" in err
    done = [(line["outcome"], line["subject"]) for line in site.trail() if line["action"] == "admin"]
    assert ("key created", [key_id]) in done
    assert ("key revoked", [key_id]) in done
    assert key not in json.dumps(site.trail())


def test_a_key_for_scripts_is_in_the_report_once(site: Site) -> None:
    made = site.told("key", "create", "program", "--role", "viewer", "--role", "clinic")
    assert keys.key_id_of(made["key"]) == made["id"]
    assert (made["roles"], made["expires_at_s"]) == (["clinic", "viewer"], None)
    assert made["key"] not in json.dumps(site.told("key", "list"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--role", "nurse"], "the policy has no role 'nurse'; it has administrator, auditor, clinic"),
        (["create", "x", "--role", "own:this-machine"], "no role"),
        (["create", "x", "--role", "viewer", "--network", "10.1.0.1/16"], "networks: 10.1.0.1/16 has host bits set"),
        (["create", "x", "--role", "viewer", "--network", "here"], "networks: 'here'"),
        (["create", "", "--role", "viewer"], "name: 1 to 64 printable characters"),
        (["create", "x" * 65, "--role", "viewer"], "name: 1 to 64 printable characters"),
        (["create", "a\x1b[2Jb", "--role", "viewer"], "name: 1 to 64 printable characters"),
        (["revoke", "abcdefghijkl"], "there is no such API key"),
        (["revoke", "../x"], "there is no such API key"),
    ],
)
def test_what_is_wrong_with_a_key_is_said(site: Site, arguments: list[str], said: str) -> None:
    status, out, err = site.give("key", *arguments)
    assert (status, out) == (1, "")
    assert said in err
    assert "\x1b[2J" not in err


@pytest.mark.parametrize(
    "arguments",
    [["key"], ["key", "create", "x"], ["key", "create", "x", "--role", "viewer", "--days", "0"],
     ["key", "list", "--tenant", "../x"], ["user", "add", "x"], ["policy", "explain"],
     ["policy", "explain", "--principal", "x", "--role", "y"], ["policy", "explain", "--role", "x", "--study", "x/y"],
     ["policy", "explain", "--role", "x", "--action", "fly"], ["policy", "test"]],
)  # fmt: skip
def test_a_command_line_that_is_not_understood_is_2(site: Site, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        site.give(*arguments)
    assert left.value.code == 2


def test_keys_are_made_and_revoked_where_an_index_is_lost_and_none_is_made(site: Site) -> None:
    core = assembly.build(config.load(site.file), "test")
    spooling = core.spool.begin()
    spooling.write(part10_file(data_set()))
    decision = core.ingest.enter_by_command(command_line("test"), ids.tenant("main"))
    with spooling.finish() as spooled:
        core.ingest.store(decision, spooled)
    core.close()
    for file in (site.folder / "data").glob("index.sqlite*"):
        file.unlink()
    made = site.told("key", "create", "program", "--role", "viewer")
    assert site.give("key", "revoke", made["id"])[0] == 0
    assert site.give("user", "list")[0] == 0
    assert site.give("policy", "explain", "--role", "viewer")[0] == 0
    assert not list((site.folder / "data").glob("index.sqlite*")), "or the objects would seem to be none"
    status, _, err = site.give("policy", "explain", "--role", "viewer", "--study", "1.2.3")
    assert status == 1
    assert "run `gateway reindex` first" in err


# Users


def test_a_user_is_added_by_standard_input_and_changed(site: Site) -> None:
    added = site.give("user", "add", "ann", "--role", "viewer", "--person", "Gray^Ann", typed=f"{PASSWORD}\nmore\n")
    assert added == (0, "", "note user ann was added\n")
    with site.control() as control:
        found = users.recognise(control, "ann", PASSWORD)
        assert found is not None
        assert dict(found.attributes)["person"] == ("Gray^Ann",)
        session = sessions.begin(control, found)
    assert site.give("user", "list")[1] == "ann  viewer  Gray^Ann\n"
    (listed,) = site.told("user", "list")["users"]
    assert (listed["name"], listed["roles"], listed["disabled"], listed["has_totp"]) == (
        "ann",
        ["viewer"],
        False,
        False,
    )
    assert "password" not in listed

    assert site.give("user", "password", "ann", typed="another long password\r\n")[0] == 0
    with site.control() as control:
        assert users.recognise(control, "ann", "another long password") is not None
        assert sessions.find(control, session) is None, "its sessions have ended"
    status, out, err = site.give("user", "password", "ann", "--generate")
    assert status == 0
    assert "shown this once" in err
    with site.control() as control:
        assert users.recognise(control, "ann", out.strip()) is not None

    status, address, err = site.give("user", "totp", "ann")
    assert status == 0
    assert "not shown again" in err
    code = pyotp.parse_uri(address.strip())
    assert isinstance(code, pyotp.TOTP)
    with site.control() as control:
        assert users.recognise(control, "ann", out.strip()) is None
        assert users.recognise(control, "ann", out.strip(), code.now()) is not None

    assert site.give("user", "disable", "ann")[1] == "user ann is kept out\n"
    assert site.give("user", "list")[1] == "ann  viewer  Gray^Ann  disabled  with a code\n"
    assert site.give("user", "enable", "ann")[1] == "user ann is let in again\n"
    assert site.give("user", "remove", "ann")[1] == "user ann was removed\n"
    status, out, err = site.give("user", "list")
    assert (status, out) == (0, "")
    assert "gateway user add" in err
    done = {line["outcome"] for line in site.trail() if line["action"] == "admin"}
    assert {"user added", "password set", "code required", "user disabled", "user enabled", "user removed"} <= done
    assert PASSWORD not in json.dumps(site.trail())


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (["add", "ann", "--role", "viewer"], "short\n", "a password has at least 12 characters"),
        (["add", "ann", "--role", "viewer"], "", "a password has at least 12 characters"),
        (["add", "ann", "--role", "nurse"], PASSWORD, "the policy has no role 'nurse'; it has"),
        (["add", "ann gray", "--role", "viewer"], PASSWORD, "a name has up to 64 letters, digits and . _ @ -"),
        (["add", "there", "--role", "viewer"], PASSWORD, "there is a user there already"),
        (["password", "nobody"], PASSWORD, "there is no user nobody"),
        (["password", "there"], "short", "a password has at least 12 characters"),
        (["disable", "nobody"], "", "there is no user nobody"),
        (["enable", "nobody"], "", "there is no user nobody"),
        (["totp", "nobody"], "", "there is no user nobody"),
        (["remove", "nobody"], "", "there is no user nobody"),
        (["remove", "there", "--tenant", "second"], "", "there is no user there"),
    ],
)
def test_what_is_wrong_with_a_user_is_said(site: Site, arguments: list[str], typed: str, said: str) -> None:
    assert site.give("user", "add", "there", "--role", "viewer", typed=PASSWORD)[0] == 0
    status, out, err = site.give("user", *arguments, typed=typed)
    assert (status, out) == (1, "")
    assert said in err
    assert PASSWORD not in err


# The policy


def test_a_policy_is_checked_with_every_fault(site: Site) -> None:
    roles = "roles: administrator, auditor, clinic, modality, radiologist, reidentifier, scheduler, viewer\n"
    assert site.give("policy", "check") == (0, roles, "")
    other = site.folder / "other.toml"
    other.write_text("")
    assert site.give("policy", "check", str(other))[:2] == (0, roles.replace("clinic, ", ""))
    faulty = {
        "x = ": ["not TOML"],
        POLICY + '[[principal]]\nname = "p"\nkind = "loopback"\nroles = ["nurse", "cook"]\n': [
            "principal p: no role 'cook'",
            "principal p: no role 'nurse'",
        ],
        POLICY.replace('["CT"]', "[]"): ["scope.Modality: needs at least one value"],
        POLICY.replace("${person}", "Dr ${person}"): ["a variable stands alone"],
        POLICY.replace('"break_glass"', '"glass"'): ["role.0.rule.1.obligations", "'break_glass'"],
        POLICY + POLICY: ["the name 'clinic' stands twice", "the name 'this-machine' stands twice"],
        POLICY.replace('"search"', '"fly"'): ["role.0.rule.0.actions.0", "role.0.rule.1.actions.0"],
    }
    for text, said in faulty.items():
        other.write_text(text)
        status, out, err = site.give("policy", "check", str(other))
        assert (status, out) == (1, "")
        assert "other.toml" in err
        for each in said:
            assert each in err, err
    assert "No such file" in site.give("policy", "check", str(site.folder / "none.toml"))[2]
    site.file.write_text('[storage]\ndirectory = "data"\n')
    status, out, err = site.give("policy", "check")
    assert (status, out) == (0, roles.replace("clinic, ", ""))
    assert "no access.policy_file: this machine may do everything" in err


@pytest.fixture
def study(site: Site) -> str:
    """A CT that Gray^Ann referred, in the archive."""
    found = data_set(ReferringPhysicianName="Gray^Ann", Modality="CT")
    core = assembly.build(config.load(site.file), "test")
    spooling = core.spool.begin()
    spooling.write(part10_file(found))
    decision = core.ingest.enter_by_command(command_line("test"), ids.tenant("main"))
    with spooling.finish() as spooled:
        core.ingest.store(decision, spooled)
    core.close()
    return str(found.StudyInstanceUID)


def test_a_policy_explains_itself(site: Site, study: str) -> None:
    clinic = ("policy", "explain", "--role", "clinic", "--action", "read")
    assert site.give(*clinic, "--person", "Gray^Ann", "--study", study)[:2] == (
        0,
        "somebody may read this study by: clinic: own referrals\n"
        "  yes  clinic: own referrals: the study is in its scope\n"
        "  no   clinic: emergency: needs a reason (break glass)\n",
    )
    assert site.give(*clinic, "--person", "House^Greg", "--study", study)[:2] == (
        1,
        "somebody may not read this study\n"
        "  no   clinic: own referrals: the study is not in its scope\n"
        "  no   clinic: emergency: needs a reason (break glass)\n",
    )
    assert site.give(*clinic)[:2] == (
        1,
        "somebody may not read\n"
        "  no   clinic: own referrals: its scope is empty for this principal\n"
        "  no   clinic: emergency: needs a reason (break glass)\n",
    )
    broken = site.give(*clinic, "--study", study, "--reason", "stroke")
    assert broken[:2] == (
        0,
        "somebody may read this study by: clinic: emergency\n"
        "  no   clinic: own referrals: its scope is empty for this principal\n"
        "  yes  clinic: emergency: the study is in its scope\n",
    )
    absent = site.give("policy", "explain", "--role", "viewer", "--study", "1.2.3")
    assert (absent[0], absent[1].splitlines()[0]) == (1, "somebody may not read this study, which is not here")
    unknown = site.give("policy", "explain", "--role", "nurse")
    assert (unknown[0], unknown[1].splitlines()[1]) == (
        1,
        "  no   (no role 'nurse'): the policy does not know the role",
    )


def test_a_policy_explains_itself_of_whoever_is_known(site: Site) -> None:
    site.give("user", "add", "ann", "--role", "clinic", "--person", "Gray^Ann", typed=PASSWORD)
    made = site.told("key", "create", "program", "--role", "viewer")
    for name, action, allowed in (
        ("ann", "read", True),
        ("ann", "delete", False),
        ("program", "read", True),
        (made["id"], "read", True),
        ("this-machine", "search", True),
        ("this-machine", "read", False),
    ):
        status, out, _ = site.give("policy", "explain", "--principal", name, "--action", action, "--json")
        found = json.loads(out)
        assert (status, found["allowed"]) == (0 if allowed else 1, allowed)
        assert bool(found["decidedBy"]) is allowed
        assert found["action"] == action
        assert {"rule", "counts", "why", "inScope"} <= found["rules"][0].keys()
    status, out, err = site.give("policy", "explain", "--principal", "nobody")
    assert (status, out) == (1, "")
    assert "neither the policy nor the users nor the keys have a principal nobody" in err
    assert site.give("policy", "explain", "--principal", "ann", "--tenant", "second")[0] == 1


TABLE = """
[[expectation]]
roles = ["clinic"]
person = "Gray^Ann"
action = "read"
study = { Modality = "CT", ReferringPhysicianName = "GRAY^ann" }
expect = "allow"

[[expectation]]
roles = ["clinic"]
person = "Gray^Ann"
action = "read"
study = { Modality = "MR", ReferringPhysicianName = "Gray^Ann" }
expect = "deny"

[[expectation]]
roles = ["clinic"]
action = "read"
reason = "stroke"
expect = "allow"

[[expectation]]
principal = "this-machine"
action = "store"
expect = "deny"

[[expectation]]
principal = "outpost"
action = "read"
study = { NameOfPhysiciansReadingStudy = ["Black^Bob", "Gray^Ann"], SourceApplicationEntityTitle = "OUT_1" }
expect = "allow"

[[expectation]]
principal = "outpost"
action = "read"
study = { NameOfPhysiciansReadingStudy = "Gray^Ann", SourceApplicationEntityTitle = ["OUT_1", "CT1"] }
expect = "deny"
"""


def test_a_policy_is_compared_with_a_table_of_expectations(site: Site) -> None:
    table = site.folder / "expectations.toml"
    table.write_text(TABLE)
    assert site.give("policy", "test", str(table)) == (0, "6 expectations, 0 differ\n", "")
    table.write_text(TABLE.replace('"deny"', '"allow"'))
    status, out, err = site.give("policy", "test", str(table))
    assert (status, out) == (1, "6 expectations, 3 differ\n")
    assert (
        "row 2: clinic, read on {'Modality': 'MR', 'ReferringPhysicianName': 'Gray^Ann'}: expected allow, is denied"
        in err
    )
    assert "row 4: this-machine, store on {}: expected allow, is denied" in err
    assert not (site.folder / "data").exists(), "it is about the policy alone"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expectation: Field required"),
        ("expectation = []", "expectation: Tuple should have at least 1 item"),
        ("x =", "not TOML"),
        ('[[expectation]]\naction = "fly"\nexpect = "allow"', "expectation.0.action"),
        ('[[expectation]]\naction = "read"\nexpect = "perhaps"', "expectation.0.expect"),
        ('[[expectation]]\naction = "read"\nexpect = "deny"\nrole = "x"', "expectation.0.role"),
        ('[[expectation]]\naction = "read"\nexpect = "deny"', "needs principal or roles"),
        ('[[expectation]]\naction = "read"\nexpect = "deny"\nprincipal = "x"\nroles = ["y"]', "and not both"),
        ('[[expectation]]\naction = "read"\nexpect = "deny"\nprincipal = "x"\nperson = "y"', "a principal has its own"),
        ('[[expectation]]\nprincipal = "nobody"\naction = "read"\nexpect = "deny"', "the policy has no 'nobody'"),
        ('[[expectation]]\nroles = ["nurse"]\naction = "read"\nexpect = "deny"', "expectation.0.roles: "),
        ('[[expectation]]\nroles = ["viewer"]\naction = "read"\nexpect = "deny"\nstudy = { Colour = "red" }',
         "expectation.0.study.Colour: not an attribute that policies know"),
        ('[[expectation]]\nroles = ["viewer"]\naction = "read"\nexpect = "deny"\nstudy = { Modality = ["CT", "MR"] }',
         "expectation.0.study.Modality: has one value"),
    ],
)  # fmt: skip
def test_a_table_that_could_not_fail_is_refused(site: Site, text: str, said: str) -> None:
    table = site.folder / "expectations.toml"
    table.write_text(text)
    status, out, err = site.give("policy", "test", str(table))
    assert (status, out) == (1, "")
    assert said in err
    assert "expectations.toml" in err


def test_a_table_that_is_not_there_is_said(site: Site) -> None:
    status, _, err = site.give("policy", "test", str(site.folder / "none.toml"))
    assert status == 1
    assert "none.toml: No such file or directory" in err


def test_commands_are_of_whoever_gave_them(site: Site) -> None:
    import getpass

    site.give("key", "list")
    (line,) = [line for line in site.trail() if line["action"] == "admin"]
    assert (line["principal"], line["kind"], line["outcome"]) == (getpass.getuser(), "command_line", "allowed")
