"""Webhooks: a receiver that others made checks what it is told."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.audit.events import AuditEvent
from gateway.config.notifying import WebhookSettings
from gateway.errors import AuditUnavailable
from gateway.services import webhooks
from gateway.services.webhooks import Told, Webhook
from storage.archive import Archive, Sender
from storage.control.sqlite import SqliteControl
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Conflict
from storage.index.questions import Target
from storage.index.sqlite import SqliteIndex
from storage.objects.memory import MemoryObjectStore
from tests.instances import data_set, encode, extract, uid
from tests.webhook_receiver import SECRET, Receiver

MAIN = ids.tenant("main")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


class Site:
    """An archive and its control state; every hook sees the same."""

    def __init__(self, directory: Path, url: str) -> None:
        self.url = url
        self.directory = directory
        self.archive = Archive(MemoryObjectStore(), SqliteIndex(directory / "index.sqlite", fsync=False), Limits())
        self.control = SqliteControl(directory / "control.sqlite", fsync=False)
        self.recorded: list[AuditEvent] = []
        self.told: list[Told] = []
        self._opened: list[Webhook] = []

    def hook(self, **given: Any) -> Webhook:
        settings = WebhookSettings.model_validate({"name": "ris", "url": self.url, "secret": SECRET, **given})
        links: Callable[[str], dict[str, str]] = lambda study: {"dicomweb": f"https://pacs.test/studies/{study}"}  # noqa: E731
        hook = Webhook(settings, self.archive.index, self.control, self.recorded.append, links)
        self._opened.append(hook)
        self.round(hook)  # from now on
        return hook

    def round(self, hook: Webhook) -> None:
        hook.round(lambda: False, self.told.append)

    def store(self, study: str, count: int = 1) -> None:
        for _ in range(count):
            body = encode(data_set(StudyInstanceUID=study))
            version = self.archive.new_version()
            self.archive.store(MAIN, version, extract(body), [body], Sender(), Conflict.VERSION)

    def complete(self) -> None:
        self.archive.index.complete_quiet(0.0, time.time() + 1)

    def delete(self, study: str, leaving: int = 0) -> ids.Version:
        target = Target(MAIN, ids.StudyUid(study))
        versions = self.archive.index.versions(target, EVERYTHING)
        return self.archive.delete(target, versions[leaving:])

    def close(self) -> None:
        for hook in self._opened:
            hook.close()
        self.archive.close()
        self.control.close()


@pytest.fixture
def site(tmp_path: Path, receiver: Receiver) -> Iterator[Site]:
    site = Site(tmp_path, receiver.url)
    yield site
    site.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the hooks are ahead of the time."""
    ahead = [0.0]
    monkeypatch.setattr(webhooks, "now_s", lambda: time.time() + ahead[0])
    return ahead


def test_a_study_is_told_when_it_is_complete_and_nothing_of_its_patient(site: Site, receiver: Receiver) -> None:
    before = uid()
    site.store(before)
    site.complete()
    hook = site.hook()
    site.round(hook)
    assert receiver.messages == []  # it was there before
    study = uid()
    site.store(study, 3)
    site.round(hook)
    assert receiver.messages == []  # more may come
    site.complete()
    site.round(hook)
    site.round(hook)
    (message,) = receiver.verified()
    assert message["type"] == "study.completed"
    assert message["data"] == {
        "tenant": "main",
        "study_uid": study,
        "dicomweb": f"https://pacs.test/studies/{study}",
    }
    (headers, body) = receiver.messages[0]
    assert headers["content-type"] == "application/json"
    assert b"Patient" not in body
    assert b"T-1" not in body
    assert [(event.action, event.outcome, event.subject) for event in site.recorded] == [
        ("notify", "allowed", (study,))
    ]
    (given,) = [hook._given]
    assert webhooks.standing(given, site.archive.index, site.control) == webhooks.Standing(0)


def test_what_is_deleted_and_comes_back_is_told_once_for_all_of_its_instances(site: Site, receiver: Receiver) -> None:
    study = uid()
    site.store(study, 5)
    hook = site.hook()
    site.delete(study, leaving=2)
    site.round(hook)
    deletion = site.delete(study)
    site.round(hook)
    site.archive.restore(MAIN, deletion)
    site.round(hook)
    assert [each["type"] for each in receiver.verified()] == ["study.changed", "study.deleted", "study.changed"]
    assert len(set(receiver.ids())) == 3


