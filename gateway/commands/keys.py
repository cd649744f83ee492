"""Keys of a question to a peer, as people give them: Keyword=value, or Keyword alone to be told of it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pydicom.config
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.valuerep import validate_value

from gateway.commands import terminal
from gateway.commands.arguments import NotUnderstood
from gateway.dimse import asking
from gateway.errors import InvalidQuery

_OURS = frozenset(("QueryRetrieveLevel", "SpecificCharacterSet"))
_NEITHER = frozenset(("SQ", "OB", "OW", "OD", "OF", "OL", "OV", "UN"))
_KEYWORD = 4


def parse(given: Sequence[str]) -> dict[str, str]:
    """Keys by keyword, "" for one to be told of. Raises NotUnderstood, which says what would be right."""
    found: dict[str, str] = {}
    for each in given:
        keyword, _, text = each.partition("=")
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise NotUnderstood([f"{each}: {keyword!r} is no DICOM keyword{_meant(keyword)}"])
        if keyword in _OURS:
            raise NotUnderstood([f"{each}: the command says it by itself; the level is --level"])
        if keyword in found:
            raise NotUnderstood([f"{each}: {keyword} stands twice"])
        if dictionary_VR(tag).partition(" ")[0] in _NEITHER:
            raise NotUnderstood([f"{each}: a sequence or binary value, which cannot be given here"])
        try:
            with as_given():
                asking.identifier("STUDY", {keyword: text})
        except InvalidQuery as error:
            raise NotUnderstood(
                [f"{each}: {text!r} is no value of {keyword}, whose VR is {dictionary_VR(tag)}"]
            ) from error
        _judge(each, dictionary_VR(tag), text)
        found[keyword] = text
    return found


def as_given() -> AbstractContextManager[None]:
    """Around questions: what a key says goes to the peer as it was given, and pydicom is not to judge it again."""
    return pydicom.config.disable_value_validation()


def _judge(given: str, vr: str, text: str) -> None:
    """Say of a value that the standard has no such; a peer may have it all the same."""
    try:
        validate_value(vr, text, pydicom.config.RAISE)
    except ValueError:
        terminal.note(f"{given}: not what {vr} can be (PS3.5 6.2); it is asked for as it is")


def _meant(keyword: str) -> str:
    known = {entry[_KEYWORD].lower(): entry[_KEYWORD] for entry in DicomDictionary.values()}
    close = difflib.get_close_matches(keyword.lower(), known, 1)
    return f"; did you mean {known[close[0]]}?" if close else "; a key is Keyword=value, such as PatientID=4711"
