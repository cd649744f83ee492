"""Values of search parameters (FHIR R4 "Search", https://hl7.org/fhir/R4/search.html)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import InvalidParameter

MOST = 100
"""Alternatives of one parameter."""

_COMMA = re.compile(r"(?<!\\)((?:\\\\)*),")
_BAR = re.compile(r"(?<!\\)((?:\\\\)*)\|")
_ESCAPED = re.compile(r"\\([\\,|$])")


@dataclass(frozen=True, slots=True)
class Token:
    """A code or identifier. ``system`` is None where any will do, and "" where there is to be none."""

    system: str | None
    code: str


def alternatives(name: str, text: str) -> list[str]:
    """The values between commas, of which one suffices; escapes stay. Raises InvalidParameter."""
    found = _split(_COMMA, text)
    if len(found) > MOST:
        raise InvalidParameter(f"{name}: at most {MOST} values")
    if not all(each.strip() for each in found):
        raise InvalidParameter(f"{name}: needs a value")
    return found


def tokens(name: str, text: str) -> list[Token]:
    """``[system|]code`` values, with commas between. Raises InvalidParameter."""
    return [_token(name, each) for each in alternatives(name, text)]


def strings(name: str, text: str) -> list[str]:
    """Plain values, with commas between. Raises InvalidParameter."""
    return [unescaped(each) for each in alternatives(name, text)]


def references(name: str, text: str, kind: str, base: str) -> list[str]:
    """Logical ids of resources of a kind here, named as ``id``, ``KIND/id`` or by URL. Raises InvalidParameter."""
    found = []
    for each in strings(name, text):
        local = each.removeprefix(f"{base}/").removeprefix(f"{kind}/")
        if "/" in local:
            raise InvalidParameter(f"{name}: {kind}/ID, of this service")
        found.append(local)
    return found


def _token(name: str, text: str) -> Token:
    parts = _split(_BAR, text)
    if len(parts) > 2:
        raise InvalidParameter(f"{name}: [system|]code")
    system, code = (None, parts[0]) if len(parts) == 1 else parts
    if not code.strip():
        raise InvalidParameter(f"{name}: a system alone is not searched for; [system|]code")
    return Token(None if system is None else unescaped(system), unescaped(code).strip())


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    parts, start = [], 0
    for found in separator.finditer(text):
        parts.append(text[start : found.start()] + found[1])
        start = found.end()
    return [*parts, text[start:]]


def unescaped(text: str) -> str:
    """A value as it was meant (FHIR R4 Search, 3.1.1.4.0.1 "Escaping Search Parameters")."""
    return _ESCAPED.sub(r"\1", text)
