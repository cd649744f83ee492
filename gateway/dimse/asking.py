"""Questions to a peer that has an archive: C-FIND, C-GET and C-MOVE as a Service Class User.

References
----------
PS3.4 C.4.1.2 "C-FIND Operation", C.4.2.2 "C-MOVE SCU Behavior", C.4.3.2 "C-GET SCU Behavior".
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset

from gateway.config.serving import DimseSettings
from gateway.dimse import answers, contexts, identifiers, requesting
from gateway.dimse.commands import Command, Element, Field, Value
from gateway.dimse.ending import Aborted
from gateway.dimse.messages import Context, Message, never
from gateway.dimse.requesting import MAX_CONTEXTS, Address, Proposal, Requested
from gateway.dimse.sending import PLAIN
from gateway.dimse.told import said
from gateway.errors import InvalidQuery
from gateway.services.spool import Spool
from storage.dicom import file_meta
from storage.dicom.limits import Limits
from storage.errors import Unreadable

_MEDIUM = 0
_CANCELLED = 0xFE00
_WARNING = 0xB000
_MAX_MESSAGE_ID = 0xFFFF
_AFTER_CANCEL = 10_000
"""So many matches more may come after the peer was asked to stop: some are under way, and many look seldom."""
MODELS = (contexts.STUDY_ROOT_FIND, contexts.STUDY_ROOT_MOVE, contexts.STUDY_ROOT_GET)
"""What a peer is asked by: the Study Root models."""
# In the order in which they are left out when there are more SOP classes than contexts for all.
_COMPRESSED = (
    *(f"1.2.840.10008.1.2.4.{number}" for number in (70, 50, 90, 91, 80, 81, 51, 57, 201, 202, 203)),
    "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{number}" for number in (100, 101, 102, 103, 104, 105, 106, 107, 108)),
    file_meta.EXPLICIT_VR_BIG_ENDIAN,
    file_meta.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
_STORAGE = "1.2.840.10008.5.1.4.1.1."
COMMON_CLASSES = frozenset(
    _STORAGE + each
    for each in (
        *("1", "1.1", "1.1.1", "1.2", "1.2.1", "2", "2.1", "4", "4.1", "6.1", "3.1", "7", "7.2", "7.4", "11.1"),
        *("12.1", "12.2", "20", "66.4", "77.1.4", "77.1.5.1", "88.11", "88.22", "88.33", "88.59", "88.67", "104.1"),
        *("128", "481.1", "481.2", "481.3", "481.5"),
    )
)
"""For an archive that does not tell of which SOP class its instances are."""


class NotAnswered(Exception):
    """The peer does not do what it was asked for; the text says so for people. ``status`` is its answer, if any.

    ``advice`` is what to do about it.
    """

    def __init__(self, why: str, status: int | None = None, advice: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Conditions:
    """Upon what a peer is asked.

    Attributes
    ----------
    settings
        Our AE title, and how long is waited for parts of a message.
    within_s
        How long the peer may take until each response begins.
    pause_s
        How long to pause after so many bytes that it sends.
    """

    settings: DimseSettings
    limits: Limits
    tls: ssl.SSLContext | None = None
    within_s: float = 600.0
    pause_s: Callable[[int], float] = never


@dataclass(frozen=True, slots=True)
class _Offer:
    """What an association offers to take by C-GET: SOP classes, and whether their syntaxes stand together."""

    sop_classes: frozenset[str] = frozenset()
    together: bool = False

    def is_in(self, other: _Offer) -> bool:
        """Whether another one will do as well."""
        return self.sop_classes <= other.sop_classes and self.together == other.together

    def proposals(self, models: Sequence[str]) -> list[Proposal]:
        """The models, and for each SOP class as many transfer syntaxes as there are contexts for."""
        found = [Proposal(uid, PLAIN) for uid in models]
        if not self.sop_classes:
            return found
        each = (MAX_CONTEXTS - len(found)) // len(self.sop_classes)
        if not each:
            raise NotAnswered(f"{len(self.sop_classes)} SOP classes at once, more than an association has contexts")
        for uid in sorted(self.sop_classes):
            if self.together:
                found.append(Proposal(uid, (*_COMPRESSED, *PLAIN), as_scp=True))
                continue
            found.append(Proposal(uid, PLAIN, as_scp=True))
            found += [Proposal(uid, (syntax,), as_scp=True) for syntax in _COMPRESSED[: each - 1]]
        return found


def identifier(level: str, keys: Mapping[str, str], transfer_syntax: str = PLAIN[0]) -> bytes:
    """What is asked for, encoded; keys by keyword. Raises InvalidQuery for a key that has no such value."""
    made = Dataset()
    made.QueryRetrieveLevel = level
    if not all(text.isascii() for text in keys.values()):
        made.SpecificCharacterSet = "ISO_IR 192"
    for keyword, text in keys.items():
        try:
            setattr(made, keyword, text)
        except (ValueError, TypeError) as error:
            raise InvalidQuery(f"{keyword}: not a value of it") from error
    try:
        return answers.written(made, transfer_syntax)
    except (ValueError, TypeError, OSError) as error:  # pydicom makes an OSError of a number that is none
        raise InvalidQuery(f"not values of {', '.join(keys)}") from error


class RemoteArchive:
    """A peer that is asked, by one thread, over associations that last as long as they will do.

    Everything raises NotAssociated, NotAnswered and Ended; after NotAssociated or Ended the next question begins with
    a new association.

    Parameters
    ----------
    models
        SOP classes that it is asked by.
    """

    def __init__(self, address: Address, conditions: Conditions, spool: Spool, models: Sequence[str] = MODELS) -> None:
        self._address = address
        self._models = tuple(models)
        self._conditions = conditions
        self._spool = spool
        self._association: Requested | None = None
        self._offer = _Offer()
        self._message_id = 0
        self._stopped = False

    def find(self, level: str, keys: Mapping[str, str], most: int | None = None) -> Iterator[dict[str, str]]:
        """Matches of a query in the Study Root model, as texts by tag; keys by keyword, "" to be told of one.

        Parameters
        ----------
        most
            After so many the peer is asked to stop; one that does not is hung up on.
        """
        for encoded, transfer_syntax in self.answers(level, keys, most):
            yield self._texts(encoded, transfer_syntax)

    def answers(
        self, level: str, keys: Mapping[str, str], most: int | None = None, model: str = contexts.STUDY_ROOT_FIND
    ) -> Iterator[tuple[bytes, str]]:
        """Matches of a query as they come, and their transfer syntax; as ``find``, in any model."""
        with self._used(self._offer) as association:
            context = self._context(association, model, "is not one that is searched by C-FIND in this model")
            command, identifier = self._request(Field.C_FIND_RQ, context, level, keys)
            found = 0
            for message in association.exchange.responses(context.id, command, identifier, self._conditions.within_s):
                if message.command.is_pending and isinstance(message.data_set, bytes):
                    if most is not None and found == most:
                        association.exchange.cancel(context.id, command)
                    found += 1
                    if most is None or found <= most:
                        yield message.data_set, context.transfer_syntax
                    elif found > most + _AFTER_CANCEL:
                        self._give_up()
                        return
                elif not message.command.is_pending and message.command.status not in (0, _CANCELLED):
                    raise self._refused(message)

    def _texts(self, encoded: bytes, transfer_syntax: str) -> dict[str, str]:
        try:
            return identifiers.texts(encoded, transfer_syntax, self._conditions.limits)
        except (Unreadable, InvalidQuery) as error:
            raise Aborted(f"an answer that cannot be read: {error}") from error

    def gives_back(self) -> bool:
        """Whether it answers C-GET."""
        with self._used(self._offer) as association:
            return any(each.abstract_syntax == contexts.STUDY_ROOT_GET for each in association.contexts.values())

    def get(
        self,
        level: str,
        keys: Mapping[str, str],
        sop_classes: Iterable[str],
        keep: Callable[[Message], int],
        *,
        together: bool = False,
        told: Callable[[Command], None] = lambda _: None,
    ) -> Command:
        """Have instances of these SOP classes sent back by C-GET; the command of the last response.

        Parameters
        ----------
        keep
            Stores one, and says with which status.
        together
            Offers all transfer syntaxes of a SOP class in one presentation context, of which the peer chooses one,
            instead of each in its own: for peers that send in the first context of the class or not at all.
        told
            Hears what each response says of how far it is.
        """
        offer = _Offer(frozenset(sop_classes), together)
        with self._used(self._offer if offer.is_in(self._offer) else offer) as association:
            context = self._context(association, contexts.STUDY_ROOT_GET, "does not answer C-GET")
            exchange = association.exchange

            def serve(message: Message) -> None:
                if message.command.field != Field.C_STORE_RQ:
                    raise Aborted("a request that is none of C-GET")
                response = message.command.response(keep(message), {}, data_set=False)
                exchange.send(message.context.id, response)

            command, identifier = self._request(Field.C_GET_RQ, context, level, keys)
            within_s = self._conditions.within_s
            return self._end(exchange.responses(context.id, command, identifier, within_s, serve), told)

    def move(self, level: str, keys: Mapping[str, str], destination: str) -> None:
        """Have instances sent to an AE title that the peer knows."""
        with self._used(self._offer) as association:
            context = self._context(association, contexts.STUDY_ROOT_MOVE, "does not answer C-MOVE")
            command, identifier = self._request(Field.C_MOVE_RQ, context, level, keys, destination)
            exchange = association.exchange
            self._end(exchange.responses(context.id, command, identifier, self._conditions.within_s))

    def close(self) -> None:
        """Release the association, if there is one."""
        association, self._association = self._association, None
        if association is not None:
            association.release()

    def stop(self) -> None:
        """End what is under way, which raises Ended. From any thread."""
        self._stopped = True
        association = self._association
        if association is not None:
            association.stop()

    @contextmanager
    def _used(self, offer: _Offer) -> Iterator[Requested]:
        """An association on which something was offered; one on which a conversation breaks off is given up."""
        if self._stopped:
            raise Aborted("stopped")
        if self._association is None or offer != self._offer:
            self.close()
            under = self._conditions
            self._association = requesting.associate(
                self._address, offer.proposals(self._models), under.settings, under.tls, self._spool, under.pause_s
            )
            self._offer = offer
        try:
            # Whoever stopped it while it was asked for found no association to stop.
            if self._stopped:
                raise Aborted("stopped")
            yield self._association
        except NotAnswered:
            raise
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.abort()

    def _context(self, association: Requested, sop_class_uid: str, why: str) -> Context:
        for each in association.contexts.values():
            if each.abstract_syntax == sop_class_uid:
                return each
        raise NotAnswered(f"the peer {self._address} {why}")

    def _request(
        self, field: Field, context: Context, level: str, keys: Mapping[str, str], destination: str = ""
    ) -> tuple[Command, tuple[bytes]]:
        self._message_id = self._message_id % _MAX_MESSAGE_ID + 1
        values: dict[Element, Value] = {
            Element.AFFECTED_SOP_CLASS_UID: context.abstract_syntax,
            Element.MESSAGE_ID: self._message_id,
            Element.PRIORITY: _MEDIUM,
        }
        if destination:
            values[Element.MOVE_DESTINATION] = destination
        return Command.of(field, values, data_set=True), (identifier(level, keys, context.transfer_syntax),)

    def _end(self, responses: Iterator[Message], told: Callable[[Command], None] = lambda _: None) -> Command:
        """Hear a retrieval out. What failed of it the peer counts; whoever asked looks for itself."""
        last = None
        for message in responses:
            last = message.command
            told(last)
            status = last.status
            if last.is_pending or not status or status & 0xF000 == _WARNING:
                continue
            if not last.number(Element.FAILED_SUB_OPERATIONS):
                raise self._refused(message)
        assert last is not None
        return last

    def _refused(self, message: Message) -> NotAnswered:
        status = message.command.status
        comment = message.command.text(Element.ERROR_COMMENT)
        return NotAnswered(f"the peer answers {said(status, comment)}", status)
