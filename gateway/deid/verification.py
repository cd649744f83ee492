"""The last look at what came out: whether it says anything that is known to identify its patient."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from gateway.deid.identifiers import Identifiers
from gateway.deid.values import WORDS
from storage.dicom.json_model import JsonDataSet

_OURS = frozenset(("00100010", "00100020", "00120063", "00120064"))
"""What the engine itself wrote: pseudonyms, the method and its codes."""
_PRINTABLE = re.compile(rb"[\x20-\x7e]{4,}")
_BYTES = frozenset(("OB", "UN"))


def residues(data_set: JsonDataSet, known: Identifiers, path: str = "") -> Iterator[str]:
    """Attributes, by their path, whose text says something that is known of the patient.

    Looked at are words, at every depth, and printable runs of short byte values. Numbers, codes, dates and UIDs were
    decided by the table: a number of three figures is found in any of them.
    """
    for tag, element in data_set.items():
        vr, place = element.get("vr"), f"{path}{tag}"
        if vr == "SQ":
            for number, item in enumerate(element.get("Value", ()), 1):
                yield from residues(item, known, f"{place}.{number}.")
        elif tag in _OURS and not path:
            continue
        elif vr in WORDS:
            if any(known.found_in(text) for value in element.get("Value", ()) for text in _texts(value)):
                yield place
        elif vr in _BYTES and "InlineBinary" in element:
            data = _decoded(element["InlineBinary"])
            runs = (run.decode("ascii") for run in _PRINTABLE.findall(data))
            if known.found_in(data) or any(known.found_in(run) for run in runs):
                yield place


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):  # the component groups of a name
        yield from (str(each) for each in value.values())
    elif value is not None:
        yield str(value)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""
