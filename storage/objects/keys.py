"""What an object key may look like; nothing else ever reaches a path or a URL."""

from __future__ import annotations

import re

from storage.errors import InvalidIdentifier

MAX_KEY_CHARACTERS = 512
MAX_SEGMENT_CHARACTERS = 255
"""What file systems, and the object stores that are built on them, allow as one name."""

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_KEY_PART = re.compile(r"[A-Za-z0-9._/-]*")


def is_key(text: str) -> bool:
    """Whether ``text`` is a valid object key."""
    return len(text) <= MAX_KEY_CHARACTERS and all(is_segment(segment) for segment in text.split("/"))


def is_segment(text: str) -> bool:
    """Whether ``text`` may stand between two slashes of a key."""
    return len(text) <= MAX_SEGMENT_CHARACTERS and text not in (".", "..") and _SEGMENT.fullmatch(text) is not None


def check_key(key: str) -> None:
    """Raise InvalidIdentifier unless ``key`` is a valid object key."""
    if not is_key(key):
        raise InvalidIdentifier(f"not an object key: {key[:MAX_KEY_CHARACTERS]!r}")


def check_prefix(prefix: str) -> None:
    """Raise InvalidIdentifier unless ``prefix`` can be the beginning of a key; the empty one can."""
    folder, slash, name = prefix.rpartition("/")
    if (
        len(prefix) > MAX_KEY_CHARACTERS
        or _KEY_PART.fullmatch(name) is None
        or len(name) > MAX_SEGMENT_CHARACTERS
        or (slash and not is_key(folder))
    ):
        raise InvalidIdentifier(f"not the beginning of an object key: {prefix[:MAX_KEY_CHARACTERS]!r}")


def check_start_after(start_after: str) -> None:
    """Raise InvalidIdentifier unless ``start_after`` is text of the characters that keys are made of."""
    if len(start_after) > MAX_KEY_CHARACTERS or _KEY_PART.fullmatch(start_after) is None:
        raise InvalidIdentifier(f"not a place in a list of keys: {start_after[:MAX_KEY_CHARACTERS]!r}")
