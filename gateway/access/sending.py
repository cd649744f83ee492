"""What an AE may send, and how it is taken: narrower than the actions that the policy allows it."""

from __future__ import annotations

from dataclasses import dataclass

from storage.index.arrivals import Conflict


@dataclass(frozen=True, slots=True)
class Sending:
    """Bounds of what an AE stores with us. Without any, all that the gateway stores is taken, as fast as it comes.

    Attributes
    ----------
    sop_classes, transfer_syntaxes
        UIDs; none is any.
    max_instance_bytes
        Beside the gateway's own bound.
    max_bytes_per_s
        Of all its associations with this host, on the long run.
    conflict
        In place of the tenant's.
    """

    sop_classes: frozenset[str] = frozenset()
    transfer_syntaxes: frozenset[str] = frozenset()
    max_instance_bytes: int | None = None
    max_bytes_per_s: float | None = None
    conflict: Conflict | None = None

    def takes_class(self, sop_class_uid: str) -> bool:
        """Whether instances of a SOP class are taken."""
        return not self.sop_classes or sop_class_uid in self.sop_classes

    def takes_syntax(self, transfer_syntax_uid: str) -> bool:
        """Whether data sets in a transfer syntax are taken."""
        return not self.transfer_syntaxes or transfer_syntax_uid in self.transfer_syntaxes


ANYTHING = Sending()
