"""Typed reads of single attributes from a DICOM JSON data set."""

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from gateway.imaging.errors import InvalidDescription

JsonDataset: TypeAlias = Mapping[str, Any]
"""One data set in the DICOM JSON Model, PS3.18 Annex F: ``{"00280010": {"vr": "US", "Value": [512]}}``."""

BulkReader: TypeAlias = Callable[[str, int, int], bytes]
"""Reads bytes, little endian, behind a BulkDataURI of the instance: (URI, first byte, bytes at most)."""


def values(dataset: JsonDataset, tag: str) -> list[Any]:
    """Return the attribute's Value array; empty when the attribute is absent or has no value."""
    element = dataset.get(tag)
    if not isinstance(element, Mapping):
        return []
    found = element.get("Value")
    return found if isinstance(found, list) else []


def items(dataset: JsonDataset, tag: str) -> list[JsonDataset]:
    """Return the items of a sequence; empty when it is absent."""
    return [item for item in values(dataset, tag) if isinstance(item, Mapping)]


def integer(dataset: JsonDataset, tag: str) -> int | None:
    """Return the first value as an integer, None when absent.

    Raises
    ------
    InvalidDescription
        The value is not a whole number. Numbers written as strings are accepted, as PS3.18 F.2.2
        "DICOM JSON Model Object Structure" allows for IS.
    """
    number = real(dataset, tag)
    if number is None:
        return None
    if number != int(number):
        raise InvalidDescription(f"attribute {tag} is not a whole number")
    return int(number)


def real(dataset: JsonDataset, tag: str) -> float | None:
    """Return the first value as a finite number, None when absent.

    Raises
    ------
    InvalidDescription
        The value is not a finite number.
    """
    found = reals(dataset, tag)
    return found[0] if found else None


def reals(dataset: JsonDataset, tag: str) -> list[float]:
    """Return all non-null values as finite numbers.

    Raises
    ------
    InvalidDescription
        A value is not a finite number.
    """
    numbers: list[float] = []
    for value in values(dataset, tag):
        if value is None:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidDescription(f"attribute {tag} is not a number") from error
        if not math.isfinite(number):
            raise InvalidDescription(f"attribute {tag} is not a finite number")
        numbers.append(number)
    return numbers


def text(dataset: JsonDataset, tag: str) -> str | None:
    """Return the first value as text without padding, None when absent."""
    found = values(dataset, tag)
    return found[0].strip(" \0") if found and isinstance(found[0], str) else None


def texts(dataset: JsonDataset, tag: str) -> list[str]:
    """Return every value as text; values that are not text become empty."""
    return [value if isinstance(value, str) else "" for value in values(dataset, tag)]


def words(dataset: JsonDataset, tag: str, bulk: BulkReader, max_bytes: int, first_byte: int = 0) -> bytes | None:
    """Return binary data as little endian bytes, wherever the metadata keeps it; None when absent.

    Parameters
    ----------
    dataset
        Holds the attribute as Value (US or SS numbers), InlineBinary (base64) or BulkDataURI.
    tag
        Eight hexadecimal digits.
    bulk
        Called only when the metadata has a BulkDataURI.
    max_bytes, first_byte
        What of the value is wanted: never more is read, whatever the instance holds.

    Returns
    -------
    bytes or None
        16-bit little endian words; or packed bytes, when the attribute holds 8-bit entries.

    References
    ----------
    PS3.18 F.2.6 "BulkDataURI", F.2.7 "InlineBinary"
    """
    element = dataset.get(tag)
    if not isinstance(element, Mapping):
        return None
    if isinstance(uri := element.get("BulkDataURI"), str):
        return bulk(uri, first_byte, max_bytes)
    if isinstance(inline := element.get("InlineBinary"), str):
        try:
            return base64.b64decode(inline, validate=True)[first_byte : first_byte + max_bytes]
        except binascii.Error as error:
            raise InvalidDescription(f"attribute {tag} is not base64") from error
    numbers = reals(dataset, tag)
    if any(number != int(number) or not -0x8000 <= number <= 0xFFFF for number in numbers):
        raise InvalidDescription(f"attribute {tag} does not hold 16-bit words")
    joined = b"".join((int(number) & 0xFFFF).to_bytes(2, "little") for number in numbers)
    return joined[first_byte : first_byte + max_bytes] or None
