"""Negotiation of presentation contexts."""

from __future__ import annotations

import pytest
from pynetdicom import AE

from gateway.dimse import contexts
from gateway.dimse.server import DimseServer
from tests.conformance.claims import claim

CT = "1.2.840.10008.5.1.4.1.1.2"


def negotiate(server: DimseServer, proposals: list[tuple[str, list[str]]]) -> dict[str, str]:
    application_entity = AE(ae_title="SCU")
    for abstract, syntaxes in proposals:
        application_entity.add_requested_context(abstract, syntaxes)
    association = application_entity.associate(*server.address, ae_title="GATEWAY")
    accepted = {str(c.abstract_syntax): str(c.transfer_syntax[0]) for c in association.accepted_contexts}
    if association.is_established:
        association.release()
    return accepted


@claim("X5")
@pytest.mark.parametrize("number", range(0, len(contexts.STORAGE_SYNTAXES), 10))
def test_every_transfer_syntax_is_accepted(server: DimseServer, number: int) -> None:
    for syntax in contexts.STORAGE_SYNTAXES[number : number + 10]:
        assert negotiate(server, [(CT, [syntax])]) == {CT: syntax}


@claim("X1")
def test_what_the_peer_proposes_first_is_chosen(server: DimseServer) -> None:
    first, second = "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2"
    assert negotiate(server, [(CT, [first, second])]) == {CT: first}
    assert negotiate(server, [(CT, [second, first])]) == {CT: second}


def test_a_syntax_that_cannot_be_kept_is_passed_over(server: DimseServer) -> None:
    assert negotiate(server, [(CT, ["1.2.840.113619.5.2", "1.2.840.10008.1.2"])]) == {CT: "1.2.840.10008.1.2"}
    assert negotiate(server, [(CT, ["1.2.840.10008.1.2.4.205"]), (contexts.VERIFICATION, ["1.2.840.10008.1.2"])]) == {
        contexts.VERIFICATION: "1.2.840.10008.1.2"
    }


@claim("X4")
@pytest.mark.parametrize(
    ("sop_class_uid", "stored"),
    [
        (CT, True),
        ("1.2.840.113619.4.30", True),
        ("1.3.12.2.1107.5.9.1", True),
        ("1.2.840.10008.5.1.4.1.1.9999", True),
        ("1.2.840.10008.5.1.4.1.2.1.2", False),
        ("1.2.840.10008.5.1.4.31", False),
        ("1.2.840.10008.5.1.4.1.1.200.4", False),
        ("1.2.840.10008.1.20.1", False),
    ],
)
def test_storage_classes_are_told_from_others(sop_class_uid: str, stored: bool) -> None:
    assert contexts.is_storage(sop_class_uid) is stored


def test_other_services_are_refused(server: DimseServer) -> None:
    assert negotiate(server, [("1.2.840.10008.5.1.1.9", ["1.2.840.10008.1.2"])]) == {}
