"""How the S3 store reaches its bucket: encryption at the server, certificates, host names, roles, tags."""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from botocore.loaders import JSONFileLoader
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from storage.errors import StorageUnavailable
from storage.objects.base import ByteRange
from storage.objects.s3 import S3ObjectStore, S3Settings
from storage.objects.s3_clients import ServerSideEncryption, _descriptions
from tests.faulty_proxy import FaultyProxy, Passed
from tests.seaweedfs import DOMAIN, KMS_KEY_ID, ROLE_ARN
from tests.storage.objects.conformance import KEY
from tests.storage.objects.test_s3 import Request, ToldServer, raw_client, raw_keys, server

__all__ = ["server"]

SMALL = bytes(range(256)) * 40
LARGE = bytes(range(253)) * 50_000
PARTS = {"multipart_threshold_bytes": 6 << 20, "part_bytes": 5 << 20}

NewProxy = Callable[..., FaultyProxy]


def test_what_botocore_reads_of_the_services_it_reads_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = S3Settings(bucket="any", endpoint_url="http://127.0.0.1:1", access_key_id="a", secret_access_key="b")
    S3ObjectStore(settings).close()
    places, read = list(_descriptions(None).search_paths), []
    load = JSONFileLoader.load_file
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda self, path: read.append(path) or load(self, path))
    S3ObjectStore(settings).close()
    assert read == []
    assert _descriptions(None).search_paths == places


@pytest.fixture
def new_proxy(seaweedfs: str) -> Iterator[NewProxy]:
    made: list[FaultyProxy] = []

    def new(**arguments: Any) -> FaultyProxy:
        made.append(FaultyProxy(seaweedfs, **arguments))
        return made[-1]

    yield new
    for proxy in made:
        proxy.stop()


def through(proxy: FaultyProxy, settings: S3Settings, **changes: Any) -> S3ObjectStore:
    return S3ObjectStore(dataclasses.replace(settings, endpoint_url=proxy.url, **changes))


def puts_and_gets(store: S3ObjectStore) -> None:
    """A small and a large object go in and come out, whole and in ranges."""
    for name, data in (("small", SMALL), ("large", LARGE)):
        key = f"tenant/study/{name}"
        store.put(key, [data])
        assert store.get(key) == data
        assert store.get(key, ByteRange(1001, len(data) - 7)) == data[1001:-7]
        with store.open(key, ByteRange(10, 5000)) as reader:
            assert b"".join(reader.blocks()) == data[10:5000]
        assert store.read_at(key, len(data) - 5, 100).data == data[-5:]
        assert store.head(key).size == len(data)
    assert [info.key for info in store.list("tenant/")] == ["tenant/study/large", "tenant/study/small"]


def begun(requests: list[Passed]) -> list[Passed]:
    """The requests that make an object."""
    return [each for each in requests if (each.method == "PUT" and "?" not in each.target) or "uploads" in each.target]


