"""Short data sets, as messages have them, in the DICOM JSON Model: nothing of them is bulk."""

from __future__ import annotations

import io
from dataclasses import replace

from storage.dicom import charsets, file_meta, json_model
from storage.dicom import vr as vrs
from storage.dicom.attributes import describe
from storage.dicom.elements import Kind, Tokenizer
from storage.dicom.json_model import JsonDataSet
from storage.dicom.limits import Limits
from storage.errors import MalformedDataSet

_MAX_ELEMENTS = 100_000
_SPECIFIC_CHARACTER_SET = 0x00080005


def read(encoded: bytes, transfer_syntax_uid: str, limits: Limits) -> JsonDataSet:
    """A data set whose texts are in Unicode; group lengths and its Specific Character Set are left out.

    Raises storage.errors.Unreadable.
    """
    encoding = file_meta.encoding_of(transfer_syntax_uid)
    bounded = replace(
        limits,
        max_elements=min(limits.max_elements, _MAX_ELEMENTS),
        inline_bytes=max(1, len(encoded)),
        inline_binary_bytes=max(1, len(encoded)),
        inflate_allowance_bytes=max(1, len(encoded)),
        max_inflate_ratio=16,
    )
    levels: list[tuple[JsonDataSet, charsets.Encodings]] = [({}, charsets.DEFAULT)]
    items: list[list[JsonDataSet]] = []
    for event in Tokenizer(io.BytesIO(encoded), encoding, bounded):
        data_set, codecs = levels[-1]
        name = f"{event.tag:08X}"
        if event.kind is Kind.ITEM:
            levels.append(({}, codecs))
        elif event.kind is Kind.ITEM_END:
            items[-1].append(levels.pop()[0])
        elif event.kind is Kind.EMPTY_ITEMS:
            items[-1].extend({} for _ in range(event.length))
        elif event.kind is Kind.SEQUENCE:
            _check_new(data_set, name)
            items.append([])
        elif event.kind is Kind.SEQUENCE_END:
            found = items.pop()
            data_set[name] = {"vr": "SQ", "Value": found} if found else {"vr": "SQ"}
        elif event.kind is not Kind.ELEMENT:
            raise MalformedDataSet(f"{describe(name)} is too long, or in fragments")
        elif event.tag == _SPECIFIC_CHARACTER_SET:
            named = event.value.decode("ascii", "replace").strip(" \0")
            levels[-1] = data_set, charsets.encodings(tuple(part.strip() for part in named.split("\\")))
        elif event.tag & 0xFFFF:
            _check_new(data_set, name)
            known = vrs.of_tag(event.tag) if event.vr == "UN" else event.vr
            vr = event.vr if known == "SQ" else known
            data_set[name] = json_model.element(vr, event.value, codecs, big_endian=encoding.big_endian)
    return levels[0][0]


def _check_new(data_set: JsonDataSet, name: str) -> None:
    if name in data_set:
        raise MalformedDataSet(f"{describe(name)} stands twice in one data set")
