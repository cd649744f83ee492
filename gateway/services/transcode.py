"""Instances in another transfer syntax: which are possible, and what changes in the data set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from gateway.imaging import encode
from gateway.imaging.description import PixelDescription
from gateway.services.frames import FrameReader
from storage.dicom import file_meta, json_model
from storage.dicom.file_meta import FileMeta
from storage.dicom.frames import FrameKind
from storage.dicom.json_model import JsonDataSet
from storage.dicom.reencode import Edits, EncapsulatedPixels, NativePixels
from storage.index.stored import Located

_IMAGE_TYPE, _SOP_INSTANCE = 0x00080008, 0x00080018
_DERIVATION, _SOURCE_IMAGES = 0x00082111, 0x00082112
_PHOTOMETRIC, _PLANAR = 0x00280004, 0x00280006
_LOSSY, _LOSSY_RATIO, _LOSSY_METHOD = 0x00282110, 0x00282112, 0x00282114
_ICON = 0x00880200

_ALWAYS_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 53, 55))


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What makes an instance one in another transfer syntax."""

    meta: FileMeta
    edits: Edits
    pixels: NativePixels | EncapsulatedPixels | None


def rewriting(
    located: Located,
    reader: FrameReader,
    data_set: JsonDataSet,
    transfer_syntax_uid: str,
    frames: Iterator[bytes] | None = None,
) -> Rewriting:
    """How to write an instance in a transfer syntax that ``reader`` offers.

    The first frame is made at once: one that cannot be made is an error before anything is sent.

    Parameters
    ----------
    frames
        The codestreams, where somebody else makes them.

    Raises
    ------
    NotFound, NotAcceptable, gateway.imaging.errors.ImagingError
    """
    sop_uid = str(located.key.sop_uid)
    if reader.stored_syntax == transfer_syntax_uid or reader.layout.frames.kind is FrameKind.NONE:
        return Rewriting(FileMeta(transfer_syntax_uid, located.sop_class_uid, sop_uid), Edits(), None)
    # Offset tables go with the fragments; an encapsulated icon has no place in a native data set, and is one of the
    # things that a reader can make for itself (PS3.3 C.7.6.1.1.6).
    without = frozenset() if located.transfer_syntax_uid in file_meta.NATIVE else frozenset((_ICON,))
    if transfer_syntax_uid == file_meta.EXPLICIT_VR_LITTLE_ENDIAN:
        description, pixels = reader.decoded_description, _native(reader)
        values = _described(description, planar=description.planar_configuration)
        if located.transfer_syntax_uid in _ALWAYS_LOSSY:
            values[_LOSSY] = ("CS", b"01")
        return Rewriting(
            FileMeta(transfer_syntax_uid, located.sop_class_uid, sop_uid), Edits(values, {}, without), pixels
        )
    decoded = reader.decoded_description
    description = encode.encoded_description(decoded, transfer_syntax_uid)
    values, items = _described(description, planar=0), {}
    frames = frames or reader.transcoded(range(1, reader.count + 1), transfer_syntax_uid)
    first = next(frames)
    if located.transfer_syntax_uid in _ALWAYS_LOSSY:
        values[_LOSSY] = ("CS", b"01")
    if transfer_syntax_uid in encode.LOSSY_METHODS:
        sop_uid = served_sop_uid(located, transfer_syntax_uid)
        values |= _lossy(data_set, sop_uid, transfer_syntax_uid, decoded.frame_bytes / len(first))
        items[_SOURCE_IMAGES] = _reference(located)
    return Rewriting(
        FileMeta(transfer_syntax_uid, located.sop_class_uid, sop_uid),
        Edits(values, items, without),
        EncapsulatedPixels(chain((first,), frames)),
    )


def served_sop_uid(located: Located, transfer_syntax_uid: str) -> str:
    """The SOP Instance UID of an instance in a transfer syntax: a lossy version has its own.

    An image that was compressed lossily from another DICOM image is another instance (PS3.3 C.7.6.1.1.5); its UID,
    made out of the version's name, is the same each time (as PS3.4 C.3.5 asks where instances are made on retrieval).
    """
    if transfer_syntax_uid == located.transfer_syntax_uid or transfer_syntax_uid not in encode.LOSSY_METHODS:
        return str(located.key.sop_uid)
    name = f"{located.key.sop_uid} {located.version} {transfer_syntax_uid}"
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def _native(reader: FrameReader) -> NativePixels:
    numbers = range(1, reader.count + 1)
    reader.check(numbers)
    description = reader.decoded_description
    frame_bytes = (description.native_bits + 7) // 8
    length = reader.count * frame_bytes
    decoded = reader.decoded(numbers)
    first = list(decoded.content(0).read(0, frame_bytes))

    def blocks() -> Iterator[bytes]:
        yield from first
        for place in range(1, reader.count):
            yield from decoded.content(place).read(0, frame_bytes)
        if length % 2:
            yield b"\0"

    return NativePixels("OW" if description.bits_allocated > 8 else "OB", length + length % 2, blocks())


def _described(description: PixelDescription, *, planar: int) -> dict[int, tuple[str, bytes]]:
    found = {_PHOTOMETRIC: ("CS", _text(description.photometric_interpretation.value))}
    if description.samples_per_pixel > 1:
        found[_PLANAR] = ("US", planar.to_bytes(2, "little"))
    return found


def _lossy(data_set: JsonDataSet, sop_uid: str, transfer_syntax_uid: str, ratio: float) -> dict[int, tuple[str, bytes]]:
    """PS3.3 C.7.6.1.1.5; ratios and methods of earlier steps stay before this one's."""
    ratios = [str(value) for value in _values(data_set, "00282112")]
    methods = [str(value) for value in _values(data_set, "00282114")]
    types = [str(value) for value in _values(data_set, "00080008")] or ["", "PRIMARY"]
    found = {
        _IMAGE_TYPE: ("CS", _text("\\".join(["DERIVED", *types[1:]]))),
        _SOP_INSTANCE: ("UI", _uid(sop_uid)),
        _LOSSY: ("CS", b"01"),
        _LOSSY_RATIO: ("DS", _text("\\".join([*ratios, f"{ratio:.2f}"]))),
        _LOSSY_METHOD: ("CS", _text("\\".join([*methods, encode.LOSSY_METHODS[transfer_syntax_uid]]))),
    }
    if not json_model.text_of(data_set, "00082111"):
        found[_DERIVATION] = ("ST", _text("Lossy compression on retrieval"))
    return found


def _values(data_set: JsonDataSet, tag: str) -> list[object]:
    return [value for value in data_set.get(tag, {}).get("Value", ()) if value is not None]


def _reference(located: Located) -> bytes:
    """An item of Source Image Sequence that names the original (PS3.3 C.12.4.1.2)."""
    body = b"".join(
        b"\x08\x00" + number.to_bytes(2, "little") + b"UI" + len(value).to_bytes(2, "little") + value
        for number, value in ((0x1150, _uid(str(located.sop_class_uid))), (0x1155, _uid(str(located.key.sop_uid))))
    )
    return b"\xfe\xff\x00\xe0" + len(body).to_bytes(4, "little") + body


def _text(value: str) -> bytes:
    raw = value.encode("ascii", "replace")
    return raw + b" " * (len(raw) % 2)


def _uid(value: str) -> bytes:
    raw = value.encode("ascii")
    return raw + b"\0" * (len(raw) % 2)