def test_only_what_is_asked_for_is_told(site: Site, receiver: Receiver) -> None:
    hook = site.hook(occasions=["study.deleted"])
    study = uid()
    site.store(study)
    site.complete()
    site.delete(study)
    site.round(hook)
    assert [each["type"] for each in receiver.verified()] == ["study.deleted"]


def test_another_tenant_s_studies_are_not_told(site: Site, receiver: Receiver) -> None:
    hook = site.hook(tenant="other")
    site.store(uid())
    site.complete()
    site.round(hook)
    assert receiver.messages == []


@pytest.mark.parametrize("answer", [500, 404, 410, 302, (302, {"Location": "/elsewhere"})])
def test_what_is_not_taken_is_sent_again_and_what_follows_waits(
    site: Site, receiver: Receiver, clock: list[float], answer: Any
) -> None:
    hook = site.hook()
    first, second = uid(), uid()
    for study in (first, second):
        site.store(study)
        site.complete()
    receiver.answers = [answer] * 2
    for ahead_s, sent in ((0, 1), (4, 1), (6, 2), (15, 2), (17, 4), (30, 4)):
        clock[0] = ahead_s
        site.round(hook)
        assert len(receiver.messages) == sent, ahead_s
    assert [each["data"]["study_uid"] for each in receiver.verified()] == [first, first, first, second]
    assert len(set(receiver.ids())) == 2
    assert [told.outcome for told in site.told] == ["failed", "failed", "delivered", "delivered"]


def test_a_receiver_that_is_not_there_is_no_answer(site: Site, receiver: Receiver) -> None:
    hook = site.hook()
    receiver.close()
    site.store(uid())
    site.complete()
    site.round(hook)
    assert [told.outcome for told in site.told] == ["failed"]
    assert site.told[0].reason.startswith("no answer: ")


def test_a_receiver_says_how_long_it_wants_to_be_left_alone(site: Site, receiver: Receiver, clock: list[float]) -> None:
    hook = site.hook()
    site.store(uid())
    site.complete()
    receiver.answers = [(503, {"Retry-After": "60"})]
    for ahead_s, sent in ((0, 1), (50, 1), (61, 2)):
        clock[0] = ahead_s
        site.round(hook)
        assert len(receiver.messages) == sent


def test_a_message_that_is_never_taken_is_given_up_on_the_record_and_the_next_one_comes(
    site: Site, receiver: Receiver, clock: list[float]
) -> None:
    hook = site.hook(give_up_after_s=60)
    lost, next_one = uid(), uid()
    for study in (lost, next_one):
        site.store(study)
        site.complete()
    receiver.answers = [500, 500]
    site.round(hook)
    clock[0] = 100
    site.round(hook)
    assert [(told.outcome, told.study_uid) for told in site.told] == [
        ("failed", lost),
        ("lost", lost),
        ("delivered", next_one),
    ]
    assert [(event.outcome, event.subject) for event in site.recorded] == [
        ("allowed", (lost,)),
        ("lost", (lost,)),
        ("allowed", (next_one,)),
    ]
    assert "status 500" in site.recorded[1].detail


def test_one_process_at_a_time_sends_and_another_goes_on_when_it_is_gone(
    site: Site, receiver: Receiver, clock: list[float]
) -> None:
    one, other = site.hook(), site.hook()
    studies = [uid() for _ in range(3)]
    site.store(studies[0])
    site.complete()
    site.round(other)
    assert receiver.messages == []
    site.round(one)
    assert len(receiver.messages) == 1
    # Killed: nobody gives the turn back.
    site.store(studies[1])
    site.complete()
    site.round(other)
    assert len(receiver.messages) == 1
    clock[0] = 121
    # The control state has no clock of ours: what has run out there is told by its own.
    site.control.extend("webhook turn", "ris", time.time() - 1)
    site.round(other)
    assert len(receiver.messages) == 2
    other.close()
    site.store(studies[2])
    site.complete()
    site.round(one)
    assert [each["data"]["study_uid"] for each in receiver.verified()] == studies


def test_what_was_sent_before_a_crash_comes_again_under_the_same_id(site: Site, receiver: Receiver) -> None:
    hook = site.hook()
    site.store(uid())
    site.complete()

    def crash(_: Told) -> None:
        raise KeyboardInterrupt

    noted = hook._note
    hook._note = lambda *_: crash(Told("", ids.StudyUid("")))  # type: ignore[assignment, method-assign, func-returns-value, return-value]
    with pytest.raises(KeyboardInterrupt):
        site.round(hook)
    hook._note = noted  # type: ignore[method-assign]
    site.round(hook)
    site.round(hook)
    assert len(receiver.ids()) == 2
    assert len(set(receiver.ids())) == 1


