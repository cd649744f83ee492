"""``gateway transition`` and the duty that does the same by itself, over a bucket of a real store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly, background, cli, config
from storage.archive import Sender
from storage.dicom import identifiers as ids
from storage.dicom.matching import EVERYTHING
from storage.index.arrivals import Conflict
from storage.index.questions import Target
from storage.objects.s3 import S3Settings
from tests.instances import data_set, encode, extract, version_of
from tests.seaweedfs import new_bucket
from tests.storage.objects.test_s3 import raw_client

MAIN, OWN = ids.tenant("main"), ids.tenant("own")
SETTINGS = """
[storage]
directory = "data"
objects = "s3"
fsync = false
[s3]
endpoint_url = "{bucket.endpoint_url}"
bucket = "{bucket.bucket}"
access_key_id = "{bucket.access_key_id}"
secret_access_key = "{bucket.secret_access_key}"
[s3.tags]
tenant = "{{tenant}}"
[encryption]
active_key = "k"
keys_directory = "keys"
[tenants.own]
bucket = "{own.bucket}"
[[transition]]
name = "infrequent"
after_days = 90
storage_class = "STANDARD_IA"
modalities = ["CT", "US"]
[[transition]]
name = "cold"
after_days = 365
storage_class = "GLACIER_IR"
modalities = ["CT"]
"""


class Site:
    """A settings file with rules, a gateway's services on it and two buckets, and commands given beside them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], bucket: S3Settings, own: S3Settings) -> None:
        (folder / "keys").mkdir()
        (folder / "keys" / "k.key").write_bytes(b"k" * 32)
        self.file = folder / "gateway.toml"
        self.settings = SETTINGS.format(bucket=bucket, own=own)
        self.file.write_text(self.settings)
        self.core = assembly.build(config.load(self.file), "test", any_age=True)
        self._buckets = {MAIN: bucket, OWN: own}
        self._capsys = capsys

    def store(self, days_ago: float, tenant: ids.Tenant = MAIN, **values: Any) -> ids.StudyUid:
        body = encode(data_set(**values))
        found = extract(body)
        self.core.archive.store(tenant, version_of(days_ago), found, [body], Sender(), Conflict.VERSION)
        return found.study_uid

    def objects(self, tenant: ids.Tenant = MAIN) -> dict[str, str]:
        """The class of each study's objects, as the bucket lists them."""
        bucket = self._buckets[tenant]
        found = raw_client(bucket).list_objects_v2(Bucket=bucket.bucket, Prefix=f"{tenant}/").get("Contents", ())
        return {each["Key"].split("/")[1]: each["StorageClass"] for each in found}

    def metric(self, name: str, **labels: str) -> float | None:
        return self.core.metrics.registry.get_sample_value(f"gateway_transition_{name}_total", labels)

    def command(self, *arguments: str) -> tuple[int, str, str]:
        status = cli.main(["transition", *arguments, "-c", str(self.file)])
        said = self._capsys.readouterr()
        return status, said.out, said.err


@pytest.fixture
def site(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], seaweedfs_bucket: S3Settings, seaweedfs: str
) -> Iterator[Site]:
    found = Site(tmp_path, capsys, seaweedfs_bucket, new_bucket(seaweedfs))
    with closing(found.core):
        yield found


def test_it_shows_what_would_move_and_moves_it_when_told_to(site: Site) -> None:
    us, ct = site.store(100, Modality="US"), site.store(400, Modality="CT")
    young, report = site.store(10, Modality="CT"), site.store(900, Modality="SR")
    own = site.store(400, OWN, Modality="CT")
    objects = site.core.archive.objects
    (located,) = site.core.archive.index.locate(Target(MAIN, ct), EVERYTHING)
    before = objects.get(located.object_key)

    status, said, noted = site.command()
    assert status == 0
    assert [line.partition(" objects")[0] for line in said.splitlines()] == [
        "main, rule cold: 1 studies, 1", "main, rule infrequent: 1 studies, 1", "own, rule cold: 1 studies, 1",
    ]  # fmt: skip
    assert "1 old studies stay: no rule is about SR" in noted
    assert "nothing was changed" in noted
    assert {*site.objects().values(), *site.objects(OWN).values()} == {"STANDARD"}

    status, said, _ = site.command("--apply", "--json", "--list", "--tenant", "main")
    found = json.loads(said)
    assert (status, found["applied"], found["failed"], found["withoutRule"]) == (0, True, 0, {"SR": 1})
    assert [(each["rule"], each["storageClass"], each["studies"], each["objects"]) for each in found["rules"]] == [
        ("cold", "GLACIER_IR", 1, 1), ("infrequent", "STANDARD_IA", 1, 1),
    ]  # fmt: skip
    assert {each["study"] for each in found["studies"]} == {us, ct}
    assert site.objects() == {us: "STANDARD_IA", ct: "GLACIER_IR", young: "STANDARD", report: "STANDARD"}
    assert site.objects(OWN) == {own: "STANDARD"}

    # Read as before, from the cache and past it.
    assert objects.get(located.object_key) == before
    with closing(assembly.build(config.load(site.file), "other")) as elsewhere:
        (site.file.parent / "data" / "cache").rename(site.file.parent / "away")
        assert elsewhere.archive.objects.get(located.object_key) == before
    assert "own, rule cold: 1 studies" in site.command("--apply")[1]
    assert site.objects(OWN) == {own: "GLACIER_IR"}
    assert "nothing was moved" in site.command("--apply")[1]


def test_the_background_worker_moves_what_is_due_and_counts_it(site: Site) -> None:
    ct, own, young = (site.store(*given, Modality="CT") for given in ((100, MAIN), (400, OWN), (1, MAIN)))
    (duty,) = background._of_rules(site.core)
    duty.due_s = 0.0
    while duty.due_s < time.monotonic() + site.core.settings.lifecycle.pause_s + 1:
        duty.due_s = 0.0
        duty.run_if_due()
    assert (site.objects(), site.objects(OWN)) == ({ct: "STANDARD_IA", young: "STANDARD"}, {own: "GLACIER_IR"})
    assert site.metric("moved_studies", tenant="main", rule="infrequent") == 1
    sizes = sum(each.size for each in site.core.archive.index.everything_of(OWN, own))
    assert site.metric("moved_bytes", tenant="own", storage_class="GLACIER_IR") == sizes
    (trail,) = (site.file.parent / "data" / "audit").glob("*.jsonl")
    events = [json.loads(line) for line in trail.read_text().splitlines()]
    assert [(each["kind"], each["action"], each["subject"]) for each in events if each["outcome"] == "moved"] == [
        ("gateway", "transition", [ct]), ("gateway", "transition", [own]),
    ]  # fmt: skip

    site.core.archive.objects.delete(next(iter(site.core.archive.objects.list(f"main/{young}/"))).key)
    site.file.write_text(site.settings.replace("after_days = 90", "after_days = 1"))
    status, _, said = site.command("--apply")
    assert (status, "not in the bucket" in said) == (1, True)


def test_without_rules_or_where_nothing_may_be_written_it_refuses(site: Site) -> None:
    site.file.write_text(site.settings.replace("fsync = false", "read_only = true"))
    assert "storage.read_only" in site.command("--apply")[2]
    site.file.write_text("")
    status, _, said = site.command()
    assert (status, "there is no rule" in said) == (1, True)
