"""``gateway retention`` beside a gateway, and the duty that does the same by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly, background, cli, config
from gateway.commands.administration import administrator
from gateway.services.hold import HoldService
from storage.archive import Sender
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Conflict
from storage.index.questions import Target
from storage.index.stored import Held
from tests.instances import data_set, encode, extract, version_of

MAIN = ids.tenant("main")
RULES = """
[storage]
directory = "data"
fsync = false
[[retention]]
name = "common"
keep_days = 365
modalities = ["CT", "US"]
[[retention]]
name = "sonography"
keep_days = 730
modalities = ["US"]
"""


class Site:
    """A settings file with rules, the services of a gateway on it, and commands given beside them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "gateway.toml"
        self.file.write_text(RULES)
        self.core = assembly.build(config.load(self.file), "test", any_age=True)
        self._capsys = capsys

    def store(self, days_ago: float, tenant: ids.Tenant = MAIN, **values: Any) -> ids.StudyUid:
        body = encode(data_set(**values))
        found = extract(body)
        self.core.archive.store(tenant, version_of(days_ago), found, [body], Sender(), Conflict.VERSION)
        return found.study_uid

    def live(self, *studies: ids.StudyUid) -> list[bool]:
        return [bool(self.core.archive.index.versions(Target(MAIN, study), EVERYTHING)) for study in studies]

    def metric(self, what: str, **labels: str) -> float | None:
        total = "_total" if what == "removed" else ""
        name = f"gateway_retention_{what}_studies{total}"
        return self.core.metrics.registry.get_sample_value(name, {"tenant": "main", **labels})

    def command(self, *arguments: str) -> tuple[int, str, str]:
        status = cli.main(["retention", *arguments, "-c", str(self.file)])
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    found = Site(tmp_path, capsys)
    with closing(found.core):
        yield found


def test_it_shows_what_would_go_and_changes_nothing_until_told_to_apply(site: Site) -> None:
    ct = [site.store(400, Modality="CT"), site.store(500, Modality="CT")]
    us = site.store(800, Modality="US")
    site.store(700, Modality="US")
    report, held = site.store(900, Modality="SR"), site.store(900, Modality="CT")
    HoldService(site.core.archive, site.core.trail).add(administrator(), MAIN, Held(held, "", "", "case 7"))
    elsewhere = site.store(400, ids.tenant("other"), Modality="CT")

    status, said, noted = site.command()
    assert status == 0
    lines = said.splitlines()
    assert [line.partition(" studies")[0] for line in lines] == [
        "main, rule common: 2", "main, rule sonography: 1", "other, rule common: 1",
    ]  # fmt: skip
    assert "1 studies would go and are under a legal hold" in noted
    assert "1 old studies stay: no rule is about SR" in noted
    assert site.live(*ct, us) == [True] * 3

    _, said, _ = site.command("--dry-run", "--json", "--list", "--tenant", "main")
    found = json.loads(said)
    assert (found["applied"], found["held"], found["withoutRule"], found["more"]) == (False, 1, {"SR": 1}, False)
    assert [(each["rule"], each["studies"], each["versions"]) for each in found["rules"]] == [
        ("common", 2, 2), ("sonography", 1, 1),
    ]  # fmt: skip
    assert found["rules"][0]["bytes"] == sum(
        info.size for study in ct for info in site.core.archive.objects.list(f"main/{study}/")
    )
    assert {each["study"] for each in found["studies"]} == {*ct, us}

    status, said, noted = site.command("--apply", "--most", "1", "--tenant", "main")
    assert (status, "main, rule sonography: 1 studies" in said, "there is more" in noted) == (0, True, True)
    assert site.live(us, *ct) == [False, True, True]
    assert "main, rule common: 2 studies" in site.command("--apply")[1]
    assert site.live(*ct, report, held) == [False, False, True, True]
    assert site.core.archive.index.versions(Target(ids.tenant("other"), elsewhere), EVERYTHING) == []
    assert site.command("--apply", "--json")[1].count('"rules": []') == 1
    assert {state.undoable for state in site.core.archive.index.deletions(MAIN, EVERYTHING)} == {True}


def test_without_rules_or_where_nothing_may_be_written_it_refuses(site: Site) -> None:
    site.file.write_text(RULES.replace("fsync = false", "read_only = true"))
    assert "storage.read_only" in site.command("--apply")[2]
    site.file.write_text("")
    status, _, said = site.command()
    assert (status, "there is no rule" in said) == (1, True)


def test_the_background_worker_goes_step_by_step_and_counts_what_went(site: Site) -> None:
    old = site.store(400)
    for _ in range(19):
        site.store(10)
    duty = background.retention(site.core)
    steps = 1
    while duty():
        steps += 1
    assert steps > 1
    assert site.live(old) == [False]
    assert (site.metric("removed", rule="common"), site.metric("waiting")) == (1, 0)

    for _ in range(2):
        site.store(400)
    while duty():
        pass
    assert (site.metric("removed", rule="common"), site.metric("waiting")) == (1, 2)
