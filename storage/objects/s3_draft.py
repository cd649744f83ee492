"""An object that goes up to S3 in parts while it still arrives in a file.

References
----------
Amazon S3 User Guide, "Uploading and copying objects using multipart upload": parts in any order, nothing to be seen
before the upload is completed.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from storage.errors import ObjectDamaged
from storage.objects.base import FileSegment, ObjectInfo, Segment, body_blocks
from storage.objects.s3_faults import LIBRARY_ERRORS
from storage.objects.s3_multipart import MAX_PARTS, Part, Upload, Uploader

_log = logging.getLogger("storage.objects")

_BLOCK_BYTES = 1 << 20


class S3Draft:
    """A Draft whose whole parts are sent by the threads of an Uploader, as they are free.

    A part is read from the file when its turn comes, so that what waits takes no memory, and who receives waits for
    nobody. What fails on the way is sent again in the end, by who completes it: an engine that is away meanwhile does
    no harm. The digest is not known when the upload begins, so it does not stand in the object's metadata.

    Parameters
    ----------
    completed
        Says what the server has of the object, once the upload was completed under a put-id or failed by an error.
    put
        Puts a whole body in another way: that of an object which is too short to be begun, or too long for parts of
        ``part_bytes``.
    """

    def __init__(
        self,
        uploader: Uploader,
        key: str,
        full_key: str,
        head: bytes,
        file: Path,
        start: int,
        *,
        part_bytes: int,
        begun_from: int,
        completed: Callable[[str, int, str, Exception | None], ObjectInfo],
        put: Callable[[str, Sequence[Segment]], ObjectInfo],
    ) -> None:
        self._uploader = uploader
        self._key = key
        self._full_key = full_key
        self._head = head
        self._file = file
        self._start = start
        self._part_bytes = part_bytes
        self._begun_from = begun_from
        self._completed = completed
        self._put = put
        self._put_id = secrets.token_hex(16)
        self._beginning = threading.Lock()
        self._lock = threading.Condition()
        self._upload: Upload | None = None
        self._size: int | None = None
        self._known = 0
        self._waiting: deque[int] = deque()
        self._under_way = 0
        self._sent: dict[int, tuple[Part, int]] = {}
        self._has_failed = False
        self._is_over = False

    def grown(self, length: int) -> None:
        """See Draft."""
        size = len(self._head) + length
        if self._begun_from < size <= self._part_bytes * MAX_PARTS:
            with self._lock:
                self._want(size // self._part_bytes)

    def complete(self, length: int) -> ObjectInfo:
        """See Draft."""
        size = len(self._head) + length
        if not self._known or size > self._part_bytes * MAX_PARTS:
            self.abandon()
            return self._put(self._key, [self._head, FileSegment(self._file, self._start, length)])
        with self._lock:
            self._size, self._has_failed = size, False
            self._want(-(-size // self._part_bytes))
        digest = ""
        try:
            self._send_rest()
            digest = self._checked()
            assert self._upload is not None
            self._upload.complete([part for part, _ in self._sent.values()])
        except LIBRARY_ERRORS as error:
            self.abandon()
            return self._completed(self._put_id, size, digest, error)
        except BaseException:
            self.abandon()
            raise
        with self._lock:
            self._is_over = True
        return self._completed(self._put_id, size, digest, None)

    def abandon(self) -> None:
        """See Draft. Whoever sends the last part that is under way tells the server."""
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self._waiting.clear()
            if not self._under_way and self._upload is not None:
                with suppress(RuntimeError):  # the threads have ended: a lifecycle rule removes the parts
                    self._uploader.threads.submit(self._upload.abort)

    def _want(self, count: int) -> None:
        """Have parts up to the one of this number sent by threads that are free; under the lock."""
        self._waiting.extend(range(self._known + 1, count + 1))
        self._known = max(self._known, count)
        if self._has_failed or self._is_over:
            return
        while self._waiting and self._uploader.free.acquire(blocking=False):
            try:
                self._uploader.threads.submit(self._work, self._waiting[0])
            except RuntimeError:  # they have ended, with their process
                self._uploader.free.release()
                self._has_failed = True
                return
            self._waiting.popleft()
            self._under_way += 1

    def _work(self, number: int) -> None:
        """Send one part after the other, in a thread of the uploader, until none waits."""
        try:
            following: int | None = number
            while following is not None:
                self._send(following)
                with self._lock:
                    following = self._waiting.popleft() if self._waiting else None
        except Exception as error:  # the boundary of a thread: who completes it meets the error again, if it lasts
            _log.info("a part of an object that still arrives was not sent: %s", type(error).__name__)
        finally:
            self._uploader.free.release()
            with self._lock:
                self._under_way -= 1
                is_last = self._is_over and not self._under_way
                self._lock.notify_all()
            if is_last and self._upload is not None:
                self._upload.abort()

    def _send_rest(self) -> None:
        """Send what waits, beside the threads that do; returns when everything was sent. Errors as ``Upload.send``."""
        while True:
            with self._lock:
                while not self._waiting and self._under_way:
                    self._lock.wait()
                if not self._waiting:
                    return
                number = self._waiting.popleft()
            self._send(number)

    def _send(self, number: int) -> None:
        try:
            part = bytearray()
            for block in body_blocks(self._part(number), _BLOCK_BYTES):
                part += block
            found = self._begun().send(number, part)
        except BaseException:
            with self._lock:
                self._has_failed = True
                if not self._is_over:
                    self._waiting.appendleft(number)
            raise
        with self._lock:
            self._sent[number] = found, zlib.crc32(part)

    def _begun(self) -> Upload:
        with self._beginning:
            if self._upload is None:
                self._upload = self._uploader.begin(self._key, self._full_key, {"put-id": self._put_id})
            return self._upload

    def _part(self, number: int) -> Sequence[Segment]:
        """The part of this number; in the end, when the size is known, the last one may be shorter."""
        begin, end = (number - 1) * self._part_bytes, number * self._part_bytes
        if self._size is not None:
            end = min(end, self._size)
        ahead = len(self._head)
        place = max(begin, ahead)
        return [
            self._head[begin:end],
            FileSegment(self._file, self._start + place - ahead, max(0, end - place)),
        ]

    def _checked(self) -> str:
        """The digest of everything. Raises ObjectDamaged when the file is not what was sent of it."""
        digest = hashlib.sha256()
        for number in range(1, self._known + 1):
            checksum = 0
            for block in body_blocks(self._part(number), _BLOCK_BYTES):
                digest.update(block)
                checksum = zlib.crc32(block, checksum)
            if checksum != self._sent[number][1]:
                raise ObjectDamaged(f"{self._key}: the file changed while it was sent")
        return digest.hexdigest()
