"""Conformance statement 4.1 and 4.2: what all services have in common."""

from __future__ import annotations

import pytest
import requests

from tests.conformance.claims import claim
from tests.conformance.conftest import VIEWER, Web, instance_path, parts
from tests.conformance.made import BASELINE, rle
from tests.instances import data_set

JSON = "application/dicom+json"
OCTETS = "application/octet-stream"


@pytest.fixture(scope="module")
def path(web: Web) -> str:
    """An instance that all tests of this module retrieve."""
    return instance_path(web.store(data_set())[0])


@claim("N1")
def test_head_has_the_headers_of_get_and_no_body(web: Web, path: str) -> None:
    got, head = web.get(path, "application/dicom"), web.send("HEAD", path, "application/dicom")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("ETag", "Content-Type", "Content-Length", "Accept-Ranges"):
        assert head.headers[name] == got.headers[name]


@claim("N2")
def test_options_names_the_methods_of_a_path(web: Web, path: str) -> None:
    answer = web.send("OPTIONS", path)
    assert answer.status_code == 204
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "DELETE", "OPTIONS"}


@claim("N3")
def test_a_method_that_a_path_does_not_have_is_405(web: Web, path: str) -> None:
    answer = web.send("PATCH", path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


@claim("N4")
def test_the_accept_parameter_comes_before_the_header_and_a_wildcard_last(web: Web, path: str) -> None:
    asked = web.get(f"{path}/metadata", 'multipart/related; type="application/dicom+xml"', accept="application/json")
    assert asked.headers["Content-Type"] == "application/json"
    header = web.get(f"{path}/metadata", "application/json, */*", accept="image/png")
    assert header.headers["Content-Type"] == "application/json"
    assert web.get(f"{path}/metadata", "image/png, */*;q=0.1").headers["Content-Type"] == JSON


@claim("N5")
def test_what_is_not_available_is_406(web: Web, path: str) -> None:
    assert web.get(f"{path}/metadata", "image/png").status_code == 406
    assert web.get(f"{path}/metadata", "image/png", accept="text/html").status_code == 406


@claim("N6")
def test_a_request_without_accept_gets_the_default(web: Web, path: str) -> None:
    assert web.get(f"{path}/metadata", None).headers["Content-Type"] == JSON
    assert web.get(path, None).headers["Content-Type"].startswith('multipart/related; type="application/dicom"')


@claim("N7")
def test_q_values_decide_then_specific_before_general(web: Web, path: str) -> None:
    types = "application/dicom+json;q=0.4, application/json;q=0.8"
    assert web.get(f"{path}/metadata", types).headers["Content-Type"] == "application/json"
    assert web.get(f"{path}/metadata", "*/*, application/json").headers["Content-Type"] == "application/json"


@claim("N8")
def test_an_unknown_type_in_a_list_is_passed_over(web: Web, path: str) -> None:
    assert web.get(f"{path}/metadata", "application/x-new, nonsense, application/dicom+json").status_code == 200


@claim("N9")
def test_quotes_may_be_missing_and_parameters_repeat(web: Web, path: str) -> None:
    accept = "multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=*"
    answer = web.get(f"{path}/frames/1", accept)
    assert answer.status_code == 200
    assert parts(answer)[0][1] == bytes(range(32))


@claim("N10")
@pytest.mark.parametrize("name", ["image/x-jls", "image/x-dicom-rle", "image/jhc", "image/jll", "image/j2c"])
def test_other_names_of_media_types_come_back_as_they_were_asked_for(web: Web, path: str, name: str) -> None:
    assert web.get(f"{path}/frames/1", name).headers["Content-Type"].partition(";")[0] == name


@claim("N11")
def test_charset_is_taken_by_every_resource_of_table_10_4_1_5(web: Web, path: str) -> None:
    for resource in ("/studies", f"{path}/metadata", path, f"{path}/frames/1", f"{path}/rendered", f"{path}/thumbnail"):
        assert web.get(resource, charset="utf-8").status_code == 200, resource


@claim("N12", "N13")
def test_an_entity_tag_is_strong_and_answered_304(web: Web, path: str) -> None:
    first = web.get(path, "application/dicom")
    tag = first.headers["ETag"]
    assert (tag[0], first.headers["Cache-Control"]) == ('"', "private, no-cache")
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = web.get(path, "application/dicom", {"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert web.get(path, "application/dicom", {"If-None-Match": '"other"'}).status_code == 200


@claim("N14")
def test_what_has_a_size_says_so(web: Web, path: str) -> None:
    for resource, accept in ((path, "application/dicom"), (f"{path}/frames/1", OCTETS), (f"{path}/rendered", "*/*")):
        answer = web.get(resource, accept)
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        assert answer.headers["Accept-Ranges"] == "bytes"


@claim("N15")
def test_ranges_of_a_multipart_fit_together(web: Web, path: str) -> None:
    accept = 'multipart/related; type="application/octet-stream"'
    whole = web.get(f"{path}/frames/1", accept)
    pieces = [web.get(f"{path}/frames/1", accept, {"Range": f"bytes={span}"}) for span in ("0-49", "50-")]
    assert [each.status_code for each in pieces] == [206, 206]
    assert pieces[0].headers["Content-Range"] == f"bytes 0-49/{len(whole.content)}"
    assert b"".join(each.content for each in pieces) == whole.content


@claim("N16")
def test_a_range_beyond_the_end_is_416_with_the_size(web: Web, path: str) -> None:
    answer = web.get(f"{path}/frames/1", OCTETS, {"Range": "bytes=32-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */32")


@claim("N17")
def test_several_ranges_and_a_stale_if_range_are_answered_whole(web: Web, path: str) -> None:
    stale = {"Range": "bytes=0-3", "If-Range": '"stale"'}
    for headers in ({"Range": "bytes=0-1,4-5"}, stale):
        answer = web.get(f"{path}/frames/1", OCTETS, headers)
        assert (answer.status_code, len(answer.content)) == (200, 32)


@claim("N18")
def test_a_206_without_content_range_has_a_warning_that_counts(web: Web) -> None:
    one = data_set(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(range(16)))
    study = one.StudyInstanceUID
    web.store(one, rle(StudyInstanceUID=study))
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={BASELINE}'
    answer = web.get(f"/studies/{study}", accept)
    assert answer.status_code == 206
    assert "Content-Range" not in answer.headers
    assert answer.headers["Warning"].startswith('299 gateway "1 instances')


@claim("N19")
def test_a_trusted_proxy_says_what_urls_begin_with(web: Web, path: str) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example.org", "X-Forwarded-Prefix": "/imaging"}
    (found,) = web.get(f"{path}/metadata", JSON, forwarded).json()
    assert found["7FE00010"]["BulkDataURI"].startswith("https://pacs.example.org/imaging/dicomweb/studies/")


@claim("N20")
def test_urls_begin_with_the_host_of_the_request(web: Web, path: str) -> None:
    host = {"Host": "localhost:8042"}
    (found,) = requests.get(f"{web.root}{path}/metadata", headers=host, timeout=30).json()
    assert found["7FE00010"]["BulkDataURI"].startswith("http://localhost:8042/dicomweb/studies/")


@claim("N21")
def test_only_configured_origins_may_read_answers(web: Web, path: str) -> None:
    answer = web.get(path, headers={"Origin": VIEWER})
    assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
    exposed = answer.headers["Access-Control-Expose-Headers"].split(", ")
    assert {
        "Content-Range",
        "ETag",
        "Warning",
        "Content-Location",
        "Location",
        "Retry-After",
        "X-Snapshot",
        "Sunset",
    } <= {*exposed}
    assert "Access-Control-Allow-Origin" not in web.get(path, headers={"Origin": "https://other.example.org"}).headers


@claim("N22")
def test_a_preflight_asks_for_no_caller_and_is_kept_for_a_day(web: Web, path: str) -> None:
    headers = {"Origin": VIEWER, "Access-Control-Request-Method": "GET", "Authorization": "Bearer nobody's"}
    answer = requests.options(web.root + path, headers=headers, timeout=30)
    assert (answer.status_code, answer.headers["Access-Control-Max-Age"]) == (204, "86400")
