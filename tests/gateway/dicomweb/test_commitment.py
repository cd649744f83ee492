"""Storage Commitment over the web."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from gateway.assembly import Core
from gateway.dicomweb import commitment
from gateway.services.commitment import Reason
from storage.dicom import xml_model
from storage.dicom.identifiers import tenant
from storage.dicom.matching import EVERYTHING
from storage.index.changes import Action
from tests.gateway.dicomweb.conftest import Client, store
from tests.instances import CT, data_set, part10_file, uid

JSON = {"Content-Type": "application/dicom+json"}


def request(*references: tuple[str, str]) -> dict[str, Any]:
    items = [
        {"00081150": {"vr": "UI", "Value": [sop_class]}, "00081155": {"vr": "UI", "Value": [sop]}}
        for sop_class, sop in references
    ]
    return {"00081199": {"vr": "SQ", "Value": items}}


async def ask(client: Client, transaction: str, body: Any) -> tuple[int, dict[str, Any]]:
    path = f"/dicomweb/commitment-requests/{transaction}"
    async with client.post(path, data=json.dumps(body), headers=JSON) as response:
        return response.status, await response.json(content_type=None) if response.status == 200 else {}


def sops(answer: dict[str, Any], tag: str) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.get(tag, {}).get("Value", ())]


def reasons(answer: dict[str, Any]) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer["00081198"]["Value"]]


async def test_what_is_stored_and_whole_is_committed(client: Client) -> None:
    one, two = data_set(), data_set()
    await store(client, part10_file(one), part10_file(two))
    transaction = uid()
    status, answer = await ask(client, transaction, request((CT, one.SOPInstanceUID), (CT, two.SOPInstanceUID)))
    assert (status, answer["00081195"]["Value"]) == (200, [transaction])
    assert sops(answer, "00081199") == [one.SOPInstanceUID, two.SOPInstanceUID]
    assert "00081198" not in answer
    async with client.get(f"/dicomweb/commitment-requests/{transaction}") as response:
        assert await response.json(content_type=None) == answer


async def test_what_is_not_there_deleted_or_of_another_class_fails_with_its_reason(client: Client) -> None:
    one, gone = data_set(), data_set()
    await store(client, part10_file(one), part10_file(gone))
    async with client.delete(f"/dicomweb/studies/{gone.StudyInstanceUID}") as response:
        assert response.status == 204
    other_class = "1.2.840.10008.5.1.4.1.1.4"
    references = request((other_class, one.SOPInstanceUID), (CT, gone.SOPInstanceUID), (CT, uid()))
    status, answer = await ask(client, uid(), references)
    assert (status, "00081199" in answer) == (200, False)
    assert reasons(answer) == [Reason.CLASS_INSTANCE_CONFLICT, Reason.NO_SUCH_INSTANCE, Reason.NO_SUCH_INSTANCE]


async def test_an_object_that_is_no_longer_what_was_stored_is_not_committed(client: Client, core: Core) -> None:
    one, lost = data_set(), data_set()
    await store(client, part10_file(one), part10_file(lost))
    for found, change in ((one, True), (lost, False)):
        (info,) = [each for each in core.archive.objects.list("") if found.SOPInstanceUID in each.key]
        body = bytearray(core.archive.objects.get(info.key))
        core.archive.objects.delete(info.key)
        if change:
            body[-1] ^= 1
            core.archive.objects.put(info.key, [bytes(body)])
    status, answer = await ask(client, uid(), request((CT, one.SOPInstanceUID), (CT, lost.SOPInstanceUID)))
    assert (status, reasons(answer)) == (200, [Reason.PROCESSING_FAILURE] * 2)


async def test_a_transaction_uid_is_good_for_one_request(client: Client) -> None:
    transaction = uid()
    assert (await ask(client, transaction, request((CT, uid()))))[0] == 200
    assert (await ask(client, transaction, request((CT, uid()))))[0] == 409


async def test_a_result_that_takes_long_is_fetched_later(
    client: Client, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = data_set()
    await store(client, part10_file(one))
    monkeypatch.setattr(commitment, "_WAIT_S", 0.05)
    going_on = threading.Event()
    read = core.archive.objects.open

    def slow(*args: Any) -> Any:
        going_on.wait(60)
        return read(*args)

    monkeypatch.setattr(core.archive.objects, "open", slow)
    transaction = uid()
    path = f"/dicomweb/commitment-requests/{transaction}"
    body = json.dumps(request((CT, one.SOPInstanceUID)))
    async with client.post(path, data=body, headers=JSON) as response:
        assert (response.status, int(response.headers["Retry-After"])) == (202, 2)
    async with client.get(path) as response:
        assert response.status == 202
    going_on.set()
    core.commitment.fulfil_left(float("inf"))
    async with client.get(path) as response:
        assert sops(await response.json(content_type=None), "00081199") == [one.SOPInstanceUID]


async def test_xml_is_taken_and_given(client: Client) -> None:
    one = data_set()
    await store(client, part10_file(one))
    body = xml_model.dumps(request((CT, one.SOPInstanceUID)))
    headers = {"Content-Type": "application/dicom+xml", "Accept": "application/dicom+xml"}
    async with client.post(f"/dicomweb/commitment-requests/{uid()}", data=body, headers=headers) as response:
        assert (response.status, response.content_type) == (200, "application/dicom+xml")
        assert sops(xml_model.loads(await response.read()), "00081199") == [one.SOPInstanceUID]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/dicom+json", 400),
        (b"{}", "application/dicom+json", 400),
        (b'{"00081199": {"vr": "SQ", "Value": [3]}}', "application/dicom+json", 400),
        (b'{"00081199": {"vr": "SQ", "Value": [{}]}}', "application/dicom+json", 400),
        (b"{}", "text/plain", 415),
    ],
)
async def test_what_is_no_request_is_refused(client: Client, body: bytes, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type}
    async with client.post(f"/dicomweb/commitment-requests/{uid()}", data=body, headers=headers) as response:
        assert response.status == status


async def test_an_unknown_transaction_is_404_and_one_that_is_no_uid_400(client: Client) -> None:
    for transaction, status in ((uid(), 404), ("x", 400)):
        async with client.get(f"/dicomweb/commitment-requests/{transaction}") as response:
            assert response.status == status


async def test_a_study_of_which_everything_is_committed_is_complete(client: Client, core: Core) -> None:
    one = data_set()
    two = data_set(StudyInstanceUID=one.StudyInstanceUID)
    await store(client, part10_file(one), part10_file(two))

    def completed() -> int:
        rows = core.archive.index.changes(tenant("main"), EVERYTHING, 0, 100).rows
        return len([row for row in rows if row.action is Action.COMPLETED])

    await ask(client, uid(), request((CT, one.SOPInstanceUID)))
    assert completed() == 0
    await ask(client, uid(), request((CT, one.SOPInstanceUID), (CT, two.SOPInstanceUID)))
    assert completed() == 1
