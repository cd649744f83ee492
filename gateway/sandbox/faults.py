"""Faults that a sandbox makes when it is asked to, for one request by a header or for all until they are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

HEADER = "X-Sandbox-Fault"
MOST_S = 120.0
"""Longest delay, and longest Retry-After."""


class NotAFault(ValueError):
    """What was asked for is none; the text says what there is."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong. ``unavailable_every`` is 1 for each request, 3 for every third, 0 for none."""

    slow_s: float = 0.0
    unavailable_every: int = 0
    retry_after_s: int = 5
    expired_token: bool = False

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)


def of_document(given: object) -> Faults:
    """Those of a JSON object; what it does not name is not wrong."""
    known = {each.name: type(each.default) for each in fields(Faults)}
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise NotAFault(f"faults are an object of {', '.join(known)}")
    for name, value in given.items():
        kinds = (int, float) if known[name] is float else (known[name],)
        if isinstance(value, bool) != (known[name] is bool) or not isinstance(value, kinds):
            raise NotAFault(f"{name}: {known[name].__name__}, got {value!r}")
    return _checked(Faults(**given))


def of_header(text: str, lasting: Faults) -> Faults:
    """Those of a header, ``slow=2.5, unavailable=10, expired-token``, beside those that last."""
    found = lasting
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = each.partition("=")
        try:
            if name == "slow":
                found = replace(found, slow_s=float(value))
            elif name == "unavailable":
                found = replace(found, unavailable_every=1, retry_after_s=int(value or found.retry_after_s))
            elif name == "expired-token" and not value:
                found = replace(found, expired_token=True)
            else:
                raise ValueError(each)
        except ValueError as error:
            known = "slow=SECONDS, unavailable, unavailable=SECONDS, expired-token"
            raise NotAFault(f"{HEADER}: {each[:40]!r} is none; there are {known}") from error
    return _checked(found)


def _checked(found: Faults) -> Faults:
    if not 0 <= found.slow_s <= MOST_S or not 0 <= found.retry_after_s <= MOST_S or found.unavailable_every < 0:
        raise NotAFault(f"slow_s and retry_after_s: 0 to {MOST_S:.0f}; unavailable_every: 0, or a number of requests")
    return found
