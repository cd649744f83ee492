"""What a visit came to, as a document for scripts, in Markdown, and as a page."""

from __future__ import annotations

import datetime
import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.conformance.claims import Outcome, Result, Service

_VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1">'
_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;"
    "padding:0 1rem}div{overflow-x:auto}table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;"
    "padding:.3rem .6rem;border-bottom:1px solid #8886}td:last-child{overflow-wrap:anywhere;min-width:14rem}"
    ".failed{color:light-dark(#b3261e,#ff8a80);font-weight:bold}"
)


@dataclass(frozen=True, slots=True)
class Visited:
    """The server, by a name that may be printed, when it was visited and by which release, and the results."""

    server: str
    day: datetime.date
    release: str
    stored: bool
    results: Sequence[Result]

    @property
    def failed(self) -> int:
        """How many claims failed."""
        return self._counts[Outcome.FAILED]

    @property
    def _counts(self) -> Counter[Outcome]:
        return Counter(each.outcome for each in self.results)

    @property
    def summary(self) -> str:
        """The counts as a line."""
        return ", ".join(f"{self._counts[each]} {each}" for each in Outcome)

    def document(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "server": self.server,
            "date": self.day.isoformat(),
            "kit": self.release,
            "stored": self.stored,
            "counts": {str(each): self._counts[each] for each in Outcome},
            "claims": [
                {
                    "claim": each.claim.name,
                    "service": str(each.claim.service),
                    "section": each.claim.section,
                    "text": each.claim.text,
                    "required": each.claim.required,
                    "outcome": str(each.outcome),
                    "detail": each.detail,
                }
                for each in self.results
            ],
        }

    def markdown(self) -> str:
        """As a document."""
        lines = [f"# Conformance of {self.server}", "", f"{self._about()}. {self.summary}.", ""]
        for service, results in self._by_service():
            lines += [
                f"### {service}",
                "",
                "| Claim | Section | Outcome | Asked and answered |",
                "| --- | --- | --- | --- |",
            ]
            lines += [
                f"| {_cell(each.claim.text)} | {each.claim.section} | {_bold(each.outcome)} | {_cell(each.detail)} |"
                for each in results
            ]
            lines.append("")
        return "\n".join(lines)

    def page(self) -> str:
        """As an HTML document that needs nothing else."""
        head = f"Conformance of {html.escape(self.server)}"
        body = [f"<h1>{head}</h1><p>{html.escape(self._about())}.<p>{html.escape(self.summary)}"]
        for service, results in self._by_service():
            name = html.escape(service)
            body.append(f'<h2>{name}</h2><div tabindex="0" role="region" aria-label="{name}"><table>')
            body.append("<tr><th>Claim<th>Section<th>Outcome<th>Asked and answered")
            for each in results:
                cells = (each.claim.text, each.claim.section, str(each.outcome), each.detail)
                text, section, outcome, detail = map(html.escape, cells)
                body.append(f'<tr><td>{text}<td>{section}<td class="{outcome}">{outcome}<td>{detail}')
            body.append("</table></div>")
        start = f'<!doctype html><html lang="en"><meta charset="utf-8">{_VIEWPORT}<title>{head}</title>'
        return f"{start}<style>{_STYLE}</style>" + "".join(body) + "</html>\n"

    def _about(self) -> str:
        how = "with instances of the kit's own" if self.stored else "read-only, on what was found there"
        return f"Visited on {self.day.isoformat()} by the kit of gateway {self.release}, {how}"

    def _by_service(self) -> Iterator[tuple[Service, list[Result]]]:
        for service in Service:
            if found := [each for each in self.results if each.claim.service is service]:
                yield service, found


def _bold(outcome: Outcome) -> str:
    return f"**{outcome}**" if outcome is Outcome.FAILED else str(outcome)


def _cell(text: str) -> str:
    """A text in a cell of a table: what could be markup stands as it is."""
    shown = " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
    return "".join(f"\\{each}" if each in "*_<>[]`" else each for each in shown)