def test_with_an_index_made_anew_it_begins_with_what_happens_then(
    site: Site, receiver: Receiver, tmp_path: Path
) -> None:
    hook = site.hook()
    site.store(uid())
    site.complete()
    site.round(hook)
    hook.close()
    site.archive.index.close()
    site.archive = Archive(MemoryObjectStore(), SqliteIndex(tmp_path / "other.sqlite", fsync=False), Limits())
    site.store(uid())
    site.complete()
    anew = site.hook()
    study = uid()
    site.store(study)
    site.complete()
    site.round(anew)
    assert [each["data"]["study_uid"] for each in receiver.verified()][1:] == [study]


def test_a_new_secret_goes_with_the_old_one(site: Site, receiver: Receiver) -> None:
    new = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    hook = site.hook(secret=new, old_secret=SECRET)
    site.store(uid())
    site.complete()
    site.round(hook)
    assert receiver.verified(SECRET) == receiver.verified(new) != []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "http://ris.hospital.test/hook"}, "https is needed"),
        ({"secret": "not base64!"}, "openssl rand"),
        ({"secret": base64.b64encode(b"short").decode()}, "24 to 64 bytes"),
        ({"old_secret": "x"}, "openssl rand"),
        ({"occasions": []}, "at least 1"),
        ({"occasions": ["study.viewed"]}, "study.completed"),
        ({"name": "a b"}, "match"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(wrong: dict[str, object], said: str) -> None:
    given = {"name": "ris", "url": "https://ris.hospital.test/hook", "secret": SECRET}
    assert WebhookSettings.model_validate(given)
    with pytest.raises(ValidationError, match=said) as raised:
        WebhookSettings.model_validate({**given, **wrong})
    assert SECRET not in str(raised.value)


def test_nothing_that_is_told_or_logged_has_the_secret(
    site: Site, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook = site.hook()
    site.store(uid())
    site.complete()
    site.round(hook)
    assert SECRET not in caplog.text + json.dumps([headers for headers, _ in receiver.messages])


def dripping(listening: socket.socket, began: threading.Event) -> None:
    """Answer one connection a byte at a time, without an end."""
    connection, _ = listening.accept()
    with connection, contextlib.suppress(OSError):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        began.set()
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)


def test_a_receiver_that_drips_has_its_time_and_no_more_and_none_when_the_process_ends(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        site.url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        for timeout_s, cut in ((0.5, False), (60, True)):
            hook = site.hook(timeout_s=timeout_s, name=f"ris-{timeout_s}")
            site.store(uid())
            site.complete()
            began = threading.Event()
            threading.Thread(target=dripping, args=(listening, began), daemon=True).start()
            sending = threading.Thread(target=site.round, args=(hook,))
            sending.start()
            assert began.wait(30)
            if cut:
                hook.cut()
            sending.join(30)
            assert not sending.is_alive()
            assert site.told[-1].outcome == "failed"


def test_certificates_that_cannot_be_read_are_no_answer(site: Site, tmp_path: Path) -> None:
    hook = site.hook(url="https://127.0.0.1:1/", ca_bundle=str(tmp_path / "gone.pem"))
    site.store(uid())
    site.complete()
    site.round(hook)
    assert [(told.outcome, told.reason) for told in site.told] == [("failed", "no answer: FileNotFoundError")]


def test_what_cannot_be_put_on_the_trail_is_not_sent(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = site.hook()
    site.store(uid())
    site.complete()

    def unavailable(_: AuditEvent) -> None:
        raise AuditUnavailable("no room")

    with monkeypatch.context() as patched:
        patched.setattr(hook, "_record", unavailable)
        for _ in range(3):
            with pytest.raises(AuditUnavailable):
                site.round(hook)
    assert receiver.messages == []
    site.round(hook)
    assert len(receiver.messages) == 1


def test_a_clock_that_is_set_back_holds_nothing_up(site: Site, receiver: Receiver, clock: list[float]) -> None:
    hook = site.hook()
    site.store(uid())
    site.complete()
    receiver.answers = [500]
    clock[0] = 86_400
    site.round(hook)
    clock[0] = 0
    site.round(hook)
    assert [told.outcome for told in site.told] == ["failed", "delivered"]
