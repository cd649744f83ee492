"""Command sets: decoded and encoded as they are, in Implicit VR Little Endian (PS3.7 6.3.1 "Command Set Structure").

References
----------
PS3.7 9.3 and 10.3 "Protocol" (which elements a message has), E.1 "Registry of DICOM Command Elements".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

MAX_BYTES = 65_536
NO_DATA_SET = 0x0101
_DATA_SET_FOLLOWS = 0x0001
_RESPONSE = 0x8000
_PENDING = 0xFF00
_HEADER = struct.Struct("<HHI")


class Field(IntEnum):
    """Command Field (0000,0100) of the messages that we know."""

    C_STORE_RQ = 0x0001
    C_STORE_RSP = 0x8001
    C_GET_RQ = 0x0010
    C_GET_RSP = 0x8010
    C_FIND_RQ = 0x0020
    C_FIND_RSP = 0x8020
    C_MOVE_RQ = 0x0021
    C_MOVE_RSP = 0x8021
    C_ECHO_RQ = 0x0030
    C_ECHO_RSP = 0x8030
    N_EVENT_REPORT_RQ = 0x0100
    N_EVENT_REPORT_RSP = 0x8100
    N_GET_RQ = 0x0110
    N_GET_RSP = 0x8110
    N_SET_RQ = 0x0120
    N_SET_RSP = 0x8120
    N_ACTION_RQ = 0x0130
    N_ACTION_RSP = 0x8130
    N_CREATE_RQ = 0x0140
    N_CREATE_RSP = 0x8140
    C_CANCEL_RQ = 0x0FFF


class Element(IntEnum):
    """Element numbers of group 0000."""

    GROUP_LENGTH = 0x0000
    AFFECTED_SOP_CLASS_UID = 0x0002
    REQUESTED_SOP_CLASS_UID = 0x0003
    COMMAND_FIELD = 0x0100
    MESSAGE_ID = 0x0110
    MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
    MOVE_DESTINATION = 0x0600
    PRIORITY = 0x0700
    COMMAND_DATA_SET_TYPE = 0x0800
    STATUS = 0x0900
    OFFENDING_ELEMENT = 0x0901
    ERROR_COMMENT = 0x0902
    ERROR_ID = 0x0903
    AFFECTED_SOP_INSTANCE_UID = 0x1000
    REQUESTED_SOP_INSTANCE_UID = 0x1001
    EVENT_TYPE_ID = 0x1002
    ATTRIBUTE_IDENTIFIER_LIST = 0x1005
    ACTION_TYPE_ID = 0x1008
    REMAINING_SUB_OPERATIONS = 0x1020
    COMPLETED_SUB_OPERATIONS = 0x1021
    FAILED_SUB_OPERATIONS = 0x1022
    WARNING_SUB_OPERATIONS = 0x1023
    MOVE_ORIGINATOR_AE_TITLE = 0x1030
    MOVE_ORIGINATOR_MESSAGE_ID = 0x1031


_UIDS = frozenset(
    (
        Element.AFFECTED_SOP_CLASS_UID,
        Element.REQUESTED_SOP_CLASS_UID,
        Element.AFFECTED_SOP_INSTANCE_UID,
        Element.REQUESTED_SOP_INSTANCE_UID,
    )
)
_TEXTS = frozenset((Element.MOVE_DESTINATION, Element.ERROR_COMMENT, Element.MOVE_ORIGINATOR_AE_TITLE))
_TAGS = frozenset((Element.OFFENDING_ELEMENT, Element.ATTRIBUTE_IDENTIFIER_LIST))
_NUMBERS = frozenset(Element) - _UIDS - _TEXTS - _TAGS - {Element.GROUP_LENGTH}

_AFFECTED = (Element.AFFECTED_SOP_CLASS_UID, Element.MESSAGE_ID)
_REQUESTED = (Element.REQUESTED_SOP_CLASS_UID, Element.MESSAGE_ID, Element.REQUESTED_SOP_INSTANCE_UID)
_ANSWERED = (Element.MESSAGE_ID_BEING_RESPONDED_TO, Element.STATUS)
_NEEDED: Mapping[int, tuple[Element, ...]] = {
    Field.C_STORE_RQ: (*_AFFECTED, Element.AFFECTED_SOP_INSTANCE_UID),
    Field.C_FIND_RQ: _AFFECTED,
    Field.C_GET_RQ: _AFFECTED,
    Field.C_MOVE_RQ: (*_AFFECTED, Element.MOVE_DESTINATION),
    Field.C_ECHO_RQ: _AFFECTED,
    Field.C_CANCEL_RQ: (Element.MESSAGE_ID_BEING_RESPONDED_TO,),
    Field.N_ACTION_RQ: (*_REQUESTED, Element.ACTION_TYPE_ID),
    Field.N_GET_RQ: _REQUESTED,
    Field.N_SET_RQ: _REQUESTED,
    Field.N_CREATE_RQ: _AFFECTED,
    Field.C_STORE_RSP: _ANSWERED,
    Field.C_FIND_RSP: _ANSWERED,
    Field.C_GET_RSP: _ANSWERED,
    Field.C_MOVE_RSP: _ANSWERED,
    Field.C_ECHO_RSP: _ANSWERED,
    Field.N_EVENT_REPORT_RSP: _ANSWERED,
}
"""Messages that we take, and what they cannot do without."""

Value = int | str


class MalformedCommand(Exception):
    """A command set that cannot be followed, or lacks what its message cannot do without."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command set: the values of its elements as they stand, by element number; group length left out."""

    elements: Mapping[int, bytes]

    @classmethod
    def of(cls, field: Field, values: Mapping[Element, Value], *, data_set: bool) -> Command:
        """A command set to send."""
        given = {
            Element.COMMAND_FIELD: int(field),
            Element.COMMAND_DATA_SET_TYPE: _DATA_SET_FOLLOWS if data_set else NO_DATA_SET,
            **values,
        }
        return cls({element: _bytes(element, given[element]) for element in sorted(given)})

    @classmethod
    def decode(cls, encoded: bytes | bytearray) -> Command:
        """Raises MalformedCommand."""
        found: dict[int, bytes] = {}
        position = 0
        while position + _HEADER.size <= len(encoded):
            group, element, length = _HEADER.unpack_from(encoded, position)
            start, position = position + _HEADER.size, position + _HEADER.size + length
            if group or position > len(encoded) or element in found:
                raise MalformedCommand("elements that cannot be followed")
            found[element] = bytes(encoded[start:position])
        if position != len(encoded):
            raise MalformedCommand("it ends inside an element")
        found.pop(Element.GROUP_LENGTH, None)
        command = cls(found)
        command._check()
        return command

    def _check(self) -> None:
        for element, value in self.elements.items():
            if element in _NUMBERS and len(value) not in (0, 2):
                raise MalformedCommand("a number that is none")
            if element in _TAGS and len(value) % 4:
                raise MalformedCommand("a list of attributes that is none")
            if (element in _UIDS or element in _TEXTS) and not value.isascii():
                raise MalformedCommand("a text outside of its repertoire")
        for needed in (Element.COMMAND_FIELD, Element.COMMAND_DATA_SET_TYPE, *_NEEDED.get(self.field, ())):
            if not self.elements.get(needed, b"").strip(b"\0 ") and not (
                needed in _NUMBERS and needed in self.elements
            ):
                raise MalformedCommand("it lacks what its message cannot do without")
            if needed in _NUMBERS and not self.elements[needed]:
                raise MalformedCommand("it lacks what its message cannot do without")
        if self.field not in _NEEDED:
            raise MalformedCommand("a message of another service")

    def encode(self) -> bytes:
        """With its group length, as it goes into the command fragments."""
        body = b"".join(_HEADER.pack(0, element, len(value)) + value for element, value in self.elements.items())
        return _HEADER.pack(0, Element.GROUP_LENGTH, 4) + struct.pack("<I", len(body)) + body

    def number(self, element: Element) -> int:
        """An US value; 0 when there is none."""
        return int.from_bytes(self.elements.get(element, b""), "little")

    def text(self, element: Element) -> str:
        """A UI, AE or LO value without its padding; "" when there is none."""
        return self.elements.get(element, b"").decode("ascii").strip("\0 ")

    def tags(self, element: Element) -> list[str]:
        """AT values, each as eight hexadecimal digits."""
        pairs = struct.iter_unpack("<HH", self.elements.get(element, b""))
        return [f"{group:04X}{number:04X}" for group, number in pairs]

    @property
    def field(self) -> int:
        """Command Field; a ``Field`` once it is decoded."""
        return self.number(Element.COMMAND_FIELD)

    @property
    def message_id(self) -> int:
        """Message ID of a request."""
        return self.number(Element.MESSAGE_ID)

    @property
    def responds_to(self) -> int:
        """Message ID Being Responded To, of a response or a C-CANCEL."""
        return self.number(Element.MESSAGE_ID_BEING_RESPONDED_TO)

    @property
    def status(self) -> int:
        """Status of a response."""
        return self.number(Element.STATUS)

    @property
    def is_response(self) -> bool:
        """Whether it answers a request of ours."""
        return bool(self.field & _RESPONSE)

    @property
    def is_pending(self) -> bool:
        """Whether more responses follow this one (PS3.7 C.1.3 "Pending")."""
        return self.status & 0xFF00 == _PENDING

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.number(Element.COMMAND_DATA_SET_TYPE) != NO_DATA_SET

    def response(self, status: int, values: Mapping[Element, Value], *, data_set: bool) -> Command:
        """The command set of a response to this request.

        Its SOP class and instance are those of the request; an N-service responds with "affected" to "requested"
        (PS3.7 10.3.5.2).
        """
        about: dict[Element, Value] = {}
        for affected, requested in (
            (Element.AFFECTED_SOP_CLASS_UID, Element.REQUESTED_SOP_CLASS_UID),
            (Element.AFFECTED_SOP_INSTANCE_UID, Element.REQUESTED_SOP_INSTANCE_UID),
        ):
            uid = self.text(affected) or self.text(requested)
            if uid:
                about[affected] = uid
        answered: dict[Element, Value] = {
            **about,
            Element.MESSAGE_ID_BEING_RESPONDED_TO: self.message_id,
            Element.STATUS: status,
            **values,
        }
        return Command.of(Field(self.field | _RESPONSE), answered, data_set=data_set)


def _bytes(element: Element, value: Value) -> bytes:
    if isinstance(value, str):
        encoded = value.encode("ascii")
        return encoded + (b"\0" if element in _UIDS else b" ") * (len(encoded) % 2)
    if element in _TAGS:
        return struct.pack("<HH", value >> 16, value & 0xFFFF)
    return struct.pack("<H", value)
