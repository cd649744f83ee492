"""STOW-RS of hostile metadata: a fault of the request, or of the one instance; never a failure of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.dicomweb.conftest import Client
from tests.gateway.dicomweb.test_stow_metadata import JSON, body, metadata
from tests.instances import uid


def _nested(depth: int) -> str:
    text = '{"00080100":{"vr":"SH","Value":["x"]}}'
    for _ in range(depth):
        text = '{"00081140":{"vr":"SQ","Value":[' + text + "]}}"
    return text


def _with(element: str, tag: str = "00104000") -> str:
    source = metadata()
    del source["7FE00010"]
    return "[" + json.dumps(source)[:-1] + f',"{tag}":{element}}}]'


HOSTILE = {
    "a VR that is a list": _with('{"vr":["LT"],"Value":["x"]}'),
    "a VR that is an object": _with('{"vr":{"a":1},"Value":["x"]}'),
    "a URI that is none": _with('{"vr":"OB","BulkDataURI":"http://["}'),
    "a URI of another host": _with('{"vr":"OB","BulkDataURI":"http://169.254.169.254/latest"}'),
    "a URI that is an object": _with('{"vr":"OB","BulkDataURI":{"a":1}}'),
    "a number that is infinite": _with('{"vr":"FD","Value":[1e400]}', "00189087"),
    "an integer of 5000 digits": _with('{"vr":"US","Value":[' + "9" * 5000 + "]}", "00280010"),
    "a decimal of 5000 digits": _with('{"vr":"DS","Value":[' + "9" * 5000 + "]}", "00101020"),
    "NaN": _with('{"vr":"FD","Value":[NaN]}', "00189087"),
    "a lone surrogate": _with('{"vr":"LT","Value":["\\ud800"]}'),
    "a tag in Python's notation": _with('{"vr":"LO","Value":["x"]}', "0X104000"),
    "a tag with an underscore": _with('{"vr":"LO","Value":["x"]}', "0010_400"),
    "a negative tag": _with('{"vr":"LO","Value":["x"]}', "-0104000"),
    "an item that is a number": _with('{"vr":"SQ","Value":[5]}', "00081140"),
    "values that are an object": _with('{"vr":"LO","Value":{"0":"x"}}'),
    "sequences 330 deep": _with(_nested(330)[len('{"00081140":') : -1], "00081140"),
    "sequences 10000 deep": _with(_nested(10_000)[len('{"00081140":') : -1], "00081140"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_metadata_is_a_fault_of_the_request(
    client: Client, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client.post("/dicomweb/studies", **body((JSON, "", text.encode()))) as response:
        answer = await response.json(content_type=None)
    assert response.status in (400, 409), answer
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_content_location_that_is_no_uri_is_a_fault_of_the_request(client: Client) -> None:
    parts = ((JSON, "", json.dumps([metadata()]).encode()), ("application/octet-stream", "http://[", b"x"))
    async with client.post("/dicomweb/studies", **body(*parts)) as response:
        assert response.status == 400, await response.text()


BROKEN_REFERENCES: dict[str, Any] = {
    "values in an object": {"00081150": {"vr": "UI", "Value": {"a": 1}}},
    "a number": 5,
    "an element that is a number": {"00081150": 5, "00081155": 5},
    "no values": {"00081150": {"vr": "UI", "Value": []}},
}


@pytest.mark.parametrize("item", BROKEN_REFERENCES.values(), ids=BROKEN_REFERENCES.keys())
async def test_a_reference_that_is_none_is_a_fault_of_the_commitment_request(client: Client, item: object) -> None:
    text = json.dumps({"00081199": {"vr": "SQ", "Value": [item]}})
    headers = {"Content-Type": JSON}
    async with client.post(f"/dicomweb/commitment-requests/{uid()}", data=text, headers=headers) as response:
        assert response.status == 400, await response.text()
