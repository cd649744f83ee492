"""``gateway transition``: what the rules of transition would move into other storage classes, and moving it now."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from gateway import config, stores
from gateway.commands import terminal
from gateway.commands.administration import administrator, opened
from gateway.commands.arguments import Commands, with_config, with_json, with_rules
from gateway.config import InvalidSettings
from gateway.services.rules import Look
from gateway.services.transition import Due, Step, TransitionService
from storage.dicom import identifiers as ids


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "transition",
        help="show what rules would move into other storage classes, or move it",
        description="Show what the rules of [[transition]] would move now, and change nothing. With --apply move it. "
        "May run beside the gateway.",
    )
    with_rules(parser, "move it")
    with_json(parser)
    with_config(parser, run, "what was moved stays so; give the command again for the rest")


def run(options: argparse.Namespace) -> int:
    """Show or apply."""
    settings = config.load(options.config)
    if not settings.transition:
        raise InvalidSettings(["transition: there is no rule, so nothing is ever moved by one"])
    if options.apply and settings.storage.read_only:
        raise InvalidSettings(["storage.read_only: this gateway moves nothing"])
    found = _Found(apply=options.apply, listing=options.list)
    with opened(settings) as (archive, trail), terminal.interruptible():
        service = TransitionService(archive, stores.storage_classes(settings), trail, settings.transition)
        found.gather(service, [each for each in service.tenants() if options.tenant in (None, each)])
    if options.json:
        terminal.report(found.document())
    else:
        found.tell()
    return terminal.FAILED if found.failed else terminal.OK


@dataclass(slots=True)
class _Group:
    """Studies of a tenant by one rule; of what is due every object counts, of what was moved those that were."""

    storage_class: str
    studies: int = 0
    objects: int = 0
    size: int = 0


class _Found:
    """What is due, or was moved, and what was met beside it."""

    def __init__(self, *, apply: bool, listing: bool) -> None:
        self._apply = apply
        self._listing = listing
        self._look = Look()
        self._groups: dict[tuple[str, str], _Group] = {}
        self._listed: list[Due] = []
        self.failed: list[Step] = []

    def gather(self, service: TransitionService, tenants: Sequence[ids.Tenant]) -> None:
        """Look at tenants' studies, and move what is due when that is asked for."""
        with terminal.progress("studies looked at") as meter:
            for step in service.round(administrator(), tenants, self._look) if self._apply else ():
                self._take(step)
                meter.update(self._look.studies, detail=self._count())
            for tenant in () if self._apply else tenants:
                for page in service.look(tenant, self._look):
                    for due in page:
                        self._take(Step(due, due.versions, due.size, done=True))
                    meter.update(self._look.studies, detail=self._count())

    def _take(self, step: Step) -> None:
        due = step.due
        if step.failed:
            self.failed.append(step)
        elif due is not None and (step.objects or step.done):
            group = self._groups.setdefault((due.tenant, due.rule.name), _Group(due.rule.storage_class))
            group.studies += step.done
            group.objects += step.objects
            group.size += step.size
            if step.done and self._listing:
                self._listed.append(due)

    def _count(self) -> str:
        groups = self._groups.values()
        return f"{sum(each.studies for each in groups)} {self._word}, {sum(each.objects for each in groups)} objects"

    @property
    def _word(self) -> str:
        return "moved" if self._apply else "due"

    def document(self) -> dict[str, object]:
        """As JSON values."""
        found: dict[str, object] = {
            "applied": self._apply,
            "rules": [
                {"tenant": tenant, "rule": rule, "storageClass": group.storage_class, "studies": group.studies,
                 "objects": group.objects, "bytes": group.size}
                for (tenant, rule), group in sorted(self._groups.items())
            ],
            "failed": len(self.failed),
            "withoutRule": dict(sorted(self._look.uncovered.items())),
        }  # fmt: skip
        if self._listing:
            found["studies"] = [
                {"tenant": due.tenant, "study": due.study.study_uid, "rule": due.rule.name,
                 "storageClass": due.rule.storage_class, "versions": due.versions, "bytes": due.size}
                for due in self._listed
            ]  # fmt: skip
        return found

    def tell(self) -> None:
        """As lines."""
        for due in self._listed:
            terminal.answer(f"{due.tenant}  {due.study.study_uid}  {due.rule.name}  to {due.rule.storage_class}")
        for (tenant, rule), group in sorted(self._groups.items()):
            size = f"{group.studies} studies, {group.objects} objects, {group.size} bytes"
            terminal.answer(f"{tenant}, rule {rule}: {size}: {self._word} to {group.storage_class}")
        if not self._groups:
            terminal.answer(f"nothing {'was moved' if self._apply else 'is due'}")
        for step in self.failed[: terminal.SHOWN]:
            terminal.error(f"{step.due.study.study_uid if step.due else ''}: {step.failed}")
        for modality, count in sorted(self._look.uncovered.items()):
            terminal.note(f"{count} old studies stay: no rule is about {modality or 'series without a modality'}")
        if self._groups and not self._apply:
            terminal.note("nothing was changed; --apply moves them")
