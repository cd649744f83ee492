"""Where pages of a question began and ended, so that the next one need not be counted off from the first row.

Clients page by offset; skipping a hundred thousand rows costs more than finding the page. A place is good for one
state of the index (or one snapshot) only, so that it can be forgotten at any time and never be wrong.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from storage.index.questions import Position

MAX_QUESTIONS = 256
MAX_PLACES = 512


@dataclass(slots=True)
class _Question:
    total: int | None
    offsets: list[int] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)


class Places:
    """Remembers the last questions; safe to use from several threads."""

    def __init__(self) -> None:
        self._questions: OrderedDict[Hashable, _Question] = OrderedDict()
        self._lock = threading.Lock()

    def total(self, question: Hashable) -> int | None:
        """How many rows a question has, where that has been counted to the end."""
        with self._lock:
            known = self._questions.get(question)
            return None if known is None else known.total

    def before(self, question: Hashable, offset: int) -> tuple[int, Position] | None:
        """The last known place up to an offset: how many rows are up to it, and the position of its last."""
        with self._lock:
            known = self._questions.get(question)
            if known is None:
                return None
            self._questions.move_to_end(question)
            place = bisect_right(known.offsets, offset) - 1
            return None if place < 0 else (known.offsets[place], known.positions[place])

    def note(self, question: Hashable, total: int | None, offset: int, position: Position) -> None:
        """Remember a question's total, if it is known, and that ``position`` is that of row number ``offset``."""
        with self._lock:
            known = self._questions.setdefault(question, _Question(total))
            known.total = known.total if total is None else total
            self._questions.move_to_end(question)
            if offset not in known.offsets and len(known.offsets) < MAX_PLACES:
                place = bisect_right(known.offsets, offset)
                known.offsets.insert(place, offset)
                known.positions.insert(place, position)
            if len(self._questions) > MAX_QUESTIONS:
                self._questions.popitem(last=False)
