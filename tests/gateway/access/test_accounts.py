"""API keys, users, sessions, and what is remembered of them, on both engines of the control state."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import pyotp
import pytest

from gateway import assembly
from gateway.access import authentication, keys, sessions, users
from gateway.access.authentication import Authenticator, Credential, Scheme
from gateway.access.rules import attributes
from gateway.access.shares import Shares
from gateway.access.tokens import Tokens
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.storing import IndexSettings
from gateway.context import Principal, PrincipalKind, command_line
from gateway.errors import InvalidParameter, NotFound, Unauthenticated
from gateway.services.accounts import AccountService
from storage.control import base
from storage.control.base import ControlStore
from storage.errors import StorageUnavailable
from tests.clock import let_pass
from tests.issuer import Issuer

PASSWORD, OTHER_PASSWORD = "correct horse battery", "another long password"
HERE = "127.0.0.1"
ADMINISTRATOR = command_line("test")
pytestmark = pytest.mark.usefixtures("cheap_hashes")


@dataclasses.dataclass(frozen=True)
class Process:
    """What one process of a gateway has."""

    core: Core

    @property
    def control(self) -> ControlStore:
        return self.core.control

    @property
    def accounts(self) -> AccountService:
        return AccountService(self.core.control, self.core.door, self.core.archive.index)

    def lets_in(self, credential: Credential, address: str = HERE) -> bool:
        """As the HTTP face asks: what is remembered first."""
        try:
            found = self.core.authenticator.remembered(credential, address)
            return (found or self.core.authenticator.prove(credential, address)) is not None
        except Unauthenticated:
            return False


@pytest.fixture(params=["sqlite", "postgres"])
def two(request: pytest.FixtureRequest, settings: Settings) -> Iterator[tuple[Process, Process]]:
    """Two processes of one gateway."""
    if request.param == "postgres":
        schema = request.getfixturevalue("postgres_schema")
        where = {"engine": "postgres", "url": schema.conninfo, "db_schema": schema.schema}
        settings = settings.model_copy(update={"index": IndexSettings.model_validate(where)})
    cores = [assembly.build(settings, f"process-{number}") for number in (1, 2)]
    yield Process(cores[0]), Process(cores[1])
    for core in cores:
        core.close()


@pytest.fixture
def one(core: Core) -> Process:
    """One process, on SQLite."""
    return Process(core)


def bearer(secret: str) -> Credential:
    return Credential(Scheme.BEARER, secret)


def basic(name: str, password: str) -> Credential:
    return Credential(Scheme.BASIC, password, name)


def cookie(secret: str) -> Credential:
    return Credential(Scheme.SESSION, secret)


def somebody(name: str = "ann", kind: PrincipalKind = PrincipalKind.USER) -> Principal:
    return Principal(name, kind, "main", frozenset(("viewer",)), attributes(name, "Gray^Ann"))


def out_within(process: Process, credential: Credential, seconds: float = 3.0) -> bool:
    """Whether a credential that was good is no good after so long, asked all the time."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + seconds:
        if not process.lets_in(credential):
            return True
        time.sleep(0.02)
    return False


# In another process, within a second


