"""Recompression: instances kept in HTJ2K too, beside what was sent or instead of its pixels, where rules say so.

See docs/decisions/0036-* and 0040-*.

Nobody waits for it. It goes through the versions in their order and remembers how far it has come; one gateway at a
time has the turn. What is made gets a row when every frame of it, decoded again, has the pixels of the original.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.config.keeping import RecompressionRule
from gateway.errors import Busy, NotAcceptable, NotFound, PayloadTooLarge, QuotaExceeded
from gateway.imaging import encode
from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import FrameDamaged, FrameMismatch, FrameTooLarge, ImagingBusy, ImagingError, ImagingTimeout
from gateway.imaging.native import native_bytes, unpack
from gateway.imaging.pool import ImagingPool
from gateway.services.condense import Condenser, NotTheSame, Stays
from gateway.services.frames import FrameReader
from gateway.services.room import Room
from gateway.services.spool import Spool, Spooled
from gateway.services.transcode import rewriting
from gateway.services.transition import ANOTHER_CHANGE
from storage.archive import Archive, Sender
from storage.dicom import file_meta, json_model, part10, reencode
from storage.dicom import identifiers as ids
from storage.dicom.elements import Blocks
from storage.dicom.frames import FrameKind
from storage.dicom.json_model import JsonDataSet
from storage.dicom.origin import Origin
from storage.errors import ObjectDamaged, ObjectNotFound, Unreadable
from storage.index.arrivals import Conflict, Outcome
from storage.index.base import Index
from storage.index.stored import Located, Placed, Recompressible
from storage.objects.base import ByteRange

_TURN_S = 120.0
"""After so long without a word the turn is another gateway's; two at once make nothing twice."""
_NOTE_EVERY_S = 5.0
_PAGE = 50
_QUOTA_SHARE, _DISK_TIMES = 0.9, 2
"""It takes so much of a tenant's quota, and stops at so many times the free room that arrivals stop at: they go on."""
_ORIGIN_BYTES = 512
"""More than what is made says of its origin."""
_SIGNATURES = (b'"FFFAFFFA"', b'"4FFE0001"')
"""Digital Signatures Sequence and MAC Parameters Sequence (PS3.3 C.12.1.1.3), at whatever level."""
_ICON = b'"00880200"'
"""Icon Image Sequence, also of an item: compressed it is in the transfer syntax of the whole (PS3.5 A.4)."""
_LOSSY = "00282110"


class Left(StrEnum):
    """Why an instance is left as it is."""

    NO_PIXELS = "it has no pixels"
    FRAMES = "its frames cannot be told apart"
    SIGNED = "it is signed"
    LOSSY = "it was compressed with loss"
    ICON = "it has a compressed icon"
    FORM = "HTJ2K does not carry its samples"
    DAMAGED = "it cannot be decoded"
    LARGE = "a frame is too large"
    SLOW = "a frame takes too long"
    NOT_SMALLER = "it does not get smaller"
    NOT_EQUAL = "other pixels came back"
    STAYS = "what was sent cannot be kept as HTJ2K, and stays beside it"
    NO_ROOM = "its tenant has no room"
    REFUSED = "it went, or changed, meanwhile"


