"""What a principal may be allowed to do, and what a rule's obligations leave of it."""

from __future__ import annotations

from enum import StrEnum


class Action(StrEnum):
    """What a principal may be allowed to do."""

    ECHO = "echo"
    SEARCH = "search"
    READ = "read"
    """Metadata, frames and bulk data, as a viewer takes them."""
    READ_DEIDENTIFIED = "read_deidentified"
    """The same through a de-identified view, which takes the place of ``read`` there."""
    DOWNLOAD = "download"
    """Whole instances, and studies as a ZIP; given with ``read``, unless an obligation takes it away."""
    RENDER = "render"
    STORE = "store"
    DELETE = "delete"
    SHARE = "share"
    AUDIT_READ = "audit_read"
    REIDENTIFY = "reidentify"
    """To be told whose the pseudonyms of a view are."""
    WORKLIST = "worklist"
    """To be told what is scheduled, with whose it is."""
    PERFORM = "perform"
    """To report which procedure steps are performed."""
    SCHEDULE = "schedule"
    """To order procedure steps, change and cancel them."""
    ADMIN = "admin"


class Obligation(StrEnum):
    """What holds for whoever is let in by a rule."""

    NO_DOWNLOAD = "no_download"
    """Studies can be looked at, but no whole instance leaves the gateway."""
    RENDERED_ONLY = "rendered_only"
    """Pictures only: neither pixels nor metadata as they are stored."""
    BREAK_GLASS = "break_glass"
    """The rule counts only for a request that states a reason, and each use raises an alarm."""


READING = frozenset((Action.READ, Action.READ_DEIDENTIFIED))

IN_VIEWS = frozenset(
    (Action.SEARCH, Action.READ_DEIDENTIFIED, Action.DOWNLOAD, Action.RENDER, Action.SHARE, Action.STORE)
)
"""What can be done through a de-identified view."""

_TAKEN = {
    Obligation.NO_DOWNLOAD: frozenset((Action.DOWNLOAD,)),
    Obligation.RENDERED_ONLY: READING | {Action.DOWNLOAD},
    Obligation.BREAK_GLASS: frozenset[Action](),
}


def effective(actions: frozenset[Action], obligations: frozenset[Obligation]) -> frozenset[Action]:
    """The actions that a rule gives: with ``read`` also ``download``, without what its obligations forbid."""
    given = actions | {Action.DOWNLOAD} if actions & READING else actions
    return given.difference(*(_TAKEN[each] for each in obligations))


def in_view(action: Action) -> Action:
    """What stands for an action where something is seen through a de-identified view."""
    return Action.READ_DEIDENTIFIED if action is Action.READ else action
