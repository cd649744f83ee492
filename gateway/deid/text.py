"""What cleans text (action C): the interface, and the cleaner that trusts no text at all."""

from __future__ import annotations

from typing import Protocol


class TextCleaner(Protocol):
    """Takes a patient's identifiers out of a text."""

    def clean(self, text: str, /) -> str:
        """The text without them; "" where nothing of it may stay."""
        ...


class RemoveAll:
    """Keeps nothing: without knowing what identifies the patient, no text is known to be clean."""

    def clean(self, _text: str, /) -> str:
        """Nothing."""
        return ""
