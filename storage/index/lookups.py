"""Ids looked up before the statement that needs them is written, as long as they are few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from storage.index.database import Found, Text

FEW = 2000
"""So many rows are looked up one by one; of more, a page's are met soon on the way through all in their order."""


class Lookups:
    """Looks ids up on one connection."""

    def __init__(self, run: Callable[[str, Sequence[object]], list[Found]]) -> None:
        self._run = run
        self._known: dict[tuple[Text, ...], Sequence[int] | None] | None = None

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Within it nothing is looked up twice, since nothing changes: page and total ask the same."""
        self._known = {}
        try:
            yield
        finally:
            self._known = None

    def few(self, *statements: Text) -> Sequence[int] | None:
        """The ids that some statements give together, each without a LIMIT; None when they are many."""
        if self._known is None:
            return self._found(statements)
        if statements not in self._known:
            self._known[statements] = self._found(statements)
        return self._known[statements]

    def _found(self, statements: Sequence[Text]) -> Sequence[int] | None:
        found: list[int] = []
        for each in statements:
            most = FEW + 1 - len(found)
            found += [row[0] for row in self._run(f"{each.text} LIMIT ?", (*each.parameters, most))]
        return found if len(found) <= FEW else None
