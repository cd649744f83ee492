"""``gateway webhooks`` beside a gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from gateway import config
from gateway.services.webhooks import Webhook
from tests.gateway.commands.conftest import Site
from tests.webhook_receiver import SECRET, Receiver


@pytest.fixture
def receiver(site: Site) -> Iterator[Receiver]:
    with Receiver() as server:
        site.file.write_text(
            f'{site.file.read_text()}\n[[webhooks]]\nname = "ris"\nurl = "{server.url}"\nsecret = "{SECRET}"\n'
        )
        yield server


def test_a_message_tries_whether_the_receiver_takes_it(site: Site, receiver: Receiver) -> None:
    status, said, _ = site.command("webhooks", "--test", "ris")
    assert (status, said.strip()) == (0, f"{receiver.url} took a message")
    assert [each["type"] for each in receiver.verified()] == ["test"]
    receiver.answers = [401, 401]
    status, said, complained = site.command("webhooks", "--test", "ris")
    assert (status, said) == (1, "")
    assert "status 401" in complained
    assert "secret" in complained
    status, said, _ = site.command("webhooks", "--test", "ris", "--json")
    assert (status, json.loads(said)["taken"], json.loads(said)["reason"]) == (1, False, "status 401")
    status, _, complained = site.command("webhooks", "--test", "pacs")
    assert status != 0
    assert "there are: ris" in complained


def test_how_they_stand_is_told(site: Site, receiver: Receiver) -> None:
    assert "not begun" in site.command("webhooks")[1]
    (given,) = config.load(site.file).webhooks
    hook = Webhook(given, site.core.archive.index, site.core.control, site.core.door.record, lambda _: {})
    told: list[object] = []
    hook.round(lambda: False, told.append)
    status, said, _ = site.command("webhooks")
    assert status == 0
    assert "well" in said
    site.store()
    site.core.archive.index.complete_quiet(0.0, time.time() + 1)
    receiver.answers = [500]
    hook.round(lambda: False, told.append)
    assert "(attempts: 1)" in site.command("webhooks")[1]
    (found,) = json.loads(site.command("webhooks", "--json")[1])["webhooks"]
    assert (found["name"], found["failures"]) == ("ris", 1)
    assert found["behind"] >= 1
    assert SECRET not in json.dumps(found)
    hook.close()


def test_without_any_it_says_so(site: Site) -> None:
    assert site.command("webhooks")[:2] == (0, "there is none: settings have no [[webhooks]]\n")


def test_a_secret_that_is_none_is_told_without_it(site: Site, receiver: Receiver) -> None:
    site.file.write_text(site.file.read_text().replace(SECRET, "mistyped-secret"))
    status, said, complained = site.command("webhooks")
    assert status != 0
    assert "webhooks.0.secret" in complained
    assert "mistyped-secret" not in said + complained
    assert receiver.url
