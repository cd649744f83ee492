"""How much of what identifies a patient goes, and how much of the rest stays, by the rules of the MIDI-B challenge.

::

    python -m benchmarks.deid_score [DIR ...]

Every readable instance of the samples (and of the directories) gets an identity that nobody has, planted where identity
stands and in the middle of texts that say something else; it is de-identified as a view does it. Then each single thing
that should have happened is looked for: removed values in every byte of the file, kept words where they were, UIDs and
pseudonyms the same over all files, the days between dates. What is missing counts as wrong.
"""

from __future__ import annotations

import argparse
import datetime
import io
import logging
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from gateway.deid import markers
from gateway.deid.engine import deidentify
from gateway.deid.identifiers import DictionaryCleaner, Identifiers
from gateway.deid.profile import Profile
from gateway.deid.pseudonyms import Pseudonyms
from gateway.deid.table import Action
from gateway.deid.uids import NAMES_A_KIND, WELL_KNOWN
from gateway.errors import NotDeidentified
from storage.dicom.limits import Limits
from tests.instances import SHARED

SAMPLES = Path(__file__).parents[1] / "sample_dicom" / "studies"
OPTIONS = (
    "clean_descriptors", "clean_structured_content", "retain_longitudinal_modified_dates", "clean_graphics",
)  # fmt: skip

PEOPLE = (
    ("Zywicki^Qoraline^M", "QX-73291", "19540917", "Ondraszek^Ferdinand", "Brixworth Infirmary"),
    ("Tschudi-Ngata^Wolfhart", "0099-4417-2", "20010228", "Vermehren^Ilka", "Klinikum Norderwied"),
    ("O'Dwyer^Saoirse", "PID44120887", "19880401", "Achterberg^Joos", "St. Elmo's Hospital"),
)
TEXTS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    # Keyword, text, what has to go, what has to stay.
    ("StudyDescription", "CT abdomen with contrast {family}", ("{family}",), ("CT", "abdomen", "with", "contrast")),
    ("SeriesDescription", "AX T2 FLAIR FS {id}", ("{id}",), ("AX", "T2", "FLAIR", "FS")),
    ("ProtocolName", "Thorax routine", (), ("Thorax", "routine")),
    ("ImageComments", "seen by Dr {physician} at {place}, follow up of nodule 8 mm", ("{physician}", "{place}"),
     ("seen", "by", "follow", "up", "of", "nodule", "8", "mm")),
    ("AdditionalPatientHistory",
     "{given} {family}, born {birth_de}, had a stent in segment 7. Call +49 30 5550171 or write to x.y@example.org",
     ("{given}", "{family}", "{birth_de}", "5550171", "x.y@example.org"),
     ("had", "a", "stent", "in", "segment", "7", "Call", "write", "to")),
    ("PatientComments", "{birth_iso} / {birth_us} / {birth_words}: claustrophobic, needs sedation",
     ("{birth_iso}", "{birth_us}", "{birth_words}"), ("claustrophobic", "needs", "sedation")),
    ("RequestedProcedureDescription", "MR knee left {FAMILY}_{GIVEN}", ("{FAMILY}", "{GIVEN}"), ("MR", "knee", "left")),
    ("ReasonForTheRequestedProcedure", "rule out PE, acc {accession}", ("{accession}",), ("rule", "out", "PE", "acc")),
    ("AcquisitionProtocolDescription", "kernel B31f 120 kV 200 mAs pitch 1.2", (),
     ("kernel", "B31f", "120", "kV", "200", "mAs", "pitch", "1.2")),
    ("SeriesDescription", "id {id_plain} dynamic 3D", ("{id_plain}",), ("dynamic", "3D")),
)  # fmt: skip
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
OURS = markers.WRITTEN | {0x00420015}
"""What the engine writes itself: the markers, and the length of a document that is another one."""
ACCESSION = "ACQ-8842190"


