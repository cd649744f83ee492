"""``gateway retention``: what the rules of retention would delete, and deleting it now."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from gateway import config
from gateway.access.door import Door
from gateway.audit.events import AuditEvent
from gateway.audit.trail import AuditTrail
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened
from gateway.commands.arguments import Commands, positive, with_config, with_json, with_rules
from gateway.config import InvalidSettings
from gateway.context import Caller
from gateway.services.delete import DeleteService
from gateway.services.retention import Due, Look, RetentionService
from storage.dicom import identifiers as ids


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "retention",
        help="show what rules of retention would delete, or delete it",
        description="Show what the rules of [[retention]] would delete now, and change nothing. With --apply delete "
        "it, as DELETE does: it can be undone for storage.undo_s. May run beside the gateway.",
    )
    with_rules(parser, "delete it, however much of the archive it is")
    parser.add_argument(
        "--most", type=positive, metavar="N", help="studies to delete at most (lifecycle.max_studies_per_round)"
    )
    with_json(parser)
    with_config(parser, run, "what was deleted stays so; give the command again for the rest")


def run(options: argparse.Namespace) -> int:
    """Show or apply."""
    settings = config.load(options.config)
    if not settings.retention:
        raise InvalidSettings(["retention: there is no rule, so nothing is ever deleted by one"])
    if options.apply and settings.storage.read_only:
        raise InvalidSettings(["storage.read_only: this gateway deletes nothing"])
    most = (options.most or settings.lifecycle.max_studies_per_round) if options.apply else None
    with opened(settings) as (archive, trail), terminal.interruptible():
        delete = DeleteService(archive, Door(settings.access.policy_file, trail), settings.storage.undo_s)
        service = RetentionService(archive, delete, trail, settings.retention, settings.lifecycle)
        found = _Found(service, trail, apply=options.apply, listing=options.list)
        found.gather(options.tenant, most)
    if options.json:
        terminal.report(found.document())
    else:
        found.tell()
    return terminal.OK


@dataclass(slots=True)
class _Group:
    """Studies of a tenant that one rule let go last."""

    studies: int = 0
    versions: int = 0
    size: int = 0
    oldest: str = "~"

    def take(self, due: Due) -> None:
        self.studies += 1
        self.versions += due.versions
        self.size += due.size
        self.oldest = min(self.oldest, due.kept.until.isoformat())


class _Found:
    """What is due, or was deleted, and what was met beside it."""

    def __init__(self, service: RetentionService, trail: AuditTrail, *, apply: bool, listing: bool) -> None:
        self._service = service
        self._trail = trail
        self._apply = apply
        self._listing = listing
        self._look = Look()
        self._listed: list[Due] = []
        self._groups: dict[tuple[str, str], _Group] = {}
        self._count = 0
        self._more = False

    def gather(self, tenant: ids.Tenant | None, most: int | None) -> None:
        """Look at one tenant's studies or everybody's, and delete up to ``most`` of what is due."""
        caller = administrator()
        with terminal.progress("studies looked at") as meter:
            for due in self._due(tenant, caller, meter):
                if most is not None and self._count >= most:
                    self._more = True
                    return
                if not self._apply or self._service.remove(caller, due):
                    self._take(due)

    def _due(self, tenant: ids.Tenant | None, caller: Caller, meter: terminal.Meter) -> Iterator[Due]:
        for each in self._service.tenants():
            if tenant not in (None, each):
                continue
            self._trail.write(AuditEvent("retention", "allowed" if self._apply else "rehearsed", caller, each))
            for page in self._service.look(each, self._look):
                for due in page:
                    yield due
                    meter.update(self._look.studies, detail=f"{self._count} {self._word}")
                meter.update(self._look.studies, detail=f"{self._count} {self._word}")

    def _take(self, due: Due) -> None:
        self._count += 1
        self._groups.setdefault((due.tenant, due.kept.rule), _Group()).take(due)
        if self._listing:
            self._listed.append(due)

    @property
    def _word(self) -> str:
        return "deleted" if self._apply else "due"

    def document(self) -> dict[str, object]:
        """As JSON values."""
        found: dict[str, object] = {
            "applied": self._apply,
            "rules": [
                {"tenant": tenant, "rule": rule, "studies": group.studies, "versions": group.versions,
                 "bytes": group.size, "oldest": group.oldest}
                for (tenant, rule), group in sorted(self._groups.items())
            ],
            "held": self._look.held,
            "withoutRule": dict(sorted(self._look.uncovered.items())),
            "more": self._more,
        }  # fmt: skip
        if self._listing:
            found["studies"] = [
                {"tenant": due.tenant, "study": due.study.study_uid, "rule": due.kept.rule,
                 "keptUntil": due.kept.until.isoformat(), "versions": due.versions, "bytes": due.size}
                for due in self._listed
            ]  # fmt: skip
        return found

    def tell(self) -> None:
        """As lines."""
        for due in self._listed:
            terminal.answer(f"{due.tenant}  {due.study.study_uid}  {due.kept.rule}  kept until {due.kept.until}")
        for (tenant, rule), group in sorted(self._groups.items()):
            size = f"{group.studies} studies, {group.versions} objects, {group.size} bytes"
            terminal.answer(f"{tenant}, rule {rule}: {size}, the first kept until {group.oldest}: {self._word}")
        if not self._groups:
            terminal.answer(f"nothing {'was deleted' if self._apply else 'is due'}")
        if self._look.held:
            terminal.note(f"{self._look.held} studies would go and are under a legal hold")
        for modality, count in sorted(self._look.uncovered.items()):
            terminal.note(f"{count} old studies stay: no rule is about {modality or 'series without a modality'}")
        if self._more:
            terminal.note("there is more: give the command again, or --most")
        elif self._groups and not self._apply:
            terminal.note("nothing was changed; --apply deletes them")