class TestServerSideEncryption:
    def test_with_the_keys_of_the_server(self, seaweedfs_bucket: S3Settings) -> None:
        store = S3ObjectStore(
            dataclasses.replace(seaweedfs_bucket, server_side_encryption=ServerSideEncryption.S3, **PARTS)
        )
        puts_and_gets(store)
        for name in ("small", "large"):
            head = raw_client(seaweedfs_bucket).head_object(Bucket=seaweedfs_bucket.bucket, Key=f"tenant/study/{name}")
            assert head["ServerSideEncryption"] == "AES256"
        store.close()

    def test_with_a_key_of_ours(self, seaweedfs_bucket: S3Settings) -> None:
        settings = dataclasses.replace(
            seaweedfs_bucket,
            server_side_encryption=ServerSideEncryption.CUSTOMER,
            customer_key=b"0123456789abcdef" * 2,
            **PARTS,
        )
        assert "0123456789abcdef" not in repr(settings)
        store = S3ObjectStore(settings)
        puts_and_gets(store)
        store.close()

        # Neither without the key nor with another one, and not as if it were not there.
        for customer_key in (None, b"another_key_____" * 2):
            kind = ServerSideEncryption.CUSTOMER if customer_key else ServerSideEncryption.NONE
            other = S3ObjectStore(dataclasses.replace(settings, server_side_encryption=kind, customer_key=customer_key))
            for name in ("small", "large"):
                with pytest.raises(StorageUnavailable):
                    other.get(f"tenant/study/{name}", ByteRange(0, 10))
            other.close()

    def test_with_a_key_of_a_key_management_service(self, seaweedfs_bucket: S3Settings) -> None:
        settings = dataclasses.replace(
            seaweedfs_bucket, server_side_encryption=ServerSideEncryption.KMS, kms_key_id=KMS_KEY_ID, **PARTS
        )
        store = S3ObjectStore(settings)
        puts_and_gets(store)
        for name in ("small", "large"):
            head = raw_client(seaweedfs_bucket).head_object(Bucket=seaweedfs_bucket.bucket, Key=f"tenant/study/{name}")
            assert head["ServerSideEncryption"] == "aws:kms"
            assert head["SSEKMSKeyId"]
        store.close()

        # A key that the service does not have keeps everything out.
        other = S3ObjectStore(dataclasses.replace(settings, kms_key_id="alias/none", max_attempts=1))
        for data in (SMALL, LARGE):
            with pytest.raises(StorageUnavailable):
                other.put(KEY, [data])
        other.close()
        assert raw_keys(seaweedfs_bucket) == ["tenant/study/large", "tenant/study/small"]
        assert "Uploads" not in raw_client(seaweedfs_bucket).list_multipart_uploads(Bucket=seaweedfs_bucket.bucket)

    def test_with_a_key_of_a_key_management_service_each_object_asks_for_the_key_and_brings_a_digest(
        self, server: ToldServer, seaweedfs_bucket: S3Settings
    ) -> None:
        seen: list[dict[str, str]] = []

        def answer(request: Request) -> None:
            seen.append({name.lower(): value for name, value in request.headers.items()})
            if request.path.endswith("?uploads"):
                request.tell(500)
            else:
                request.tell(200, length=len(SMALL), ETag='"not-a-digest"')

        server.answers = [answer]
        store = S3ObjectStore(
            dataclasses.replace(
                seaweedfs_bucket,
                endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
                server_side_encryption=ServerSideEncryption.KMS,
                kms_key_id="alias/imaging",
                max_attempts=1,
                **PARTS,
            )
        )
        store.put(KEY, [SMALL])
        with pytest.raises(StorageUnavailable):
            store.put(KEY, [LARGE])
        put, _, upload = seen[:3]
        for headers in (put, upload):
            assert headers["x-amz-server-side-encryption"] == "aws:kms"
            assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/imaging"
        # The ETag of such an object is no digest: the server checks one of ours.
        assert put["x-amz-checksum-sha256"]
        store.close()


def test_tags_and_the_storage_class_go_onto_every_object(seaweedfs_bucket: S3Settings) -> None:
    store = S3ObjectStore(
        dataclasses.replace(
            seaweedfs_bucket,
            tags=(("tenant", "{tenant}"), ("system", "imaging gateway")),
            storage_class="STANDARD_IA",
            **PARTS,
        )
    )
    puts_and_gets(store)
    client = raw_client(seaweedfs_bucket)
    for name in ("small", "large"):
        where = {"Bucket": seaweedfs_bucket.bucket, "Key": f"tenant/study/{name}"}
        tags = {each["Key"]: each["Value"] for each in client.get_object_tagging(**where)["TagSet"]}
        assert tags == {"tenant": "tenant", "system": "imaging gateway"}
        assert client.head_object(**where)["StorageClass"] == "STANDARD_IA"
    store.close()


def authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate authority's file, and a server's context with a certificate of it for 127.0.0.1."""
    now = datetime.now(UTC)

    def certificate(name: str, key: Any, issuer: str, issuer_key: Any, *extensions: x509.ExtensionType) -> Any:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in (name, issuer)]
        builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        return builder.sign(issuer_key, hashes.SHA256())

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    is_authority = x509.BasicConstraints(ca=True, path_length=None)
    root = certificate("Hospital CA", authority_key, "Hospital CA", authority_key, is_authority)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate("127.0.0.1", key, "Hospital CA", authority_key, address)
    bundle, chain = folder / "ca.pem", folder / "server.pem"
    bundle.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return bundle, context


def test_a_certificate_of_the_hospitals_own_authority_is_trusted_when_named(
    new_proxy: NewProxy, seaweedfs_bucket: S3Settings, tmp_path: Path
) -> None:
    bundle, context = authority(tmp_path)
    proxy = new_proxy(tls=context)
    store = through(proxy, seaweedfs_bucket, ca_bundle=bundle, **PARTS)
    puts_and_gets(store)
    # Over TLS no body is hashed a second time for the signature.
    bodies = [each for each in proxy.passed if each.method == "PUT"]
    assert {each.headers["x-amz-content-sha256"] for each in bodies} == {"UNSIGNED-PAYLOAD"}
    store.close()

    stranger = through(proxy, seaweedfs_bucket, max_attempts=1, retry_timeout_s=1)
    for call in (lambda: stranger.get(KEY), lambda: list(stranger.list(""))):
        with pytest.raises(StorageUnavailable):
            call()
    stranger.close()


def test_the_bucket_may_stand_in_the_host_name(
    new_proxy: NewProxy, seaweedfs_bucket: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = new_proxy()
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    store = S3ObjectStore(
        dataclasses.replace(seaweedfs_bucket, endpoint_url=f"http://{DOMAIN}", path_style=False, **PARTS)
    )
    puts_and_gets(store)
    assert {each.headers["host"] for each in proxy.passed} == {f"{seaweedfs_bucket.bucket}.{DOMAIN}"}
    store.close()


class TestRoles:
    def test_a_role_is_assumed_with_the_keys(self, new_proxy: NewProxy, seaweedfs_bucket: S3Settings) -> None:
        proxy = new_proxy()
        store = through(proxy, seaweedfs_bucket, role_arn=ROLE_ARN, sts_endpoint_url=proxy.url, **PARTS)
        puts_and_gets(store)
        assumed, *others = proxy.passed
        assert parse_qs(assumed.body.decode())["Action"] == ["AssumeRole"]
        assert all("x-amz-security-token" in each.headers for each in others)
        store.close()

    def test_a_role_is_assumed_with_a_web_identity(
        self,
        server: ToldServer,
        new_proxy: NewProxy,
        seaweedfs_bucket: S3Settings,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The answer of a small token service, with keys of a session that SeaweedFS gave out."""
        token = tmp_path / "token"
        token.write_text("the token of the pod")
        sts = boto3.client(
            "sts",
            endpoint_url=seaweedfs_bucket.endpoint_url,
            aws_access_key_id=seaweedfs_bucket.access_key_id,
            aws_secret_access_key=seaweedfs_bucket.secret_access_key,
            region_name="us-east-1",
        )
        keys = sts.assume_role(RoleArn=ROLE_ARN, RoleSessionName="web-identity")["Credentials"]
        asked: list[dict[str, list[str]]] = []

        def answer(request: Request) -> None:
            asked.append(parse_qs(request.body.decode()))
            until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            fields = "".join(f"<{name}>{keys[name]}</{name}>" for name in keys if name != "Expiration")
            request.tell(
                200,
                '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
                f"<AssumeRoleWithWebIdentityResult><Credentials>{fields}<Expiration>{until}</Expiration></Credentials>"
                "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>".encode(),
                Content_Type="text/xml",
            )

        server.answers = [answer]
        address = f"http://127.0.0.1:{server.server_address[1]}"
        without = dataclasses.replace(seaweedfs_bucket, access_key_id=None, secret_access_key=None, **PARTS)
        by_settings = dataclasses.replace(
            without, role_arn=ROLE_ARN, web_identity_token_file=token, sts_endpoint_url=address
        )
        store = S3ObjectStore(by_settings)
        puts_and_gets(store)
        store.close()

        # And as Kubernetes gives it to a pod: by the environment alone.
        for name in [each for each in os.environ if each.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_ROLE_ARN", ROLE_ARN)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        store = S3ObjectStore(without)
        assert store.get("tenant/study/small") == SMALL
        store.close()

        assert len(asked) == 2
        for form in asked:
            assert form["WebIdentityToken"] == ["the token of the pod"]
            assert form["RoleArn"] == [ROLE_ARN]

    def test_a_role_that_is_refused_is_unavailable(self, server: ToldServer, seaweedfs_bucket: S3Settings) -> None:
        body = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
        server.answers = [lambda request: request.tell(403, body, Content_Type="text/xml")]
        address = f"http://127.0.0.1:{server.server_address[1]}"
        store = S3ObjectStore(dataclasses.replace(seaweedfs_bucket, role_arn=ROLE_ARN, sts_endpoint_url=address))
        for call in (lambda: store.get(KEY), lambda: store.put(KEY, [b"x"]), lambda: list(store.list(""))):
            with pytest.raises(StorageUnavailable):
                call()
        store.close()


def test_no_credentials_at_all_is_said_at_the_start(
    seaweedfs_bucket: S3Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StorageUnavailable, match="no credentials"):
        S3ObjectStore(dataclasses.replace(seaweedfs_bucket, access_key_id=None, secret_access_key=None))


def test_a_customer_key_of_another_length_is_refused(seaweedfs_bucket: S3Settings) -> None:
    short = base64.b64decode("c2hvcnQ=")
    with pytest.raises(ValueError, match="32 bytes"):
        S3ObjectStore(
            dataclasses.replace(
                seaweedfs_bucket, server_side_encryption=ServerSideEncryption.CUSTOMER, customer_key=short
            )
        )
