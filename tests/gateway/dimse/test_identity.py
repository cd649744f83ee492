"""User identity negotiation: who is shown, is proven as over HTTP, and is then who asks (PS3.7 D.3.3.7)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from gateway import assembly
from gateway.access import users
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from gateway.dimse.server import DimseServer
from tests import instances
from tests.conformance.claims import claim
from tests.gateway.dimse.conftest import STUDY_ROOT_FIND, Serve
from tests.gateway.dimse.test_retrieval import identifier, put
from tests.gateway.dimse.test_server import rejection
from tests.issuer import Issuer

POLICY = """
[[role]]
name = "radiologist"
[[role.rule]]
name = "ct"
actions = ["search", "read"]
scope = { Modality = ["CT"] }

[[principal]]
name = "workstation"
kind = "ae"
ae_title = "WS"
actions = ["echo"]
"""
PASSWORD = "correct horse battery"


@pytest.fixture
def core(settings: Settings, tmp_path: Path, issuer: Issuer) -> Iterator[Core]:
    (tmp_path / "policy.toml").write_text(POLICY)
    given = settings.model_copy(
        update={
            "access": AccessSettings(policy_file=tmp_path / "policy.toml", issuers=(issuer.settings(),)),
            "http": HttpSettings(failed_attempts=2, lockout_s=30),
        }
    )
    built = assembly.build(given, "test")
    users.add(built.control, "ann", PASSWORD, tenant="main", roles=["radiologist"], person="")
    put(built, instances.data_set(Modality="CT"))
    put(built, instances.data_set(Modality="MR"))
    yield built
    built.close()


@pytest.fixture
def server(core: Core, serve: Serve) -> Iterator[DimseServer]:
    with serve(core) as started:
        yield started


def shown(kind: int, primary: str, secondary: str = "", *, wants_answer: bool = False) -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type = kind
    item.primary_field = primary.encode()
    if secondary:
        item.secondary_field = secondary.encode()
    item.positive_response_requested = wants_answer
    return item


def associate(server: DimseServer, *items: UserIdentityNegotiation, calling: str = "WS") -> Association:
    application_entity = AE(ae_title=calling)
    application_entity.add_requested_context(STUDY_ROOT_FIND)
    return application_entity.associate(*server.address, ae_title="GATEWAY", ext_neg=list(items))


def found(association: Association) -> tuple[int, list[Dataset]]:
    assert association.is_established
    responses = list(association.send_c_find(identifier("STUDY", StudyInstanceUID=""), STUDY_ROOT_FIND))
    association.release()
    return responses[-1][0].Status, [each for _, each in responses if each is not None]


@claim("A12")
def test_a_user_asks_with_what_the_user_may(server: DimseServer, core: Core) -> None:
    assert found(associate(server))[0] == 0x0124, "the workstation itself may not"
    status, matches = found(associate(server, shown(2, "ann", PASSWORD)))
    assert (status, len(matches)) == (0x0000, 1)
    core.trail.close()
    written = "".join(path.read_text() for path in assembly.audit_directory(core.settings).glob("*.jsonl"))
    assert any('"ann"' in line and '"search"' in line and "WS" in line for line in written.splitlines())
    assert PASSWORD not in written


@claim("A13")
def test_a_token_of_the_provider_speaks_for_whom_it_names(server: DimseServer, issuer: Issuer) -> None:
    status, matches = found(associate(server, shown(5, issuer.token(sub="eve", roles=["radiologist"]))))
    assert (status, len(matches)) == (0x0000, 1)
    assert associate(server, shown(5, issuer.token(aud="another"))).is_rejected


@claim("A15")
def test_a_positive_response_is_given_when_it_is_asked_for(server: DimseServer) -> None:
    association = associate(server, shown(2, "ann", PASSWORD, wants_answer=True))
    assert association.acceptor.user_identity is not None
    association.release()
    association = associate(server, shown(2, "ann", PASSWORD))
    assert association.acceptor.user_identity is None
    association.release()


@claim("A16", "A38")
def test_who_shows_another_password_is_rejected_and_locked_out(server: DimseServer, core: Core) -> None:
    for _ in range(3):
        assert rejection(associate(server, shown(2, "ann", "wrong"))) == (1, 1, 1)
    assert associate(server, shown(2, "ann", PASSWORD)).is_rejected, "the right one is not looked at for a while"
    core.trail.close()
    written = "".join(path.read_text() for path in assembly.audit_directory(core.settings).glob("*.jsonl"))
    assert '"locked"' in written
    assert "wrong" not in written


@claim("A16")
@pytest.mark.parametrize("token", ["not.a.token", "x" * 9000])
def test_tokens_of_nobody_are_rejected(server: DimseServer, token: str) -> None:
    assert associate(server, shown(5, token)).is_rejected


@claim("A17")
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_kinds_that_prove_nothing_here_are_passed_over(server: DimseServer, kind: int) -> None:
    association = associate(server, shown(kind, "ann", wants_answer=True))
    assert association.is_established
    assert association.acceptor.user_identity is None
    assert found(association)[0] == 0x0124, "as the AE that it is"


@claim("A14")
def test_a_user_does_not_make_up_for_an_ae_that_nobody_knows(server: DimseServer) -> None:
    assert associate(server, shown(2, "ann", PASSWORD), calling="ELSEWHERE").is_rejected


def test_passwords_are_looked_at_a_few_at_a_time(
    server: DimseServer, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes 64 MiB."""
    prove, lock = core.authenticator.prove, threading.Lock()
    running = most = 0

    def counted(*arguments: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        try:
            return prove(*arguments)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(core.authenticator, "prove", counted)
    askers = [threading.Thread(target=lambda: associate(server, shown(2, "ann", PASSWORD)).abort()) for _ in range(8)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    assert most == 2
