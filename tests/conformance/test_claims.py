"""The statement and its tests stay together; its numbers are those of the code."""

from __future__ import annotations

import re

from gateway.config import Settings
from gateway.dicomweb import api, qido
from gateway.dicomweb.parameters import THUMBNAIL_SIZE
from gateway.imaging import animation, encode
from gateway.imaging.render import RenderRequest
from storage.dicom.attributes import BY_KEYWORD
from tests.conformance.claims import STATEMENT, proven, stated

TEXT = STATEMENT.read_text(encoding="utf-8")
_SETTING = re.compile(r"`([a-z]\w*)\.([a-z]\w*)` \(`?([^)`]+)`?\)")
_UNITS = {"s": 1, "days": 86_400, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "frames": 1}


def _number(text: str) -> float:
    value, _, unit = text.replace(",", "").partition(" ")
    return float(value) * _UNITS[unit] if unit else float(value)


def test_every_claim_has_a_test_and_every_test_a_claim() -> None:
    marks = stated()
    assert len(marks) == len(set(marks)), "a mark stands twice"
    assert sorted(proven()) == sorted(marks)


def test_every_default_in_prose_is_that_of_the_settings() -> None:
    settings = Settings()
    found = _SETTING.findall(TEXT)
    assert len(found) > 10
    for section, name, shown in found:
        value = getattr(getattr(settings, section), name)
        assert (shown if isinstance(value, str) else _number(shown)) == value, f"{section}.{name}"


def test_every_setting_that_is_named_exists() -> None:
    settings = Settings()
    names = re.findall(rf"`({'|'.join(Settings.model_fields)})\.(\w+)", TEXT)
    assert names
    assert [each for each in names if not hasattr(getattr(settings, each[0]), each[1])] == []


def test_every_query_parameter_of_the_code_is_in_the_statement() -> None:
    known = {each.name for operation in api.OPERATIONS.values() for each in operation.parameters}
    marked = set(re.findall(r"[A-Za-z-]+", " ".join(re.findall(r"`[^`\n]+`", TEXT))))
    assert (known | qido.PARAMETERS) - set(BY_KEYWORD) - marked == set()


def test_numbers_of_transcoding_and_rendering_are_those_of_the_code() -> None:
    section = TEXT[TEXT.index("### 4.4 Retrieve") : TEXT.index("### 4.5 Store")]
    assert f"lossy: quality {encode.JPEG_QUALITY}," in section
    assert f"off by more than {encode.NEAR} " in section
    assert f"default {RenderRequest().quality} " in section
    assert f"{THUMBNAIL_SIZE[0]} x {THUMBNAIL_SIZE[1]}" in section
    assert f"at most {animation.MAX_SIDE} pixels a side" in section
