"""Conformance statement 4.9: Deletion and its undoing."""

from __future__ import annotations

import pytest

from tests.conformance.claims import claim
from tests.conformance.conftest import Web, instance_path
from tests.instances import data_set, uid


@claim("D1", "D2")
@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_a_deletion_has_a_location_and_what_was_there_is_gone(web: Web, level: str) -> None:
    (found,) = web.store(data_set())
    answer = web.send("DELETE", instance_path(found, level))
    assert answer.status_code == 204
    assert answer.headers["Location"].startswith(f"{web.root}/deletions/")
    assert web.get(instance_path(found)).status_code == 410
    assert web.get("/instances", SOPInstanceUID=found.SOPInstanceUID).status_code == 204


@claim("D3")
def test_what_is_stored_again_is_there_again(web: Web) -> None:
    (found,) = web.store(data_set())
    web.send("DELETE", instance_path(found))
    web.store(found)
    assert web.get(instance_path(found)).status_code == 200


@claim("D4")
def test_what_never_was_is_404(web: Web) -> None:
    assert web.send("DELETE", f"/studies/{uid()}").status_code == 404


@claim("D5", "D6")
def test_deletions_are_listed_and_undone(web: Web) -> None:
    (found,) = web.store(data_set())
    place = web.send("DELETE", instance_path(found)).headers["Location"].removeprefix(web.root)
    (listed,) = [each for each in web.get("/deletions").json() if each["url"].endswith(place)]
    assert (listed["studyInstanceUID"], listed["undoable"]) == (found.StudyInstanceUID, True)
    assert listed["undoUntil"] > listed["deleted"]
    assert web.send("POST", f"{place}/undo").json() == {"restored": 1}
    assert web.get(instance_path(found)).status_code == 200
