"""The mapping from domain errors to statuses."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from gateway import errors
from gateway.context import RequestId
from gateway.dimse import status
from gateway.dimse.commands import Element
from gateway.imaging.errors import ImagingError
from gateway.services.ingest import Identified
from storage.errors import AnnouncedOtherwise, MissingAttribute, StorageError, StorageUnavailable
from tests.conformance.claims import claim


def leaves(root: type[Exception]) -> Iterator[type[Exception]]:
    below = root.__subclasses__()
    if not below:
        yield root
    for each in below:
        yield from leaves(each)


TREES = [leaf for root in (errors.GatewayError, StorageError, ImagingError) for leaf in leaves(root)]


@pytest.mark.parametrize("leaf", TREES, ids=lambda leaf: leaf.__name__)
def test_every_leaf_of_the_error_trees_has_a_status(leaf: type[Exception]) -> None:
    for table in (status.OF_STORE, status.OF_FIND):
        assert any(above in table for above in leaf.__mro__)


def test_the_nearest_class_decides() -> None:
    assert status.nearest(status.OF_STORE, AnnouncedOtherwise, status.PROCESSING_FAILURE).code == 0xA900
    assert status.nearest(status.OF_STORE, MissingAttribute, status.PROCESSING_FAILURE).code == 0xC000


def test_anything_else_is_a_processing_failure() -> None:
    assert status.of_store(KeyError("Doe^Jane"), RequestId("r")).status == 0x0110
    assert 0xC000 <= status.of_find(KeyError("Doe^Jane"), RequestId("r")).status <= 0xCFFF


def test_a_foreign_error_is_logged_with_the_request_id_and_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        answer = status.of_store(KeyError("Doe^Jane"), RequestId("0123456789abcdef"))
    assert "0123456789abcdef" in caplog.text
    assert "Doe" not in caplog.text + str(answer)


def test_an_identified_failure_is_answered_for_its_cause() -> None:
    error = Identified(StorageUnavailable("down"), "1.2", "1.3")
    assert status.of_store(error, RequestId("r")).status == 0xA700


@claim("B1")
def test_the_error_comment_is_short_plain_and_of_one_value() -> None:
    answer = status.of_store(MissingAttribute({"0020000D": "(0020,000D) \\ é " + "x" * 100}), RequestId("r"))
    comment = str(answer.elements[Element.ERROR_COMMENT])
    assert len(comment) == 64
    assert comment.isascii()
    assert "\\" not in comment
    assert answer.elements[Element.OFFENDING_ELEMENT] == 0x0020000D


def test_the_comment_on_our_own_troubles_says_nothing_of_their_inside() -> None:
    answer = status.of_store(StorageUnavailable("http://10.0.0.1:9000 refused"), RequestId("r"))
    assert answer.elements[Element.ERROR_COMMENT] == "Refused: out of resources"


def test_every_status_has_a_reference() -> None:
    assert all(each.reference.startswith("PS3.") for each in status.STATUSES)
    assert len(status.STATUSES) > 10
