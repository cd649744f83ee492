"""What identifies a patient, harvested where it stands by itself and found where it does not."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Collection
from itertools import islice, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from gateway.deid import spellings
from gateway.deid.identifiers import REPLACEMENT, DictionaryCleaner, Identifiers, Kind
from gateway.errors import NotDeidentified


def known(**attributes: object) -> Identifiers:
    data_set = Dataset()
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return Identifiers.harvested(data_set)


def cleaned(text: str, **attributes: object) -> str:
    return DictionaryCleaner(known(**attributes)).clean(text)


NAME = {"PatientName": "Müller-O'Brien^Ann-Marie^^Dr."}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MULLER, scout", "***, scout"),
        ("Mueller and obrien came", "*** and *** came"),
        ("annmarie", "***"),
        ("Frau Müller", "Frau ***"),
        ("MÜLLER_ANN", "***"),
        ("müller's head", "***'s head"),
        ("O’Brien", "***"),
        ("annular calcification, mullerian duct", "annular calcification, mullerian duct"),
        ("Dr. said CT thorax", "Dr. said CT thorax"),
        ("Mu\u0308ller", "***"),
    ],
)
def test_names_are_found_in_any_spelling_as_words_of_their_own(text: str, expected: str) -> None:
    assert cleaned(text, **NAME) == expected


def test_names_of_everybody_are_harvested_at_any_depth_and_in_every_script() -> None:
    data_set = Dataset()
    data_set.PatientName = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    item = Dataset()
    item.PersonName = "House^Gregory"
    step = Dataset()
    step.VerifyingObserverSequence = [item]
    data_set.ReferencedPerformedProcedureStepSequence = [step]
    cleaner = DictionaryCleaner(Identifiers.harvested(data_set))
    assert cleaner.clean("山田太郎さんのCT") == "***さんのCT"
    assert cleaner.clean("report by GREGORY HOUSE for yamada") == "report by *** for ***"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MRN 12-345-678 seen", "MRN *** seen"),
        ("pid12345678x", "pid***x"),
        ("12345678", "***"),
        ("1234 5678", "***"),
        ("123456789", "123456789"),
        ("912345678", "912345678"),
        ("acc A77/B9", "acc ***"),
        ("a77b9", "***"),
        ("A77 only", "A77 only"),
        ("10 mm at 120 kV", "10 mm at 120 kV"),
    ],
)
def test_numbers_are_found_however_they_are_grouped_and_not_within_longer_ones(text: str, expected: str) -> None:
    assert cleaned(text, PatientID="12345678", AccessionNumber="A77-B9") == expected


@pytest.mark.parametrize("number", ["0", "00", "12", "000000"])
def test_a_number_that_says_too_little_is_not_looked_for(number: str) -> None:
    assert cleaned("0 00 12 000000 mm", PatientID=number) == "0 00 12 000000 mm"


@pytest.mark.parametrize(
    "spelled",
    [
        "19610703", "1961-07-03", "03.07.1961", "3.7.61", "07/03/1961", "7/3/61", "3 July 1961", "July 3, 1961",
        "3. Juli 1961", "3rd of", "JUL 03 1961", "03-Jul-61", "03071961", "19610703143000",
    ],
)  # fmt: skip
def test_a_date_is_found_in_figures_and_words(spelled: str) -> None:
    found = cleaned(f"born {spelled}.", PatientBirthDate="19610703")
    if spelled == "3rd of":
        assert found == "born 3rd of."
    else:
        assert REPLACEMENT in found
        assert not any(part in found for part in ("1961", "61", "Jul", "703"))


def test_dates_that_nobody_taught_go_too_unless_they_are_retained() -> None:
    text = "compared with 2019-02-03 and 4 March 2018"
    assert DictionaryCleaner(Identifiers()).clean(text) == "compared with *** and ***"
    assert DictionaryCleaner(Identifiers(), keeps_dates=True).clean(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "call +49 30 1234567", "mail a.b@example.org", "see https://example.org/x?y=1", "(555) 123-4567",
        "1.2.840.113619.2.55.3.604688119",
    ],
)  # fmt: skip
def test_what_identifies_by_its_form_goes(text: str) -> None:
    assert REPLACEMENT in DictionaryCleaner(Identifiers()).clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "AX T2 FLAIR FS", "CT 5.0 B31f ThorRoutine", "kernel 1.25 mm, 120 kVp, 200 mAs", "v3.2.1", "T1 2.0x2.0x4.0",
        "SIEMENS syngo MR E11", "2 of 3 may be repeated", "LEFT KNEE PA 1.5T", "DWI b0/b500/b1000", "12:30",
        "HFS 512x512 3.75", "1024 images", "Lossless 14.1", "May 5 be seen",
    ],
)  # fmt: skip
def test_text_that_names_nobody_is_kept_as_it_is(text: str) -> None:
    everything = known(
        PatientName="Gray^Ann", PatientID="4711-X", PatientBirthDate="19610703", InstitutionName="St. Mary's Hospital"
    )
    assert DictionaryCleaner(everything).clean(text) == text


def test_institutions_and_addresses_are_found_as_a_whole_and_by_their_lines() -> None:
    places = {"InstitutionName": "St. Mary's Hospital", "InstitutionAddress": "12 Elm Street\r\nSpringfield, 99999"}
    assert cleaned("at ST MARY'S  hospital, Springfield", **places) == "at ***"
    assert cleaned("12 elm street", **places) == "***"
    assert cleaned("hospital", **places) == "hospital"


def test_what_is_joined_is_found_and_what_both_know_is_not_new() -> None:
    one, other = known(PatientName="Gray^Ann"), known(PatientName="Smith^Ann", PatientID="X4711")
    together = one.joined(other)
    assert together.found_in("SMITH")
    assert together.found_in("gray")
    assert together.found_in(b"x-4711")
    assert together.without(one) == Identifiers(names=frozenset(("smith",)), numbers=frozenset(("x4711",)))
    assert Identifiers.loads(together.dumps()) == together
    assert not Identifiers().found_in("Gray")


@given(
    st.text(st.characters(codec="utf-8"), max_size=30), st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
)
def test_whatever_is_cleaned_holds_nothing_that_is_known_and_is_not_changed_again(name: str, around: str) -> None:
    found = Identifiers(names=frozenset(Identifiers.harvested(_named(name)).names))
    cleaner = DictionaryCleaner(found)
    once = cleaner.clean(f"{around} {name} {around}")
    assert cleaner.clean(once) == once
    assert not found.found_in(once)


def _named(name: str) -> Dataset:
    data_set = Dataset()
    data_set.add_new(0x00100010, "PN", name.replace("\\", " "))
    return data_set


HOSTILE = [
    "x" * 500_000,
    "x@" * 100_000,
    "1" + " " * 400_000,
    "1 " * 200_000,
    "1." * 200_000,
    "+1" * 200_000,
    "aa" * 60 + "b",
    ("aa" * 60 + "b ") * 3000,
    "'a" * 100_000,
    "jan " * 100_000,
    "\u0301" * 200_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_text_and_no_name_takes_more_than_its_length(text: str) -> None:
    """A deadline as for liveness: each of these once took minutes, or would have for ever."""
    found = Identifiers(
        names=frozenset("a" * length for length in range(2, 60)),
        numbers=frozenset(("11111", "1111111x")),
        places=frozenset(("x x x x", "jan jan jan")),
        dates=frozenset(("19610703",)),
    )
    begun_s = time.process_time()
    DictionaryCleaner(found).clean(text)
    found.found_in(text)
    assert time.process_time() - begun_s < 20


def test_more_names_than_can_be_looked_for_are_refused() -> None:
    data_set = Dataset()
    data_set.OtherPatientNames = ["".join(letters) for letters in islice(product("abcdefghijklmnop", repeat=4), 2500)]
    with pytest.raises(NotDeidentified):
        Identifiers.harvested(data_set)


def flat_numbers(numbers: Collection[str]) -> re.Pattern[str]:
    """Each number as a pattern of its own, the longest first: what the nested pattern has to find."""
    found = []
    for each in sorted(numbers, key=len, reverse=True):
        spelled = (r"[\s\-./_,^]{0,8}" if len(each) >= 5 else "").join(re.escape(character) for character in each)
        before = r"(?<!\d)" if each[0].isdigit() else r"(?<![^\W\d_])"
        after = r"(?!\d)" if each[-1].isdigit() else r"(?![^\W\d_])"
        found.append(f"{before}{spelled}{after}")
    return re.compile("|".join(found))


def flat_dates(dates: Collection[str]) -> re.Pattern[str]:
    """Likewise of dates."""
    found = []
    for each in sorted(dates):
        month, day = int(each[4:6]), int(each[6:])
        names = {1: "january|januar|janvier|enero|jan", 12: "december|dezember|decembre|diciembre|dec|dez"}[month]
        m, d, years, between = f"0?{month}", f"0?{day}", f"(?:{each[:4]}|{each[2:4]})", r"[\s\-./_]{1,8}"
        found += [
            rf"(?<!\d){each}",
            *(rf"(?<!\d){between.join(order)}(?!\d)" for order in ((years, m, d), (d, m, years), (m, d, years))),
            rf"(?<!\d){d}(?:st|nd|rd|th|\.)?[\s\-.]{{0,8}}(?:{names})\.?,?[\s\-.]{{0,8}}'?{years}(?!\d)",
            rf"(?<![^\W\d_])(?:{names})\.?\s{{0,8}}{d}(?:st|nd|rd|th)?,?\s{{0,8}}'?{years}(?!\d)",
            rf"(?<!\d)(?:{day:02}{month:02}|{month:02}{day:02}){each[:4]}(?!\d)",
        ]
    return re.compile("|".join(found))


_NUMBERS = st.sets(st.text("12ab+", min_size=3, max_size=9), min_size=1, max_size=30)
_DATED = st.sets(
    st.builds(
        "{}{}{:02}".format, st.sampled_from(("1961", "2020", "2061")), st.sampled_from(("01", "12")), st.integers(1, 12)
    ),
    min_size=1,
    max_size=20,
)
_PIECES = (
    "1",
    "2",
    "12",
    "01",
    "61",
    "1961",
    "2020",
    "20",
    "jan",
    "January",
    "dez",
    "st",
    ".",
    "-",
    "/",
    " ",
    ", ",
    "'",
    "x",
)


@given(_NUMBERS, st.lists(st.sampled_from(("1", "2", "a", "b", "+", "-", " ", "3", "z")), max_size=40), st.data())
def test_numbers_are_found_as_each_of_them_by_itself_would_be(
    numbers: set[str], pieces: list[str], data: st.DataObject
) -> None:
    between = data.draw(st.sampled_from(("", "-", " ", "./")))
    spelled = between.join(data.draw(st.sampled_from(sorted(numbers))))
    text = "".join(pieces[: len(pieces) // 2]) + spelled + "".join(pieces[len(pieces) // 2 :])
    pattern = spellings.of_numbers(numbers)
    assert pattern is not None
    wanted = [found.span() for found in flat_numbers(numbers).finditer(text)]
    assert [found.span() for found in pattern.finditer(text)] == wanted


@given(_DATED, st.lists(st.sampled_from(_PIECES), max_size=30))
def test_dates_are_found_as_each_of_them_by_itself_would_be(dates: set[str], pieces: list[str]) -> None:
    text = "".join(pieces).lower()
    pattern = spellings.of_dates(dates)
    assert pattern is not None
    wanted = [found.span() for found in flat_dates(dates).finditer(text)]
    assert [found.span() for found in pattern.finditer(text)] == wanted


_WORDS = ("a", "ab", "ward", "17", "north", "clinic")


@given(
    st.sets(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4).map(" ".join), min_size=1, max_size=20),
    st.lists(st.sampled_from((*_WORDS, " ", " ", ", ", "-", "_")), max_size=30),
)
def test_places_are_found_as_each_of_them_by_itself_would_be(places: set[str], pieces: list[str]) -> None:
    text = "".join(pieces)
    spelled = (place.replace(" ", r"[\W_]{1,8}") for place in sorted(places, key=len, reverse=True))
    flat = "|".join(rf"(?<![^\W_]){each}(?![^\W_])" for each in spelled)
    pattern = spellings.of_places(places)
    assert pattern is not None
    wanted = [found.span() for found in re.finditer(flat, text)]
    assert [found.span() for found in pattern.finditer(text)] == wanted


def test_more_than_can_be_looked_for_is_told_by_count_and_by_length() -> None:
    numbers = frozenset(f"{number:06}" for number in range(11))
    assert Identifiers(numbers=numbers).excess(11) is None
    assert Identifiers(numbers=numbers).excess(10) is Kind.NUMBER
    assert Identifiers(places=frozenset(("x" * 641,))).excess(10) is Kind.PLACE


def test_ten_thousand_of_each_kind_are_looked_for_in_a_text_in_a_moment() -> None:
    """As many as there can be of one patient: names and numbers of a phantom, of every day of 27 years."""
    days = (datetime.date(1999, 1, 1) + datetime.timedelta(number) for number in range(10_000))
    words = ("".join(letters) for letters in product("abcdefghijklmnopqrst", repeat=4))
    found = Identifiers(
        frozenset(islice(words, 10_000)),
        frozenset(f"acc{number * 7919:09}" for number in range(10_000)),
        frozenset(f"ward {number} north" for number in range(10_000)),
        frozenset(f"{day:%Y%m%d}" for day in days),
    )
    text = "CT thorax with contrast, 5 mm, compared with the one of March 4th, 2011 (acc 000-007-919), ward 17, north. "
    assert found.found_in("acc 000-007-919")
    started_s = time.process_time()
    assert len(found.places_in(text * 100)) == 300
    assert time.process_time() - started_s < 2.0