def test_who_is_put_out_in_one_process_is_out_in_the_other(two: tuple[Process, Process]) -> None:
    here, there = two
    key, made = here.accounts.create_key(ADMINISTRATOR, "main", "program", ["viewer"])
    for name in ("disabled", "changed", "removed", "coded"):
        here.accounts.add_user(ADMINISTRATOR, "main", name, PASSWORD, ["viewer"])
    ended = sessions.begin(here.control, somebody("other"))
    of_disabled = sessions.begin(here.control, somebody("disabled"))
    of_changed = sessions.begin(here.control, somebody("changed"))
    shown = [bearer(key), *(basic(name, PASSWORD) for name in ("disabled", "changed", "removed", "coded"))]
    shown += [cookie(each) for each in (ended, of_disabled, of_changed)]
    kept = here.accounts.create_key(ADMINISTRATOR, "main", "kept", ["viewer"])[0]
    assert all(there.lets_in(each) for each in [*shown, bearer(kept)])

    here.accounts.revoke_key(ADMINISTRATOR, "main", made.id)
    here.accounts.enable(ADMINISTRATOR, "main", "disabled", enabled=False)
    here.accounts.set_password(ADMINISTRATOR, "main", "changed", OTHER_PASSWORD)
    here.accounts.remove_user(ADMINISTRATOR, "main", "removed")
    here.accounts.require_totp(ADMINISTRATOR, "main", "coded")
    sessions.end(here.control, ended)
    began_s = time.monotonic()
    assert all(out_within(there, each, 3.0 - (time.monotonic() - began_s)) for each in shown)
    assert there.lets_in(bearer(kept))
    assert there.lets_in(basic("changed", OTHER_PASSWORD))
    here.accounts.enable(ADMINISTRATOR, "main", "disabled", enabled=True)
    assert there.lets_in(basic("disabled", PASSWORD))


def test_a_change_of_one_makes_nobody_else_prove_more_than_once(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch, one.control, "get")
    key, _ = keys.create(one.control, "program", "main", ["viewer"])
    for _ in range(20):
        assert one.lets_in(bearer(key))
    assert len(asked) == 1
    sessions.begin(one.control, somebody())
    for _ in range(3):
        one.core.authenticator._revision_asked_s = -float("inf")  # a second later
        assert one.lets_in(bearer(key))
    assert len(asked) == 2


def counted(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[tuple[Any, ...]]:
    """The calls of a method from now on, which is carried out all the same."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_what_was_read_before_a_change_is_not_good_after_it(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that was held up between asking for the revision and saying it tells nothing new."""
    key, made = keys.create(one.control, "program", "main", ["viewer"])
    assert one.lets_in(bearer(key))
    read, go = threading.Event(), threading.Event()
    real = one.control.revision

    def held_up() -> int:
        found = real()
        read.set()
        go.wait(30)
        return found

    monkeypatch.setattr(one.control, "revision", held_up)
    thread = threading.Thread(target=one.lets_in, args=(bearer("gwk_" + "a" * 12 + "_" + "A" * 43),))
    thread.start()
    read.wait(30)
    monkeypatch.setattr(one.control, "revision", real)
    keys.revoke(one.control, made.id)
    with pytest.raises(Unauthenticated):
        one.core.authenticator.prove(bearer(key), HERE)
    go.set()
    thread.join()
    assert one.core.authenticator.remembered(bearer(key), HERE) is None


# Keys


def test_a_key_is_told_once_and_only_its_digest_is_kept(one: Process, settings: Settings) -> None:
    key, made = one.accounts.create_key(ADMINISTRATOR, "main", "program", ["viewer", "viewer"])
    assert key.startswith(f"gwk_{made.id}_")
    assert (made.name, made.roles, made.expires_at_s) == ("program", ("viewer",), None)
    secret = key.split("_", 2)[2].encode()  # which may hold underscores of its own
    assert len({one.accounts.create_key(ADMINISTRATOR, "main", "x", ["viewer"])[0] for _ in range(20)}) == 20
    for file in settings.storage.directory.rglob("*"):
        assert not file.is_file() or secret not in file.read_bytes(), file
    assert secret.decode() not in repr(made)


def test_a_key_ends_when_it_was_said_to(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    key, _ = keys.create(one.control, "program", "main", ["viewer"], expires_at_s=time.time() + 30.0)
    assert one.lets_in(bearer(key))
    monkeypatch.setattr(authentication, "_REVISION_FOR_S", 60.0)
    let_pass(monkeypatch, 31.0, authentication, base)
    assert one.core.authenticator.remembered(bearer(key), HERE) is None, "although nothing has changed"
    assert not one.lets_in(bearer(key))
    assert keys.every(one.control) == []
    with pytest.raises(NotFound):
        one.accounts.revoke_key(ADMINISTRATOR, "main", key.split("_")[1])


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00::1", True),
        ("10.2.0.1", False),
        ("127.0.0.1", False),
        ("fd01::1", False),
        ("::ffff:10.2.0.1", False),
    ],
)
def test_a_key_with_networks_is_good_from_there_alone(one: Process, address: str, inside: bool) -> None:
    key, _ = keys.create(one.control, "program", "main", ["viewer"], networks=["10.1.0.0/16", "fd00::/16"])
    assert one.lets_in(bearer(key), "10.1.0.1"), "and what is remembered is of that address"
    assert one.lets_in(bearer(key), address) is inside


