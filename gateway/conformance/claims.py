"""Claims: a sentence of what a server does, where the standard says so, and the check that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.conformance.visit import Visit

Check = Callable[["Visit"], str | None]
"""Asks, and says what is worth saying although the claim holds. Raises one of the three below when it does not."""


class Broken(Exception):
    """The server answers otherwise than the standard has it."""


class Unsupported(Exception):
    """The server says that it does not do what it need not do."""


class NotAsked(Exception):
    """There is nothing here that could be asked for."""


class Service(StrEnum):
    """The services, in the order in which they are asked."""

    STORE = "Store (STOW-RS)"
    SEARCH = "Search (QIDO-RS)"
    RETRIEVE = "Retrieve (WADO-RS)"
    RENDER = "Retrieve, rendered"
    NEGOTIATION = "Content negotiation"
    CAPABILITIES = "Capabilities and HTTP"
    DELETION = "Deletion"


class Outcome(StrEnum):
    """What became of a claim."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_SUPPORTED = "not supported"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Claim:
    """``required`` claims fail where others are not supported; those that ``store`` change what the server holds."""

    name: str
    service: Service
    section: str
    text: str
    check: Check
    required: bool
    stores: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What became of it; ``detail`` tells what was asked and answered, or why nothing was."""

    claim: Claim
    outcome: Outcome
    detail: str = ""


def claim(
    service: Service, section: str, text: str, *, required: bool = True, stores: bool = False
) -> Callable[[Check], Claim]:
    """Make a claim of a check, named as the check is."""

    def of(check: Check) -> Claim:
        name = getattr(check, "__name__", "").replace("_", "-")
        return Claim(name, service, section, text, check, required, stores)

    return of


def tried(found: Claim, visit: Visit) -> Result:
    """What becomes of a claim at a server."""
    if found.stores and visit.made is None:
        return Result(found, Outcome.SKIPPED, "changes what the server holds; --store allows it")
    visit.client.forget()
    try:
        return Result(found, Outcome.PASSED, found.check(visit) or "")
    except Broken as error:
        told = "; ".join(each for each in (str(error), visit.client.last) if each)
        return Result(found, Outcome.FAILED, told)
    except Unsupported as error:
        told = "; ".join(each for each in (str(error), visit.client.last) if each)
        return Result(found, Outcome.FAILED if found.required else Outcome.NOT_SUPPORTED, told)
    except NotAsked as error:
        return Result(found, Outcome.SKIPPED, str(error))
