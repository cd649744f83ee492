"""Conformance statement 4.7: Storage Commitment."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from pydicom.dataset import Dataset

from tests.conformance.claims import claim
from tests.conformance.conftest import STORE_KEY, Web, instance_path
from tests.instances import data_set, uid

JSON, XML = "application/dicom+json", "application/dicom+xml"


def asked(web: Web, transaction: str, *found: Dataset, sop_class: str = "") -> requests.Response:
    items = [
        {
            "00081150": {"vr": "UI", "Value": [sop_class or each.SOPClassUID]},
            "00081155": {"vr": "UI", "Value": [each.SOPInstanceUID]},
        }
        for each in found
    ]
    body = {"00081199": {"vr": "SQ", "Value": items}}
    return web.send("POST", f"/commitment-requests/{transaction}", json=body, headers={"Content-Type": JSON})


def reasons(answer: requests.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    return [each["00081197"]["Value"][0] for each in answer.json().get("00081198", {}).get("Value", [])]


@claim("C2", "C6")
def test_what_is_kept_is_committed_and_the_result_remains(web: Web) -> None:
    (found,) = web.store(data_set())
    transaction = uid()
    answer = asked(web, transaction, found)
    assert reasons(answer) == []
    result = answer.json()
    assert result["00081195"]["Value"] == [transaction]
    assert result["00081199"]["Value"][0]["00081155"]["Value"] == [found.SOPInstanceUID]
    assert web.get(f"/commitment-requests/{transaction}").json() == result


@claim("C1")
@pytest.mark.parametrize("kind", [JSON, XML])
def test_in_json_and_xml(web: Web, kind: str) -> None:
    (found,) = web.store(data_set())
    space = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
    values = {"00081150": found.SOPClassUID, "00081155": found.SOPInstanceUID}
    inner = "".join(
        f'<DicomAttribute tag="{tag}" vr="UI"><Value number="1">{value}</Value></DicomAttribute>'
        for tag, value in values.items()
    )
    sequence = f'<DicomAttribute tag="00081199" vr="SQ"><Item number="1">{inner}</Item></DicomAttribute>'
    text = f'<NativeDicomModel xmlns="{space}">{sequence}</NativeDicomModel>'
    path, headers = f"/commitment-requests/{uid()}", {"Content-Type": XML}
    answer = asked(web, uid(), found) if kind == JSON else web.send("POST", path, kind, data=text, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, kind)
    assert found.SOPInstanceUID in answer.text
    assert "00081198" not in answer.text


@claim("C3", "C4", "C5")
def test_transactions_of_others_and_those_in_use(web: Web) -> None:
    (found,) = web.store(data_set())
    transaction = uid()
    path = f"/commitment-requests/{transaction}"
    assert web.get(path).status_code == 404
    assert asked(web, transaction, found).status_code == 200
    assert web.get(path, headers={"X-API-Key": STORE_KEY}).status_code == 404
    assert asked(web, transaction, found).status_code == 409
    other = f"/commitment-requests/{uid()}"
    assert web.send("POST", other, data=b"{}", headers={"Content-Type": JSON}).status_code == 400
    assert web.send("POST", other, data=b"x", headers={"Content-Type": "text/plain"}).status_code == 415


@claim("C7", "C8")
def test_reasons_of_what_is_not_committed(web: Web) -> None:
    kept, gone = web.store(data_set(), data_set())
    assert web.send("DELETE", instance_path(gone)).status_code == 204
    assert reasons(asked(web, uid(), kept, gone, data_set())) == [0x0112, 0x0112]
    assert reasons(asked(web, uid(), kept, sop_class="1.2.840.10008.5.1.4.1.1.4")) == [0x0119]
