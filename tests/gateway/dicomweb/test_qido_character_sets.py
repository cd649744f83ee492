"""QIDO-RS: names in every character set are found as they are written, and as somebody without its keys types them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from pydicom.data import get_charset_files

from tests.gateway.dicomweb.conftest import Client, store
from tests.gateway.dicomweb.test_qido import get
from tests.instances import data_set, part10_file

FILES = {
    "chrArab.dcm": ("قباني^لنزار", "قباني*"),
    "chrFren.dcm": ("Buc^Jérôme", "buc^jerome"),
    "chrFrenMulti.dcm": ("Buc^Jérôme", "BUC^JEROME"),
    "chrGerm.dcm": ("Äneas^Rüdiger", "aneas^rudiger"),
    "chrGreek.dcm": ("Διονυσιος", "διονυσ*"),
    "chrH31.dcm": ("山田^太郎", "yamada^tarou"),
    "chrH32.dcm": ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ^タロウ"),
    "chrHbrw.dcm": ("שרון^דבורה", "שרון*"),
    "chrI2.dcm": ("洪^吉洞", "hong^gil*"),
    "chrJapMulti.dcm": ("やまだ^たろう", "やまだ*"),
    "chrJapMultiExplicitIR6.dcm": ("やまだ^たろう", "やまだ*"),
    "chrKoreanMulti.dcm": ("김희중", "김*"),
    "chrRuss.dcm": ("Люкceмбypг", "люкc*"),
    "chrX1.dcm": ("王^小東", "wang^xiaodong"),
    "chrX2.dcm": ("王^小东", "wang^xiao*"),
}
MADE = {
    "ISO_IR 101": ("Wałęsa^Świętosława", "walesa^swietoslawa"),
    "ISO_IR 109": ("Ĉapelo^Ġorĝo", "capelo^gorgo"),
    "ISO_IR 110": ("Bērziņš^Jānis", "berzins^janis"),
    "ISO_IR 148": ("Yıldız^Gülşen", "yildiz^gulsen"),
    "ISO_IR 166": ("สมชาย^ใจดี", "สมชาย*"),
}


@pytest.mark.parametrize("name", FILES)
async def test_names_of_pydicoms_character_set_files_are_found(client: Client, name: str) -> None:
    (path,) = (path for path in get_charset_files("*.dcm") if Path(str(path)).name == name)
    await found(client, Path(str(path)).read_bytes(), FILES[name])


@pytest.mark.parametrize("character_set", MADE)
async def test_names_in_other_latin_and_thai_sets_are_found(client: Client, character_set: str) -> None:
    accented, plain = MADE[character_set]
    await found(
        client, part10_file(data_set(SpecificCharacterSet=character_set, PatientName=accented)), (accented, plain)
    )


async def found(client: Client, body: bytes, patterns: tuple[str, str]) -> None:
    """That an instance, beside another one, is found by each way to write its name."""
    assert (await store(client, body, part10_file(data_set(PatientName="Else^Somebody"))))[0] == 200
    for pattern in patterns:
        for more in ("", "&fuzzymatching=true"):
            status, body_, _ = await get(client, f"/studies?PatientName={quote(pattern)}{more}")
            assert (status, len(body_ or [])) == (200, 1), pattern
            groups = body_[0]["00100010"]["Value"][0]
            assert groups["Alphabetic"] != "Else^Somebody"
