"""What the audit trail keeps of a search."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from pydicom.datadict import keyword_for_tag

from storage.dicom import vr

_TELLING_NOTHING = frozenset(("UI", "CS", "DA", "TM", "DT"))
_PATIENT_GROUP = "0010"
_MAX_VALUE, _MAX_TEXT = 256, 4096
LEFT_OUT = "..."


def text(keys: Sequence[tuple[str, str]], *, values: bool) -> str:
    """Keys of a search, given as paths and texts to match, as the query of a URL; at most 4,096 characters.

    Without ``values``, ``...`` stands for every value that may tell of a patient: all but UIDs, codes, dates and times
    of what is not the patient's own (group 0010).
    """
    found = []
    for path, value in keys:
        if not value.strip(" *"):
            continue
        tag = path.rpartition(".")[2]
        told = values or (not tag.startswith(_PATIENT_GROUP) and vr.of_tag(int(tag, 16)) in _TELLING_NOTHING)
        found.append(f"{_name(path)}={quote(value[:_MAX_VALUE]) if told else LEFT_OUT}")
    return "&".join(found)[:_MAX_TEXT]


def _name(path: str) -> str:
    return ".".join(keyword_for_tag(int(tag, 16)) or tag for tag in path.split("."))
