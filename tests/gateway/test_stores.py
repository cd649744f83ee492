"""The object store that settings describe."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway import assembly, config
from gateway.config import InvalidSettings, Settings
from gateway.stores import check_keys, key_of, object_store
from storage.objects.s3 import S3ObjectStore, S3Settings
from tests.storage.objects.conformance import KEY
from tests.storage.objects.test_s3 import raw_client

SECRET = b"never to be seen in any message!"  # 32 bytes


def written(folder: Path, text: str) -> Settings:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return config.load(path)


def s3_section(bucket: S3Settings, more: str) -> str:
    return f"""
[storage]
objects = "s3"
directory = "data"
[s3]
endpoint_url = "{bucket.endpoint_url}"
bucket = "{bucket.bucket}"
access_key_id = "{bucket.access_key_id}"
secret_access_key = "{bucket.secret_access_key}"
{more}
"""


def test_encryption_tags_and_timeouts_of_the_file_reach_the_bucket(
    tmp_path: Path, seaweedfs_bucket: S3Settings
) -> None:
    (tmp_path / "customer.key").write_text(base64.b64encode(SECRET).decode() + "\n")
    more = """
server_side_encryption = "sse-c"
customer_key_file = "customer.key"
tags = { tenant = "{tenant}" }
read_timeout_s = 7.5
cache_bytes = 0
max_connections = 5
"""
    store = object_store(written(tmp_path, s3_section(seaweedfs_bucket, more)))._store
    assert isinstance(store, S3ObjectStore)
    assert (store._settings.read_timeout_s, store._settings.max_connections) == (7.5, 5)
    store.put(KEY, [b"data"])
    where = {"Bucket": seaweedfs_bucket.bucket, "Key": KEY}
    client = raw_client(seaweedfs_bucket)
    assert client.get_object_tagging(**where)["TagSet"] == [{"Key": "tenant", "Value": "tenant"}]
    answer = client.get_object(**where, SSECustomerAlgorithm="AES256", SSECustomerKey=SECRET)
    assert answer["Body"].read() == b"data"
    store.close()


@pytest.mark.parametrize(
    "form", [SECRET, SECRET.hex().encode(), base64.b64encode(SECRET) + b"\n", b" " + SECRET.hex().upper().encode()]
)
def test_a_key_may_be_written_in_three_ways(form: bytes) -> None:
    assert key_of(form, "here") == SECRET


def test_a_key_that_is_none_is_named_by_its_place_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seaweedfs_bucket: S3Settings
) -> None:
    path = tmp_path / "customer.key"
    more = 'server_side_encryption = "sse-c"\ncustomer_key_file = "customer.key"'
    settings = written(tmp_path, s3_section(seaweedfs_bucket, more))
    with pytest.raises(InvalidSettings, match=r"s3\.customer_key_file: .*No such file"):
        assembly.check(settings)
    path.write_bytes(SECRET + b"!")
    with pytest.raises(InvalidSettings, match=r"s3\.customer_key_file: .*not a key of 32 bytes") as raised:
        check_keys(settings)
    assert SECRET.decode() not in str(raised.value)

    monkeypatch.setenv("GATEWAY_S3__CUSTOMER_KEY", SECRET.decode() + "?")
    settings = written(tmp_path, s3_section(seaweedfs_bucket, 'server_side_encryption = "sse-c"'))
    with pytest.raises(InvalidSettings, match=r"s3\.customer_key: not a key") as raised:
        check_keys(settings)
    assert SECRET.decode() not in str(raised.value)
    assert SECRET.decode() not in repr(settings)


def test_what_encryption_and_roles_need_is_asked_for(tmp_path: Path, seaweedfs_bucket: S3Settings) -> None:
    with pytest.raises(InvalidSettings, match=r"s3\.customer_key_file"):
        written(tmp_path, s3_section(seaweedfs_bucket, 'server_side_encryption = "sse-c"'))
    with pytest.raises(InvalidSettings, match=r"s3\.role_arn"):
        written(tmp_path, s3_section(seaweedfs_bucket, 'web_identity_token_file = "token"'))


class TestMasterKeys:
    @pytest.fixture
    def keys(self, tmp_path: Path) -> Path:
        keys = tmp_path / "keys"
        keys.mkdir()
        (keys / "2025.key").write_bytes(b"o" * 32)
        (keys / "2026.key").write_text(SECRET.hex())
        return keys

    def section(self, more: str) -> str:
        return f'[storage]\ndirectory = "data"\nfsync = false\n[encryption]\nkeys_directory = "keys"\n{more}\n'

    def test_objects_of_a_directory_are_encrypted_under_the_active_key(self, tmp_path: Path, keys: Path) -> None:
        settings = written(tmp_path, self.section('active_key = "2026"'))
        assert SECRET.hex() not in repr(settings)
        assembly.check(settings)
        store = object_store(settings)
        store.put(KEY, [b"DOE^JANE"])
        assert store.get(KEY) == b"DOE^JANE"
        kept = (settings.storage.directory / "archive" / "objects" / KEY).read_bytes()
        assert b"DOE^JANE" not in kept
        assert kept[8:12] == b"2026"
        store.close()

        # Switched off again: new objects are plain, the old ones stay readable.
        off = object_store(written(tmp_path, self.section("")))
        off.put("plain", [b"plain"])
        assert (off.get(KEY), off.get("plain")) == (b"DOE^JANE", b"plain")
        off.close()

    def test_a_missing_key_is_told_by_check_config(
        self, tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(InvalidSettings, match=r"encryption\.active_key: there is no master key '2027'.*2027\.key"):
            assembly.check(written(tmp_path, self.section('active_key = "2027"')))
        settings = written(tmp_path, self.section('active_key = "2027"\nkey_variables = { 2027 = "IMAGING_KEY" }'))
        with pytest.raises(InvalidSettings, match=r"key_variables\.2027: there is no environment variable IMAGING_KEY"):
            assembly.check(settings)
        monkeypatch.setenv("IMAGING_KEY", base64.b64encode(SECRET).decode())
        assembly.check(settings)
        (keys / "2027.key").write_bytes(b"x" * 32)
        with pytest.raises(InvalidSettings, match="another key of this id"):
            assembly.check(settings)
        (keys / "2027.key").write_bytes(b"x" * 31)
        with pytest.raises(InvalidSettings, match=r"2027\.key: not a key of 32 bytes"):
            assembly.check(settings)

    def test_plain_objects_can_only_be_refused_where_new_ones_are_encrypted(self, tmp_path: Path, keys: Path) -> None:
        with pytest.raises(InvalidSettings, match=r"encryption\.active_key"):
            written(tmp_path, self.section("mixed = false"))


def test_a_bucket_is_cached_below_the_encryption(tmp_path: Path, seaweedfs_bucket: S3Settings) -> None:
    (tmp_path / "1.key").write_bytes(SECRET + b"")
    more = 'cache_bytes = 20000000\n[encryption]\nkeys_directory = "."\nactive_key = "1"'
    text = s3_section(seaweedfs_bucket, more)
    store = object_store(written(tmp_path, text))
    store.put(KEY, [b"DOE^JANE"])
    assert store.get(KEY) == b"DOE^JANE"
    raw_client(seaweedfs_bucket).delete_object(Bucket=seaweedfs_bucket.bucket, Key=KEY)
    assert store.get(KEY) == b"DOE^JANE"
    store.close()  # what was read is in its file then
    (block,) = (tmp_path / "data" / "cache").glob("??/*-0")
    assert b"DOE^JANE" not in block.read_bytes()
    store = object_store(written(tmp_path, text))
    store.delete(KEY)
    assert not block.exists()
    store.close()
    with pytest.raises(InvalidSettings, match=r"s3\.cache_bytes: 0, or at least"):
        written(tmp_path, text.replace("20000000", "2000"))


def test_a_tenant_with_a_directory_of_its_own_has_its_objects_there(tmp_path: Path) -> None:
    store = object_store(written(tmp_path, '[storage]\ndirectory = "data"\n[tenants.blue]\narchive_directory = "blue"'))
    store.put("blue/1", [b"blue"])
    store.put("red/1", [b"red"])
    assert [info.key for info in store.list("")] == ["blue/1", "red/1"]
    assert (tmp_path / "blue" / "objects" / "blue" / "1").read_bytes() == b"blue"
    assert (tmp_path / "data" / "archive" / "objects" / "red" / "1").read_bytes() == b"red"
    store.close()


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ('bucket = "b"', 'tenants.blue.bucket: only with storage.objects = "s3"'),
        ('access_key_id = "a"', 'tenants.blue.access_key_id: only with storage.objects = "s3"'),
        ("quota_bytes = -1", "tenants.blue.quota_bytes: input should be greater than or equal to 0, got -1"),
        ('secret_access_key = ["shown?"]', "tenants.blue.secret_access_key: input should be a valid string"),
    ],
)
def test_a_fault_in_a_tenants_settings_is_told_without_its_secret(tmp_path: Path, section: str, fault: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        written(tmp_path, f"[tenants.blue]\n{section}")
    assert fault in str(caught.value)
    assert "shown?" not in str(caught.value)


def test_a_tenants_own_place_in_the_common_bucket_lies_beside_the_others(tmp_path: Path) -> None:
    s3 = '[storage]\nobjects = "s3"\n[s3]\nbucket = "b"\nprefix = "{}"\n[tenants.blue]\nprefix = "{}"'
    for common, own in (("", "blue"), ("all", "all/blue"), ("all/others", "all")):
        with pytest.raises(InvalidSettings, match=r"lies beside s3\.prefix"):
            written(tmp_path, s3.format(common, own))
    assert written(tmp_path, s3.format("all", "blue")).tenants["blue"].prefix == "blue"