class _Leave(Exception):
    """The instance at hand is left."""

    def __init__(self, why: Left) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one instance.

    ``size`` is that of its object; ``made`` that of what was put beside it, 0 when that was there; ``kept`` the bytes
    that are left of both when the original was replaced now. ``left`` tells of what was not done.
    """

    located: Located
    rule: str
    size: int
    made: int = 0
    kept: int = 0
    left: Left | None = None


class RecompressionService:
    """Makes what the rules ask for.

    Parameters
    ----------
    archive
        Its index takes objects of any age.
    pool
        Its workers should give way to whatever else the host has to do.
    condenser
        Replaces originals where a rule says so.
    moving
        Whether studies move between storage classes: what is condensed begins in the usual one.
    after_s
        How old a version has to be.
    holder
        Tells this gateway apart from others with the same index.
    now
        The time; for tests.
    """

    def __init__(
        self,
        archive: Archive,
        pool: ImagingPool,
        spool: Spool,
        room: Room,
        rules: Sequence[RecompressionRule],
        *,
        condenser: Condenser,
        moving: bool = False,
        after_s: float,
        holder: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._archive = archive
        self._pool = pool
        self._spool = spool
        self._room = room
        self._rules = rules
        self._condenser = condenser
        self._moving = moving
        self._replaces = any(rule.keep == "instead" for rule in rules)
        self._after_s = after_s
        self._holder = holder
        self._now = now
        texts = "\n".join(rule.model_dump_json() for rule in rules)
        self._fingerprint = hashlib.sha256(texts.encode()).hexdigest()

    def round(self) -> Iterator[Step]:
        """Everything that is old enough and was not looked at by these rules, an instance a step.

        It ends at once while another gateway has the turn. Whatever breaks it off, the next one goes on from there.

        Raises
        ------
        Busy, storage.errors.StorageError
        """
        index, now_s = self._archive.index, self._now()
        after = index.recompression_turn(self._fingerprint, self._holder, now_s, now_s + _TURN_S)
        if after is None:
            return
        before = ids.before_time(max(0.0, now_s - self._after_s))
        turn = _Turn(index, self._holder, self._now, after)
        try:
            while True:
                found, through = index.recompressible(after, before, _PAGE, all_of_them=self._replaces)
                for each in found:
                    rule = self._rule(each)
                    if rule is None:
                        continue
                    self._room.check_disks(_DISK_TIMES)
                    step = self._one(each.located, rule, turn)
                    if step is not None:
                        yield step
                    turn.through = each.located.version
                    turn.go_on()
                if not through:
                    index.recompressed_through(self._holder, after, 0.0)  # the turn is anybody's
                    return
                turn.through = after = through
                turn.note()
        except _TurnLost:
            return

    def _rule(self, each: Recompressible) -> RecompressionRule | None:
        """The first rule that an instance is in."""
        located = each.located
        for rule in self._rules:
            if (
                (not rule.tenants or located.key.tenant in rule.tenants)
                and (not rule.modalities or each.modality in rule.modalities)
                and (not rule.sop_classes or located.sop_class_uid in rule.sop_classes)
                and located.transfer_syntax_uid in rule.transfer_syntaxes
            ):
                return rule
        return None

    def _one(self, located: Located, rule: RecompressionRule, turn: _Turn) -> Step | None:
        """Do what a rule asks for; None when all of it was done before. Raises _TurnLost."""
        done = Step(located, rule.name, located.size)
        try:
            beside = self._archive.index.beside(located) if self._replaces else None
            if beside is None:
                beside = self._make(located, rule.into, turn)
                done = replace(done, made=beside.size)
            if rule.keep == "instead":
                done = replace(done, kept=self._condense(located, beside, turn))
        except _Leave as leave:
            return replace(done, left=leave.why)
        return done if done.made or done.kept else None

    def _condense(self, located: Located, beside: Located, turn: _Turn) -> int:
        """Keep an original as HTJ2K; the bytes that are left, 0 when that was done. Raises _Leave, _TurnLost."""
        with _leaving():
            kept = self._condenser.condense(located, beside, turn.go_on)
        if kept is None:
            return 0
        if self._moving:
            # The study was moved with what was replaced: it has to be looked at again.
            key = located.key
            self._archive.index.place(key.tenant, key.study_uid, Placed("", located.version, ANOTHER_CHANGE))
        return kept

    def _make(self, located: Located, syntax: str, turn: _Turn) -> Located:
        """Put a recompressed version beside one. Raises _Leave, _TurnLost."""
        with _leaving():
            with self._room.arriving(located.key.tenant, 0, _QUOTA_SHARE) as admit:
                admit()  # or all of it would be encoded for nothing
            (text,) = self._archive.index.metadata([located.version_id])
            data_set: JsonDataSet = json_model.loads(text)
            reader = FrameReader(self._archive, self._pool, located, lambda: data_set)
            self._look(located, text, data_set, reader)
            compared = _Compared(self._pool, reader, syntax, turn)
            with self._written(located, data_set, reader, compared) as spooled:
                return self._keep(located, syntax, spooled, compared)

    def _look(self, located: Located, text: bytes, data_set: JsonDataSet, reader: FrameReader) -> None:
        """Raise _Leave for what is not to be recompressed, whatever its pixels are."""
        native = located.transfer_syntax_uid in file_meta.NATIVE
        photometric = reader.description.photometric_interpretation if reader.count else None
        reasons = (
            (any(tag in text for tag in _SIGNATURES), Left.SIGNED),
            (json_model.text_of(data_set, _LOSSY) == "01", Left.LOSSY),
            (_ICON in text and not native, Left.ICON),
            (not reader.count, Left.NO_PIXELS),
            (reader.layout.frames.kind is FrameKind.DECODE and not native, Left.FRAMES),
            # Native pairs of two pixels with common chroma would come back as pixels of their own.
            (photometric is PhotometricInterpretation.YBR_FULL_422, Left.FORM),
        )
        for is_so, why in reasons:
            if is_so:
                raise _Leave(why)

    @contextmanager
    def _written(
        self, located: Located, data_set: JsonDataSet, reader: FrameReader, compared: _Compared
    ) -> Iterator[Spooled]:
        """The recompressed data set, as long as the context lasts. Raises PayloadTooLarge when it is not smaller."""
        change = rewriting(located, reader, data_set, compared.syntax, compared.frames())
        encoding = file_meta.encoding_of(located.transfer_syntax_uid)
        if encoding.deflated:
            encoding = file_meta.encoding_of(file_meta.EXPLICIT_VR_LITTLE_ENDIAN)
        blocks = reencode.little_endian(
            Blocks(self._archive.data_set(located)),
            encoding,
            self._archive.limits,
            edits=change.edits,
            pixels=change.pixels,
        )
        spooling = self._spool.begin(max(0, located.size - located.data_offset - _ORIGIN_BYTES))
        try:
            for block in blocks:
                spooling.write(block)
            spooled = spooling.finish()
        except BaseException:
            spooling.discard()
            raise
        with spooled:
            yield spooled

    def _keep(self, located: Located, syntax: str, spooled: Spooled, compared: _Compared) -> Located:
        if compared.original.digest() != compared.recompressed.digest():
            raise _Leave(Left.NOT_EQUAL)
        announced = part10.Announced(located.sop_class_uid, located.key.sop_uid)
        with spooled.open() as stream:
            extract = part10.extract(stream, syntax, self._archive.limits, announced)
        if extract.frames.kind is not FrameKind.ENCAPSULATED or extract.frames.count != compared.count:
            raise _Leave(Left.NOT_EQUAL)
        made_of = Origin(located.version, located.sha256, located.transfer_syntax_uid, compared.original.hexdigest())
        version = ids.version_beside(located.version)
        with self._room.arriving(located.key.tenant, spooled.size, _QUOTA_SHARE) as admit:
            commit = self._archive.store(
                located.key.tenant,
                version,
                extract,
                spooled.segments(0),
                self._sender(located),
                Conflict.VERSION,
                admit,
                made_of,
            )
        if commit.outcome is not Outcome.ALTERNATIVE:
            raise _Leave(Left.REFUSED)
        beside = self._archive.index.beside(located)
        if beside is None:
            raise _Leave(Left.REFUSED)
        return beside

    def _sender(self, located: Located) -> Sender:
        """Who sent the original: a series knows its senders by the objects in it."""
        head = self._archive.objects.get(located.object_key, ByteRange(0, located.data_offset))
        meta, _, _ = file_meta.read(io.BytesIO(head), self._archive.limits)
        return Sender(meta.sending_ae_title, meta.receiving_ae_title, meta.source_ae_title)


class _TurnLost(Exception):
    """Another gateway is at it."""


class _Turn:
    """The turn, held for as long as somebody says that it goes on; ``through`` is how far it has come."""

    def __init__(self, index: Index, holder: str, now: Callable[[], float], through: str) -> None:
        self._index = index
        self._holder = holder
        self._now = now
        self._noted_s = time.monotonic()
        self.through = through

    def go_on(self) -> None:
        """Note it when that was not done for a while. Raises _TurnLost."""
        if time.monotonic() - self._noted_s > _NOTE_EVERY_S:
            self.note()

    def note(self) -> None:
        """Note how far it has come, and have the turn for longer. Raises _TurnLost."""
        if not self._index.recompressed_through(self._holder, self.through, self._now() + _TURN_S):
            raise _TurnLost
        self._noted_s = time.monotonic()


class _Compared:
    """Frames as they are recompressed, and digests of the pixels before and after."""

    def __init__(self, pool: ImagingPool, reader: FrameReader, syntax: str, turn: _Turn) -> None:
        self._pool = pool
        self._turn = turn
        self._reader = reader
        self.syntax = syntax
        self.count = reader.count
        self.original, self.recompressed = hashlib.sha256(), hashlib.sha256()

    def frames(self) -> Iterator[bytes]:
        """The codestreams, one after the other. Raises ImagingError, _Leave, _TurnLost."""
        reader = self._reader
        decoded = reader.decoded_description
        encoded = encode.encoded_description(decoded, self.syntax)
        reader.check([self.count])
        for number in range(1, self.count + 1):
            held = reader.held(number)
            frame = EncodedFrame(held.data, held.transfer_syntax_uid, reader.description)
            codestream = self._pool.encode(frame, self.syntax)
            native = held.data
            if held.transfer_syntax_uid != file_meta.EXPLICIT_VR_LITTLE_ENDIAN:
                native = self._pool.decode(frame)
            back = self._pool.decode(EncodedFrame(codestream, self.syntax, encoded))
            native = _by_pixel(native, decoded)
            if native != back:
                raise _Leave(Left.NOT_EQUAL)
            self.original.update(native)
            self.recompressed.update(back)
            self._turn.go_on()
            yield codestream


def _by_pixel(data: bytes, description: PixelDescription) -> bytes:
    """A native frame in Planar Configuration 0."""
    if description.planar_configuration == 0 or description.samples_per_pixel == 1:
        return data
    return native_bytes(unpack(data, description), replace(description, planar_configuration=0))


@contextmanager
def _leaving() -> Iterator[None]:
    """What is wrong with one instance, as the reason that it is left for. Raises _Leave, Busy."""
    try:
        yield
    except ImagingBusy as error:
        raise Busy(str(error)) from error
    except FrameTooLarge as error:
        raise _Leave(Left.LARGE) from error
    except ImagingTimeout as error:
        raise _Leave(Left.SLOW) from error
    except NotTheSame as error:
        raise _Leave(Left.NOT_EQUAL) from error
    except Stays as error:
        raise _Leave(Left.STAYS) from error
    except (FrameDamaged, FrameMismatch, Unreadable, ObjectDamaged) as error:
        raise _Leave(Left.DAMAGED) from error
    except ImagingError as error:
        raise _Leave(Left.FORM) from error
    except PayloadTooLarge as error:
        raise _Leave(Left.NOT_SMALLER) from error
    except QuotaExceeded as error:
        raise _Leave(Left.NO_ROOM) from error
    except (NotFound, NotAcceptable) as error:
        raise _Leave(Left.FRAMES) from error
    except ObjectNotFound as error:
        raise _Leave(Left.REFUSED) from error