class Score:
    """Right and wrong by category, with some of what went wrong."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = defaultdict(list)

    def note(self, category: str, right: bool, example: str) -> None:
        (self.right if right else self.wrong)[category] += 1
        if not right and len(self.examples[category]) < 5:
            self.examples[category].append(example)


def forms(person: tuple[str, ...]) -> dict[str, str]:
    """The spellings of a person's identity that texts use."""
    family, given = person[0].split("^")[:2]
    birth = datetime.date(int(person[2][:4]), int(person[2][4:6]), int(person[2][6:]))
    return {
        "family": family, "given": given, "FAMILY": family.upper(), "GIVEN": given.upper(), "id": person[1],
        "id_plain": person[1].replace("-", ""), "physician": person[3].split("^")[0], "place": person[4],
        "birth_de": f"{birth:%d.%m.%Y}", "birth_iso": f"{birth:%Y-%m-%d}", "birth_us": f"{birth:%m/%d/%Y}",
        "birth_words": f"{birth.day} {birth:%B} {birth.year}", "accession": ACCESSION,
    }  # fmt: skip


def planted(source: Dataset, person: tuple[str, ...], chance: random.Random) -> tuple[Dataset, list[tuple[Any, ...]]]:
    """An instance with an identity, and the texts that were put in: path, what has to go, what has to stay."""
    data_set = pydicom.dcmread(io.BytesIO(written(source)), force=True)
    data_set.PatientName, data_set.PatientID, data_set.PatientBirthDate = person[:3]
    data_set.ReferringPhysicianName, data_set.InstitutionName, data_set.AccessionNumber = *person[3:], ACCESSION
    for number, keyword in enumerate(DATES):
        setattr(data_set, keyword, f"{datetime.date(2024, 2, 20) + datetime.timedelta(days=7 * number):%Y%m%d}")
    said, texts = forms(person), []
    item = Dataset()
    chosen = {each[0]: each for each in chance.sample(TEXTS, k=len(TEXTS))}
    for keyword, text, gone, kept in chosen.values():
        nested = chance.random() < 0.3 and keyword.startswith("Re")
        setattr(item if nested else data_set, keyword, text.format(**said))
        texts.append((nested, keyword, [each.format(**said) for each in gone], kept))
    if any(nested for nested, *_ in texts):
        data_set.RequestAttributesSequence = [item]
    return data_set, texts


def written(data_set: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data_set, enforce_file_format=False)
    return buffer.getvalue()


def instances(folders: list[Path]) -> Iterator[tuple[Path, Dataset]]:
    for folder in folders:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            try:
                found = pydicom.dcmread(path)
                found.decode()
                written(found)
            except Exception:
                continue
            if "SOPInstanceUID" in found and "StudyInstanceUID" in found:
                yield path, found


def uids(data_set: Dataset) -> Iterator[str]:
    for element in data_set.iterall():
        if element.VR == "UI" and int(element.tag) not in NAMES_A_KIND and element.value:
            for value in [element.value] if isinstance(element.value, str) else element.value:
                if str(value) not in WELL_KNOWN:
                    yield str(value)


def scored(folders: list[Path]) -> tuple[Score, int, int]:
    """The score, how many instances it is of, and how many were withheld."""
    profile, pseudonyms, score = Profile.of(OPTIONS), Pseudonyms(b"benchmark of the score, 32 bytes"), Score()
    chance, patients, count, withheld = random.Random(4), {}, 0, 0
    for number, (path, source) in enumerate(instances(folders)):
        person = PEOPLE[number % len(PEOPLE)]
        data_set, texts = planted(source, person, chance)
        known = Identifiers.harvested(data_set, lambda tag: profile.rule(tag).action is Action.K)
        cleaner = DictionaryCleaner(known)
        try:
            found = deidentify(
                data_set, profile, pseudonyms, pseudonyms.patient("main", "", person[1]), cleaner, kept_text=cleaner,
                limits=Limits(),
            )  # fmt: skip
        except NotDeidentified:
            withheld += 1
            continue
        count += 1
        out = pydicom.dcmread(io.BytesIO(found.part10()), force=True)
        body = found.part10()
        if out.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # or nothing could be found in it
            body = written(out)
        _identity(score, path, person, out, body, patients)
        _uids(score, path, data_set, body, pseudonyms)
        _dates(score, path, data_set, out)
        _texts(score, path, texts, out, body)
        _retained(score, path, profile, data_set, out)
    return score, count, withheld


