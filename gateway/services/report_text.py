"""A structured report as plain text."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.services.report import MAX_ITEMS, RELATIONSHIPS, Item, Report

_INDENT = "  "


def write(report: Report) -> bytes:
    """The text, in UTF-8, lines ended by LF."""
    return ("\n".join(_lines(report)) + "\n").encode("utf-8", "replace")


def _lines(report: Report) -> Iterator[str]:
    yield report.title
    yield "=" * len(report.title)
    yield ""
    width = max((len(label) for label, _ in report.facts), default=0) + 1
    for label, value in report.facts:
        yield f"{label + ':':<{width}} {value}"
    for observer in report.observers:
        yield f"Verified by {observer}"
    for item in report.items:
        yield from _item(item, 0)
    if not report.complete:
        yield f"Only the first {MAX_ITEMS} content items are shown."


def _item(item: Item, depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    word = RELATIONSHIPS.get(item.relationship, "")
    name = item.name.meaning if item.name is not None else ""
    label = f"[{word}] {name}" if word else name
    if item.kind == "CONTAINER":
        if depth == 0:
            yield ""
        yield f"{indent}{label or 'Section'}"
    else:
        unit = f" {item.unit.value or item.unit.meaning}" if item.unit is not None else ""
        first, *rest = (item.value + unit).split("\n")
        yield f"{indent}{label}: {first}" if label else f"{indent}{first}"
        yield from (f"{indent}{_INDENT}{line}" for line in rest)
    for child in item.children:
        yield from _item(child, depth + 1)
