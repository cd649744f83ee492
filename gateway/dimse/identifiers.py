"""C-FIND identifiers: the bytes of a request become a query (PS3.4 C.4.1.1.3 "Identifier").

Read by the archive's own bounded tokenizer, so that no library sees a hostile identifier.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

from gateway.dimse.reader import MAX_IDENTIFIER_BYTES
from gateway.errors import InvalidQuery, PayloadTooLarge
from gateway.services.question import Query
from storage.dicom import charsets, file_meta, json_model
from storage.dicom import vr as vrs
from storage.dicom.attributes import ATTRIBUTES, Computed, Level, describe
from storage.dicom.elements import Event, Kind, Tokenizer
from storage.dicom.limits import Limits

SPECIFIC_CHARACTER_SET = "00080005"
QUERY_RETRIEVE_LEVEL = "00080052"
RETRIEVE_AE_TITLE = "00080054"
INSTANCE_AVAILABILITY = "00080056"
_PATIENT_ID = "00100020"
_ISSUER = "00100021"
_STUDY_UID = "0020000D"
_SERIES_UID = "0020000E"
_SOP_UID = "00080018"

_UNIQUE_KEYS = (
    (Level.PATIENT, "PatientID", _PATIENT_ID),
    (Level.STUDY, "StudyInstanceUID", _STUDY_UID),
    (Level.SERIES, "SeriesInstanceUID", _SERIES_UID),
    (Level.INSTANCE, "SOPInstanceUID", _SOP_UID),
)
_OURS = frozenset((SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL, RETRIEVE_AE_TITLE, INSTANCE_AVAILABILITY))
"""Said by every answer about itself, not matched."""

_LEVELS = {"PATIENT": Level.PATIENT, "STUDY": Level.STUDY, "SERIES": Level.SERIES, "IMAGE": Level.INSTANCE}
_REGISTERED = frozenset(attribute.tag for attribute in ATTRIBUTES)
LEVEL_NAMES = {level: name for name, level in _LEVELS.items()}
_MAX_ELEMENTS = 10_000


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its VR, the text to match ("" for universal matching), and the keys in its items for a sequence."""

    tag: str
    vr: str
    text: str = ""
    nested: tuple[Key, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a request, which come back with each match, in the order of their tags."""

    character_sets: tuple[str, ...]
    keys: tuple[Key, ...]

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Paths and texts of those that are matched (``storage.dicom.attributes.path_of``)."""
        found: list[tuple[str, str]] = []
        for key in self.keys:
            found.extend((f"{key.tag}.{inner.tag}", inner.text) for inner in key.nested if inner.text)
            if key.text:
                found.append((key.tag, key.text))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Identifier(Keys):
    """The keys of a question to the archive."""

    level: Level

    @property
    def unsupported(self) -> bool:
        """Whether a key is asked for that answers of this level never hold."""
        returned = {a.tag for a in ATTRIBUTES if a.level <= self.level and a.computed is not Computed.RETRIEVE_URL}
        return any(key.tag in _REGISTERED and key.tag not in returned for key in self.keys)

    def query(self) -> Query:
        """The question for the query service."""
        return Query(self.level, self.pairs, frozenset(key.tag for key in self.keys), only=True)


def parse(
    encoded: bytes, transfer_syntax_uid: str, limits: Limits, *, patient_root: bool, relational: bool = False
) -> Identifier:
    """Read an identifier.

    Parameters
    ----------
    patient_root
        Whether it is of the Patient Root Information Model; else of the Study Root.
    relational
        Whether unique keys of the levels above may be missing, as was negotiated.

    Raises
    ------
    PayloadTooLarge
        It is longer than any sensible question.
    storage.errors.Unreadable
        Its elements cannot be followed.
    InvalidQuery
        Level or unique keys are not those of the information model (PS3.4 C.4.1.2 "C-FIND SCP Behavior").
    """
    asked = read(encoded, transfer_syntax_uid, limits)
    texts = {key.tag: key.text for key in asked.keys}
    level = _level(texts.get(QUERY_RETRIEVE_LEVEL, ""), patient_root=patient_root)
    if not relational:
        _check_unique_keys(texts, level, patient_root=patient_root)
    return Identifier(asked.character_sets, tuple(key for key in asked.keys if key.tag not in _OURS), level)


def read(encoded: bytes, transfer_syntax_uid: str, limits: Limits) -> Keys:
    """Read the keys of an identifier of any information model.

    Raises
    ------
    PayloadTooLarge
        It is longer than any sensible question.
    storage.errors.Unreadable
        Its elements cannot be followed.
    InvalidQuery
        A key stands twice, or is none.
    """
    if len(encoded) > MAX_IDENTIFIER_BYTES:
        raise PayloadTooLarge(f"an identifier of more than {MAX_IDENTIFIER_BYTES} bytes")
    reader = _Reader(transfer_syntax_uid, _bounded(limits))
    keys = sorted(reader.read(encoded), key=lambda key: key.tag)
    return Keys(reader.character_sets, tuple(keys))


def texts(encoded: bytes, transfer_syntax_uid: str, limits: Limits) -> dict[str, str]:
    """The values of an identifier that answers us, by tag; sequences are left out.

    Raises storage.errors.Unreadable, InvalidQuery.
    """
    keys = _Reader(transfer_syntax_uid, _bounded(limits)).read(encoded)
    return {key.tag: key.text for key in keys if key.vr != "SQ"}


def _bounded(limits: Limits) -> Limits:
    return dataclasses.replace(
        limits,
        max_elements=_MAX_ELEMENTS,
        inline_bytes=MAX_IDENTIFIER_BYTES,
        inflate_allowance_bytes=MAX_IDENTIFIER_BYTES,
        max_inflate_ratio=1,
    )


def retrieved(identifier: Identifier, *, patient_root: bool, relational: bool = False) -> dict[str, str]:
    """The unique keys of a retrieval, by keyword (PS3.4 C.4.2.1.4 "Identifier"). Raises InvalidQuery.

    That of its own level may be a list of UIDs; nothing is retrieved by other keys.
    """
    texts = {key.tag: key.text for key in identifier.keys}
    found = {}
    for level, keyword, tag in _UNIQUE_KEYS:
        if level > identifier.level or (level is Level.PATIENT and not patient_root):
            continue
        text = texts.get(tag, "")
        if relational and level < identifier.level and not text:
            continue
        listed = level is identifier.level and level is not Level.PATIENT
        if not text or any(character in text for character in ("*?" if listed else "\\*?")):
            raise InvalidQuery(f"{describe(tag)}: needs a value, and no wildcard")
        found[keyword] = text
    issuer = texts.get(_ISSUER, "")
    # Two patients may have one Patient ID; who says whose it is means one of them.
    if issuer and "PatientID" in found:
        if any(character in issuer for character in "\\*?"):
            raise InvalidQuery(f"{describe(_ISSUER)}: needs one value, and no wildcard")
        found["IssuerOfPatientID"] = issuer
    return found


def _level(text: str, *, patient_root: bool) -> Level:
    level = _LEVELS.get(text)
    if level is None or (level is Level.PATIENT and not patient_root):
        raise InvalidQuery(f"{describe(QUERY_RETRIEVE_LEVEL)}: not a level of this model")
    return level


def _check_unique_keys(texts: dict[str, str], level: Level, *, patient_root: bool) -> None:
    """PS3.4 C.4.1.2.1: without relational queries, the unique key of each level above has one value."""
    above = [(Level.STUDY, _STUDY_UID), (Level.SERIES, _SERIES_UID)]
    if patient_root:
        above.insert(0, (Level.PATIENT, _PATIENT_ID))
    for upper, tag in above:
        text = texts.get(tag, "")
        if upper < level and (not text or any(character in text for character in "\\*?")):
            raise InvalidQuery(f"{describe(tag)}: needs one value at this level")


class _Reader:
    """Reads the top level and one level of sequence items; what lies deeper is not matched."""

    def __init__(self, transfer_syntax_uid: str, limits: Limits) -> None:
        self._syntax = transfer_syntax_uid
        self._encoding = file_meta.encoding_of(transfer_syntax_uid)
        self._limits = limits
        self._codecs = charsets.DEFAULT
        self.character_sets: tuple[str, ...] = ()

    def read(self, encoded: bytes) -> list[Key]:
        """The keys in the order in which they stand."""
        found: list[Key] = []
        nested: list[Key] = []
        sequences: list[int] = []
        for event in Tokenizer(io.BytesIO(encoded), self._encoding, self._limits):
            if event.kind is Kind.SEQUENCE:
                sequences.append(event.tag)
            elif event.kind is Kind.SEQUENCE_END:
                tag = sequences.pop()
                if not sequences:
                    _add(found, Key(f"{tag:08X}", "SQ", nested=tuple(nested)))
                    nested = []
                elif len(sequences) == 1:
                    _add(nested, Key(f"{tag:08X}", "SQ"))
            elif event.kind is Kind.ELEMENT and event.tag & 0xFFFF and len(sequences) < 2:
                _add(nested if sequences else found, self._key(event, top=not sequences))
            elif event.kind in (Kind.LARGE, Kind.FRAGMENTS):
                raise InvalidQuery(f"{describe(f'{event.tag:08X}')}: not a key")
        return found

    def _key(self, event: Event, *, top: bool) -> Key:
        tag = f"{event.tag:08X}"
        vr = vrs.of_tag(event.tag) if event.vr == "UN" else event.vr
        text = self._text(vr, event.value)
        if top and tag == SPECIFIC_CHARACTER_SET:
            self.character_sets = tuple(part.strip() for part in text.split("\\")) if text else ()
            self._codecs = charsets.encodings(self.character_sets)
        return Key(tag, vr, text)

    def _text(self, vr: str, value: bytes) -> str:
        if vr in vrs.TEXT:
            codecs = self._codecs if vr in vrs.CHARACTER_SET else charsets.DEFAULT
            return charsets.decode(value, codecs, person_name=vr == "PN").strip(" \0")
        if vr in vrs.NUMBER_FORMATS:
            return "\\".join(map(str, json_model.numbers(vr, value, big_endian=self._encoding.big_endian)))
        # Matched by nothing: the query service reports a key with a value as unmatched.
        return value.hex()


def _add(keys: list[Key], key: Key) -> None:
    if any(key.tag == known.tag for known in keys):
        raise InvalidQuery(f"{describe(key.tag)}: stands twice")
    keys.append(key)