def test_a2_an_unknown_id_and_a_wrong_secret_are_one_comparison_and_one_answer(
    one: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = keys.create(one.control, "program", "main", ["viewer"], networks=["10.0.0.0/8"])
    compared = counted(monkeypatch, keys.hmac, "compare_digest")
    shown = {
        "wrong secret": bearer(f"gwk_{made.id}_{'A' * 43}"),
        "unknown": bearer(f"gwk_{'a' * 12}_{'A' * 43}"),
        "elsewhere": bearer(key),
    }
    said = set()
    for credential in shown.values():
        with pytest.raises(Unauthenticated) as caught:
            one.core.authenticator.prove(credential, HERE)
        said.add(str(caught.value))
    assert len(said) == 1
    assert len(compared) == 3
    assert {(len(left), len(right)) for left, right in compared} == {(64, 64)}


@pytest.mark.parametrize("text", ["", "gwk_", "gwk__", f"gwk_{'A' * 12}_{'A' * 43}", f"gwk_{'a' * 12}_{'A' * 42}",
                                  f"gwk_{'a' * 12}_{'A' * 43}\n", f" gwk_{'a' * 12}_{'A' * 43}"])  # fmt: skip
def test_what_has_not_the_form_of_a_key_has_no_id(text: str) -> None:
    assert keys.key_id_of(text) is None


def test_a_badly_copied_key_is_not_told_to_a_provider(one: Process, issuer: Issuer) -> None:
    asked = issuer.settings(introspection_url=f"{issuer.url}/introspect", client_id="gateway")
    authenticator = Authenticator(one.core.door, one.control, Tokens([asked]), Shares(one.control))
    with pytest.raises(Unauthenticated):
        authenticator.prove(bearer(f"gwk_{'a' * 12}_{'A' * 44}"), HERE)
    assert issuer.asked.total() == 0
    authenticator.close()


def test_keys_and_users_are_of_a_tenant(one: Process) -> None:
    key, made = one.accounts.create_key(ADMINISTRATOR, "second", "program", ["viewer"])
    one.accounts.add_user(ADMINISTRATOR, "second", "ann", PASSWORD, ["viewer"])
    assert one.core.authenticator.prove(bearer(key), HERE).principal.tenant == "second"
    assert one.accounts.keys(ADMINISTRATOR, "main") == []
    assert one.accounts.users(ADMINISTRATOR, "main") == []
    for refused in (
        lambda: one.accounts.revoke_key(ADMINISTRATOR, "main", made.id),
        lambda: one.accounts.remove_user(ADMINISTRATOR, "main", "ann"),
        lambda: one.accounts.set_password(ADMINISTRATOR, "main", "ann", OTHER_PASSWORD),
        lambda: one.accounts.require_totp(ADMINISTRATOR, "main", "ann"),
    ):
        with pytest.raises(NotFound):
            refused()
    with pytest.raises(InvalidParameter, match="already"):
        one.accounts.add_user(ADMINISTRATOR, "main", "ann", PASSWORD, ["viewer"])


# Users


@pytest.mark.parametrize("password", ["", "short", "x" * 11, "x" * 1025])
def test_passwords_are_bounded(one: Process, password: str) -> None:
    with pytest.raises(InvalidParameter, match="12 characters"):
        one.accounts.add_user(ADMINISTRATOR, "main", "ann", password, ["viewer"])
    one.accounts.add_user(ADMINISTRATOR, "main", "ann", "x" * 1024, ["viewer"])
    with pytest.raises(InvalidParameter, match="12 characters"):
        one.accounts.set_password(ADMINISTRATOR, "main", "ann", password)
    assert one.lets_in(basic("ann", "x" * 1024))
    assert not one.lets_in(basic("ann", "x" * 1025))
    assert not one.lets_in(basic("ann", "x" * 10_000_000))


@pytest.mark.parametrize("name", ["", "-ann", "ann gray", "a" * 65, "änn", "ann\n", "../ann", "ann:x", "own:x"])
def test_names_are_plain(one: Process, name: str) -> None:
    with pytest.raises(InvalidParameter):
        one.accounts.add_user(ADMINISTRATOR, "main", name, PASSWORD, ["viewer"])


@pytest.mark.parametrize("roles", [["nurse"], ["viewer", "own:this-machine"], ["smart:launch"], ["share:link"]])
def test_roles_are_of_the_policy(one: Process, roles: list[str]) -> None:
    with pytest.raises(InvalidParameter, match="the policy has no role"):
        one.accounts.add_user(ADMINISTRATOR, "main", "ann", PASSWORD, roles)
    with pytest.raises(InvalidParameter, match="the policy has no role"):
        one.accounts.create_key(ADMINISTRATOR, "main", "ann", roles)


def test_a2_as_much_work_is_done_for_nobody_as_for_somebody(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    users.add(one.control, "ann", PASSWORD, "main", ["viewer"])
    users.add(one.control, "out", PASSWORD, "main", ["viewer"])
    users.alter(one.control, "out", disabled=True)
    users.recognise(one.control, "nobody", "x")  # makes what nobody's password is compared with
    verified = []

    class Counting(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:
            verified.append((str(argon2.extract_parameters(str(hash))), password))
            return super().verify(hash, password)

    monkeypatch.setattr(users, "_hasher", Counting(time_cost=1, memory_cost=8, parallelism=1))
    for name in ("ann", "out", "nobody", "../ann", "x" * 1000, "", "ann\x00"):
        assert users.recognise(one.control, name, "wrong password") is None
    assert len(verified) == 7
    assert len({parameters for parameters, _ in verified}) == 1
    assert {password for _, password in verified} == {"wrong password"}


def test_what_a_password_costs_is_what_owasp_asks_for() -> None:
    """Password Storage Cheat Sheet: argon2id with 19 MiB and two rounds, or 46 MiB and one, at the least."""
    hasher = argon2.PasswordHasher()
    assert (hasher.type, hasher.memory_cost >= 46 << 10) == (argon2.Type.ID, True)


def test_a_password_is_hashed_anew_when_hashes_cost_more(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    users.add(one.control, "ann", PASSWORD, "main", ["viewer"])
    monkeypatch.setattr(users, "_hasher", argon2.PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    assert users.recognise(one.control, "ann", PASSWORD) is not None
    document = one.control.get("user", "ann")
    assert document is not None
    assert argon2.extract_parameters(document.body["password"]).time_cost == 2
    assert users.recognise(one.control, "ann", PASSWORD) is not None


def test_a_user_is_not_there_twice(one: Process) -> None:
    assert users.add(one.control, "ann", PASSWORD, "main", ["viewer"]) is not None
    assert users.add(one.control, "ann", OTHER_PASSWORD, "main", ["administrator"]) is None
    assert one.lets_in(basic("ann", PASSWORD))
    assert [each.name for each in users.every(one.control)] == ["ann"]
    assert PASSWORD not in repr(users.every(one.control))


# Codes


def code_of(address: str, when_s: float) -> str:
    found = pyotp.parse_uri(address)
    assert isinstance(found, pyotp.TOTP)
    return found.at(int(when_s))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that codes are of."""

    def set_to(now_s: float) -> None:
        monkeypatch.setattr(users.time, "time", lambda: now_s)

    return set_to


def test_a_code_is_good_once_and_near_its_time(two: tuple[Process, Process], clock: Callable[[float], None]) -> None:
    here, there = two
    users.add(here.control, "ann", PASSWORD, "main", ["viewer"])
    address = users.require_totp(here.control, "ann", "gateway")
    now_s = 1_800_000_000.0
    clock(now_s)

    def enters(process: Process, code: str) -> bool:
        return users.recognise(process.control, "ann", PASSWORD, code) is not None

    assert not enters(here, "")
    assert not enters(here, code_of(address, now_s - 90))
    assert not enters(here, code_of(address, now_s + 90))
    assert users.recognise(here.control, "ann", OTHER_PASSWORD, code_of(address, now_s)) is None
    assert enters(here, f" {code_of(address, now_s)} "), "a wrong password did not use it up"
    assert not enters(here, code_of(address, now_s))
    assert not enters(there, code_of(address, now_s)), "in no other process either"
    assert not enters(there, code_of(address, now_s - 30)), "nor one from before"
    assert enters(there, code_of(address, now_s + 30))
    for wrong in ("000000", "１２３４５６", "١٢٣٤٥٦", "12345", "1e5", "x" * 10_000):
        assert not enters(here, wrong)


def test_one_of_many_who_show_the_same_code_at_once_is_let_in(
    two: tuple[Process, Process], clock: Callable[[float], None]
) -> None:
    users.add(two[0].control, "ann", PASSWORD, "main", ["viewer"])
    address = users.require_totp(two[0].control, "ann", "gateway")
    clock(1_800_000_000.0)
    code, found = code_of(address, 1_800_000_000.0), []

    def enter(process: Process) -> None:
        found.append(users.recognise(process.control, "ann", PASSWORD, code) is not None)

    threads = [threading.Thread(target=enter, args=(process,)) for process in two * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [False] * 7 + [True]


def test_who_needs_a_code_does_not_enter_by_a_password_alone(one: Process) -> None:
    users.add(one.control, "ann", PASSWORD, "main", ["viewer"])
    assert one.lets_in(basic("ann", PASSWORD))
    one.accounts.require_totp(ADMINISTRATOR, "main", "ann")
    with pytest.raises(Unauthenticated):
        one.core.authenticator.prove(basic("ann", PASSWORD), HERE)


# Sessions


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass for what the control state keeps."""
    passed_s = [0.0]
    real = base.now_s

    def now_s() -> float:
        return real() + passed_s[0]

    for module in ("storage.control.relational", "gateway.access.sessions"):
        monkeypatch.setattr(f"{module}.now_s", now_s)

    def by(seconds: float) -> None:
        passed_s[0] += seconds

    return by


def test_a_session_is_somebodys_until_it_is_left_alone_or_has_lasted(
    two: tuple[Process, Process], later: Callable[[float], None]
) -> None:
    here, there = two
    secret = sessions.begin(here.control, somebody())
    found = sessions.find(there.control, secret)
    assert found is not None
    assert (found.principal, found.reason) == (somebody(), "")
    before = here.control.revision()
    for _ in range(24):
        later(29 * 60)
        assert sessions.find(there.control, secret) is not None
    assert here.control.revision() == before, "to be seen again is no change"
    later(25 * 60)
    assert sessions.find(here.control, secret) is None, "12 h are over"
    alone = sessions.begin(here.control, somebody())
    later(31 * 60)
    assert sessions.find(there.control, alone) is None
    assert not sessions.end(here.control, alone)
    assert not sessions.state_reason(here.control, alone, "late")


def test_a_session_is_written_down_as_seen_once_in_a_while(
    one: Process, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = sessions.begin(one.control, somebody())
    written = counted(monkeypatch, one.control, "extend")
    for _ in range(5):
        sessions.find(one.control, secret)
    assert written == []
    later(61)
    for _ in range(5):
        sessions.find(one.control, secret)
    assert len(written) == 1


def test_sessions_of_one_user_end_together(two: tuple[Process, Process]) -> None:
    here, there = two
    mine = [sessions.begin(here.control, somebody()) for _ in range(3)]
    other = sessions.begin(here.control, somebody("bob"))
    assert sessions.end_all(there.control, "ann") == 3
    assert [sessions.find(here.control, each) for each in mine] == [None] * 3
    assert sessions.find(here.control, other) is not None


def test_a_session_states_a_reason_and_takes_it_back(one: Process) -> None:
    secret = sessions.begin(one.control, somebody())
    assert one.core.authenticator.prove(cookie(secret), HERE).reason == ""
    assert sessions.state_reason(one.control, secret, "stroke")
    assert one.core.authenticator.prove(cookie(secret), HERE).reason == "stroke"
    assert sessions.state_reason(one.control, secret, "")
    assert one.core.authenticator.prove(cookie(secret), HERE).reason == ""


def test_of_a_session_its_secret_is_not_kept(one: Process, settings: Settings) -> None:
    secret = sessions.begin(one.control, somebody())
    for file in settings.storage.directory.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    assert sessions.find(one.control, sessions._key(secret)) is None, "what is kept is no cookie"


def test_what_is_remembered_of_a_session_ends_with_it(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = sessions.begin(one.control, somebody(), longest_s=30.0)
    assert one.lets_in(cookie(secret))
    monkeypatch.setattr(authentication, "_REVISION_FOR_S", 60.0)
    let_pass(monkeypatch, 31.0, authentication)
    assert one.core.authenticator.remembered(cookie(secret), HERE) is None


# What is remembered


def test_what_is_remembered_is_bounded(one: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_REMEMBERED", 8)
    made = [keys.create(one.control, "program", "main", ["viewer"])[0] for _ in range(10)]
    assert all(one.lets_in(bearer(each)) for each in made)
    known = one.core.authenticator
    assert [known.remembered(bearer(each), HERE) is not None for each in made] == [False] * 2 + [True] * 8
    for number in range(50):
        assert not one.lets_in(bearer(f"gwk_{'a' * 12}_{number:043}"))
    assert len(known._known) == 8, "of what is wrong nothing is kept"
    assert not any(secret.encode() in place for secret in made for place in known._known)


def test_what_is_remembered_is_of_one_scheme_user_and_address(one: Process) -> None:
    users.add(one.control, "ann", PASSWORD, "main", ["viewer"])
    users.add(one.control, "bob", OTHER_PASSWORD, "main", ["viewer"])
    assert one.lets_in(basic("ann", PASSWORD))
    known = one.core.authenticator.remembered
    assert known(basic("ann", PASSWORD), HERE) is not None
    for other in (basic("bob", PASSWORD), basic("ann", OTHER_PASSWORD), bearer(PASSWORD), cookie(PASSWORD)):
        assert known(other, HERE) is None
    assert known(basic("ann", PASSWORD), "10.0.0.1") is None


def test_credentials_are_in_no_repr_and_no_message(one: Process, caplog: pytest.LogCaptureFixture) -> None:
    key, _ = keys.create(one.control, "program", "main", ["viewer"])
    for credential in (bearer(key), bearer("opaque-secret"), basic("ann", PASSWORD), cookie("cookie-secret")):
        assert credential.secret not in repr(credential)
        assert credential.secret not in credential.claimed
    assert len(basic("x" * 5000, "").claimed) == users.LONGEST_NAME
    for credential in (bearer(key), bearer("opaque-secret"), basic("ann", PASSWORD), cookie("cookie-secret")):
        if credential.secret != key:
            with pytest.raises(Unauthenticated) as caught:
                one.core.authenticator.prove(credential, HERE)
            assert credential.secret not in f"{caught.value!r} {caplog.text}"


def test_without_an_engine_nobody_is_proven_and_nobody_refused(one: Process, tmp_path: Path) -> None:
    key, _ = keys.create(one.control, "program", "main", ["viewer"])
    one.control.close()
    for file in (tmp_path / "data").glob("control.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    for credential in (bearer(key), basic("ann", PASSWORD), cookie("x")):
        with pytest.raises(StorageUnavailable):
            one.core.authenticator.prove(credential, HERE)