def _identity(
    score: Score, path: Path, person: tuple[str, ...], out: Dataset, body: bytes, patients: dict[str, tuple[str, str]]
) -> None:
    for part in (*person[0].split("^"), person[1], person[2], *person[3].split("^"), person[4], ACCESSION):
        if len(part) > 1:
            score.note("names and ids gone", part.encode() not in body, f"{path.name}: {part}")
    mine = str(out.get("PatientID", "")), str(out.get("PatientName", ""))
    score.note("pseudonyms the same", patients.setdefault(person[1], mine) == mine and all(mine), path.name)


def _uids(score: Score, path: Path, source: Dataset, body: bytes, pseudonyms: Pseudonyms) -> None:
    for uid in sorted(set(uids(source))):
        if len(uid) > 12:
            score.note("UIDs gone", uid.encode() not in body, f"{path.name}: {uid}")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        expected = pseudonyms.uid(str(source.get(keyword, "")))
        score.note("UIDs the same", expected.encode() in body, f"{path.name}: {keyword}")


def _dates(score: Score, path: Path, source: Dataset, out: Dataset) -> None:
    shifts = set()
    for keyword in DATES:
        before, after = (str(each.get(keyword, "") or "") for each in (source, out))
        if len(after) != 8:
            score.note("dates shifted", False, f"{path.name}: {keyword} is {after!r}")
            continue
        days = (datetime.datetime.strptime(after, "%Y%m%d") - datetime.datetime.strptime(before, "%Y%m%d")).days
        shifts.add(days)
        score.note("dates shifted", days != 0 and len(shifts) == 1, f"{path.name}: {keyword} by {days}")


def _texts(score: Score, path: Path, texts: list[tuple[Any, ...]], out: Dataset, body: bytes) -> None:
    for nested, keyword, gone, kept in texts:
        holder = (out.get("RequestAttributesSequence") or [Dataset()])[0] if nested else out
        text = str(holder.get(keyword, ""))
        for each in gone:
            score.note("text removed", each.encode() not in body, f"{path.name}: {keyword}: {each}")
        for each in kept:
            score.note("text retained", each in text, f"{path.name}: {keyword}: {each!r} in {text!r}")


def _retained(score: Score, path: Path, profile: Profile, source: Dataset, out: Dataset) -> None:
    """What the profile keeps and is no text: numbers, codes and pixels have to be what they were."""
    for element in source:
        tag = int(element.tag)
        if tag >> 16 & 1 or element.VR in ("SQ", "UI", "UN", "LO", "SH", "ST", "LT", "UT", "UC", "PN", "AS"):
            continue
        if profile.rule(tag).action is not Action.K or tag in OURS:
            continue
        same = element.tag in out and out[element.tag].value == element.value
        score.note("attributes retained", same, f"{path.name}: {element.keyword or element.tag}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="*", help="more instances (those beside the repository, if any)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    beside = [SHARED] if SHARED.is_dir() else []
    score, count, withheld = scored([SAMPLES, *(arguments.folder or beside)])
    print(f"{count} instances, {withheld} withheld\n\n| what | right | of | % |\n| --- | ---: | ---: | ---: |")
    for category in sorted(score.right | score.wrong):
        whole = score.right[category] + score.wrong[category]
        print(f"| {category} | {score.right[category]} | {whole} | {100 * score.right[category] / whole:.2f} |")
    whole = score.right.total() + score.wrong.total()
    print(f"| all | {score.right.total()} | {whole} | {100 * score.right.total() / whole:.3f} |")
    for category, examples in score.examples.items():
        print(f"\n{category}, wrong: {'; '.join(examples)}")


if __name__ == "__main__":
    main()
