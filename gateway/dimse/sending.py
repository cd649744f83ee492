"""Instances to a peer that stores them: C-STORE as a Service Class User.

References
----------
PS3.4 B.2.3 "Statuses", PS3.7 9.1.1 "C-STORE Service", PS3.8 7.1.1.13 "Presentation Context Definition List".
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from gateway.config.serving import DimseSettings
from gateway.dimse import requesting
from gateway.dimse.association import Exchange
from gateway.dimse.commands import Command, Element, Field, Value
from gateway.dimse.requesting import Address, Requested
from storage.dicom import file_meta

Kind = tuple[str, str]
"""SOP class and transfer syntax."""
PLAIN = (file_meta.EXPLICIT_VR_LITTLE_ENDIAN, file_meta.IMPLICIT_VR_LITTLE_ENDIAN)
"""What every peer should take, in the order of preference."""
_MEDIUM = 0
_MAX_MESSAGE_ID = 0xFFFF


def is_stored(status: int) -> bool:
    """Whether a status says that the peer has the instance."""
    return status == 0 or is_warning(status)


def is_warning(status: int) -> bool:
    """Whether it has it, with a warning (PS3.7 C.4, PS3.4 B.2.3)."""
    return status & 0xF000 == 0xB000 or status in (0x0001, 0x0107, 0x0116)


@dataclass(frozen=True, slots=True)
class Originator:
    """Who asked for it by a C-MOVE request, and the number of that."""

    ae_title: str
    message_id: int


def begun(data_set: Iterator[bytes]) -> Iterator[bytes]:
    """A data set whose first block has been read: what cannot be read at all is known before anything is sent."""
    return chain((next(data_set, b""),), data_set)


def store(
    exchange: Exchange,
    context_id: int,
    message_id: int,
    uids: tuple[str, str],
    data_set: Iterator[bytes],
    originator: Originator | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> int:
    """Send one instance; the status of the response. Raises Ended, and what reading the data set raises.

    Parameters
    ----------
    uids
        SOP class and instance.
    waiting
        Called now and then as long as it takes.
    """
    values: dict[Element, Value] = {
        Element.AFFECTED_SOP_CLASS_UID: uids[0],
        Element.MESSAGE_ID: message_id,
        Element.PRIORITY: _MEDIUM,
        Element.AFFECTED_SOP_INSTANCE_UID: uids[1],
    }
    if originator is not None:
        values[Element.MOVE_ORIGINATOR_AE_TITLE] = originator.ae_title
        values[Element.MOVE_ORIGINATOR_MESSAGE_ID] = originator.message_id

    def blocks() -> Iterator[bytes]:
        for block in data_set:
            waiting()
            yield block

    command = Command.of(Field.C_STORE_RQ, values, data_set=True)
    return exchange.request(context_id, command, blocks(), waiting).command.status


class Sender:
    """Sends instances to one peer, over one association after the other: as many as their kinds need.

    Parameters
    ----------
    settings
        Our AE title, and how long is waited.
    """

    def __init__(self, address: Address, settings: DimseSettings, tls: ssl.SSLContext | None = None) -> None:
        self._address = address
        self._settings = settings
        self._tls = tls
        self._association: Requested | None = None
        self._proposed: dict[Kind, None] = {}
        self._accepted: dict[str, dict[str, int]] = {}
        self._message_id = 0

    def expect(self, kinds: Iterable[Kind]) -> None:
        """Instances of these kinds will come: the next association proposes as many of them as fit."""
        self._proposed = _as_many_as_fit({**self._proposed, **dict.fromkeys(kinds)})

    def prepare(self, kinds: Iterable[Kind]) -> None:
        """See that there is an association for instances of these kinds: the last one, when it will do.

        Raises
        ------
        NotAssociated
        """
        wanted = dict.fromkeys(kinds)
        if self._association is not None and wanted.keys() <= self._proposed.keys():
            return
        together = {**self._proposed, **wanted}
        fits = len(requesting.proposals(together, PLAIN)) <= requesting.MAX_CONTEXTS
        self._proposed = together if fits else _as_many_as_fit(wanted)
        self.release()
        proposals = requesting.proposals(self._proposed, PLAIN)
        self._association = requesting.associate(self._address, proposals, self._settings, self._tls)
        self._accepted = {}
        for each in self._association.contexts.values():
            self._accepted.setdefault(each.abstract_syntax, {}).setdefault(each.transfer_syntax, each.id)

    def accepted(self, sop_class_uid: str) -> Mapping[str, int]:
        """The transfer syntaxes in which the peer takes instances of a SOP class."""
        return self._accepted.get(sop_class_uid, {}) if self._association is not None else {}

    def store(
        self,
        uids: tuple[str, str],
        transfer_syntax_uid: str,
        data_set: Iterator[bytes],
        originator: Originator | None = None,
        waiting: Callable[[], None] = lambda: None,
    ) -> int:
        """Send one instance in a transfer syntax that is accepted for its SOP class; see ``store``.

        When it raises after the first block was read, the association is gone; ``prepare`` makes another one.
        """
        assert self._association is not None
        data_set = begun(data_set)
        context_id = self._accepted[uids[0]][transfer_syntax_uid]
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        try:
            return store(self._association.exchange, context_id, self._message_id, uids, data_set, originator, waiting)
        except BaseException:
            self.abort()
            raise

    def release(self) -> None:
        """End the association, if there is one, in order."""
        association, self._association = self._association, None
        if association is not None:
            association.release()

    def abort(self) -> None:
        """End the association, if there is one, at once."""
        association, self._association = self._association, None
        if association is not None:
            association.abort()


def in_turns(kinds: Iterable[Kind]) -> list[list[Kind]]:
    """Kinds by the association that carries them: in as few as their contexts fit into."""
    left, found = dict.fromkeys(kinds), []
    while left:
        fit = _as_many_as_fit(left)
        found.append(list(fit))
        left = {each: None for each in left if each not in fit}
    return found


def _as_many_as_fit(kinds: Mapping[Kind, None]) -> dict[Kind, None]:
    """The first kinds, with the plain context of each of their classes."""
    found: dict[Kind, None] = {}
    for each in kinds:
        if len(requesting.proposals({**found, each: None}, PLAIN)) > requesting.MAX_CONTEXTS:
            break
        found[each] = None
    return found
