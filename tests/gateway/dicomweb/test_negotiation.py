"""Content negotiation, on headers that clients really send."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from gateway.dicomweb import negotiation
from gateway.errors import InvalidParameter, NotAcceptable

EXPLICIT, JPEG_LS, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.50"
LOSSLESS, JPEG_2000 = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"


def frame(accept: str | None, stored: str, query: str = "") -> tuple[str, bool, str] | None:
    """Media type, multipart and transfer syntax that a request for one frame gets."""
    headers = {} if accept is None else {"Accept": accept}
    request = make_mocked_request("GET", f"/frames/1{query}", headers=headers)
    for choice in negotiation.bulk_choices(request, single=True, stored=stored):
        syntax = negotiation.frame_syntax(choice, stored, EXPLICIT)
        if syntax is not None:
            return choice.media_type, choice.multipart, syntax
    return None


OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("accept", "stored", "expected"),
    [
        # cornerstone3D and OHIF, quoted and not
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", JPEG_LS, (OCTETS, True, JPEG_LS)),
        ('multipart/related; type="application/octet-stream"; transfer-syntax="*"', JPEG_LS, (OCTETS, True, JPEG_LS)),
        (f'multipart/related; type="{OCTETS}"; transfer-syntax=*; transfer-syntax=*', JPEG_LS, (OCTETS, True, JPEG_LS)),
        # nothing said: uncompressed, but what is lossy already stays as it is
        (None, JPEG_LS, (OCTETS, True, EXPLICIT)),
        ("*/*", JPEG, (OCTETS, True, JPEG)),
        (f'multipart/related; type="{OCTETS}"', JPEG_LS, (OCTETS, True, EXPLICIT)),
        (f'multipart/related; type="{OCTETS}"; transfer-syntax={EXPLICIT}', JPEG, (OCTETS, True, EXPLICIT)),
        # image types, by the standard's name and by what clients call them
        (f'multipart/related; type="image/jls"; transfer-syntax={JPEG_LS}', JPEG_LS, ("image/jls", True, JPEG_LS)),
        ('multipart/related; type="image/x-jls"', JPEG_LS, ("image/x-jls", True, JPEG_LS)),
        ("multipart/related; type=image/dicom+jpeg; transfer-syntax=*", JPEG, ("image/dicom+jpeg", True, JPEG)),
        ("image/jpeg", JPEG, ("image/jpeg", False, JPEG)),
        (OCTETS, JPEG_LS, (OCTETS, False, EXPLICIT)),
        # quality: the better one that can be had
        (f"image/jpeg;q=0.9, {OCTETS};q=0.5", JPEG_LS, ("image/jpeg", False, LOSSLESS)),
        (f"image/jpeg;q=0.4, {OCTETS};q=0.5", JPEG_LS, (OCTETS, False, EXPLICIT)),
        # lists: the first usable
        (
            f"application/dicom+json, multipart/related; type={OCTETS}; transfer-syntax=*",
            JPEG_LS,
            (OCTETS, True, JPEG_LS),
        ),
        # another syntax than the stored one: the type's default, or what is named
        ('multipart/related; type="image/jls"', JPEG, ("image/jls", True, JPEG_LS)),
        ("image/jpeg", JPEG_LS, ("image/jpeg", False, LOSSLESS)),
        ("image/jpeg; transfer-syntax=*", JPEG_LS, ("image/jpeg", False, LOSSLESS)),
        (f"multipart/related; type={OCTETS}; transfer-syntax={JPEG_2000}", JPEG_LS, (OCTETS, True, JPEG_2000)),
        ('multipart/related; type="image/*"', JPEG_LS, ("image/jls", True, JPEG_LS)),
        ('multipart/related; type="image/*"', EXPLICIT, ("image/jpeg", True, LOSSLESS)),
        # a type does not carry another one's syntax
        (f'multipart/related; type="image/jls"; transfer-syntax={JPEG_2000}', JPEG, None),
    ],
)
def test_frames_go_out_as_the_header_wants(accept: str | None, stored: str, expected: object) -> None:
    assert frame(accept, stored) == expected


def test_the_accept_parameter_comes_before_the_header() -> None:
    request = make_mocked_request("GET", "/x?accept=image%2Fjpeg", headers={"Accept": "image/png"})
    assert negotiation.choose(request, ("image/png", "image/jpeg")) == "image/jpeg"


def test_metadata_ignores_a_transfer_syntax_and_takes_the_first_usable_of_a_list() -> None:
    for accept in (
        "application/dicom+json; transfer-syntax=*",
        "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
        "text/html, application/dicom+json",
    ):
        assert (
            negotiation.json_type(make_mocked_request("GET", "/x", headers={"Accept": accept}))
            == "application/dicom+json"
        )
    request = make_mocked_request("GET", "/x", headers={"Accept": "application/json"})
    assert negotiation.json_type(request) == "application/json"


@pytest.mark.parametrize("accept", ["text/html", "application/dicom+xml", "application/dicom+json;q=0"])
def test_what_cannot_be_given_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiation.json_type(make_mocked_request("GET", "/x", headers={"Accept": accept}))


def test_a_browser_gets_the_default() -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    request = make_mocked_request("GET", "/x", headers={"Accept": accept})
    assert negotiation.choose(request, ("image/jpeg",)) == "image/jpeg"


def test_what_is_made_of_a_header_is_the_callers_own() -> None:
    header = 'multipart/related; type="image/jpeg, \\"", */*;q=0.5'
    first = negotiation.parse(header)
    wanted = list(first)
    first.clear()
    assert negotiation.parse(header) == wanted != []


def test_an_endless_header_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        negotiation.parse("a/b," * 5000)


def test_a_single_part_needs_a_single_instance() -> None:
    request = make_mocked_request("GET", "/x", headers={"Accept": "application/dicom"})
    assert not negotiation.resource_choices(request, single=True)[0].multipart
    with pytest.raises(NotAcceptable):
        negotiation.resource_choices(request, single=False)
