"""TLS of the HTTP face: what is spoken, who is asked for a certificate, new files, and faults in the files."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import assembly, certificates
from gateway.certificates import Certificates, TlsFiles
from gateway.commands import serve
from gateway.config import InvalidSettings, Settings, load
from gateway.config.access import AccessSettings
from gateway.config.serving import HttpSettings
from tests.gateway.http.conftest import Authority, serving


def with_tls(settings: Settings, files: tuple[Path, Path], **more: Any) -> Settings:
    given = {"tls_certificate_file": files[0], "tls_key_file": files[1], **more}
    return settings.model_copy(update={"http": HttpSettings(port=0, **given)})


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_1_2_and_1_3_are_spoken_with_forward_secrecy_and_nothing_older(
    settings: Settings, authority: Authority
) -> None:
    core = assembly.build(with_tls(settings, authority.issue("gateway")), "tls")
    async with serving(core) as served:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client = authority.client()
            client.minimum_version = client.maximum_version = version
            assert (await served.ask("/health/live", client))[0] == 200
        old = authority.client()
        old.set_ciphers("ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA")  # CBC: not authenticated as it should be
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served.ask("/health/live", old)
        old = authority.client()
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served.ask("/health/live", old)
    core.close()


@pytest.mark.parametrize("wanted", ["optional", "required"])
async def test_clients_show_certificates_of_the_configured_authority(
    settings: Settings, authority: Authority, tmp_path: Path, wanted: str
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other", "stranger").issue("stranger")
    core = assembly.build(
        with_tls(
            settings, authority.issue("gateway"), tls_client_certificates=wanted, tls_client_ca_file=authority.file
        ),
        "mutual",
    )
    async with serving(core) as served:
        assert (await served.ask("/health/live", authority.client(authority.issue("viewer"))))[0] == 200
        with pytest.raises((OSError, IndexError)):
            await served.ask("/health/live", authority.client(stranger))
        if wanted == "optional":
            assert (await served.ask("/health/live", authority.client()))[0] == 200
        else:
            with pytest.raises((OSError, IndexError)):
                await served.ask("/health/live", authority.client())
    core.close()


def _shown(context: ssl.SSLContext, authority: Authority) -> str:
    """The name in the certificate that a server's context shows, without a network between."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = authority.client().wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    found = client.getpeercert()
    assert found is not None
    return str(dict(pair for each in found["subject"] for pair in each)["commonName"])  # type: ignore[union-attr,misc]


def test_new_files_are_used_without_a_restart_and_faulty_ones_are_not(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(certificates, "_BETWEEN_LOOKS_S", 0.0)
    caplog.set_level("INFO")
    certificate, key = authority.issue("first")
    found = Certificates(TlsFiles(certificate, key), "http")
    first = found.context()
    assert found.context() is first
    assert _shown(first, authority) == "first"
    certificate_2, key_2 = authority.issue("second")
    certificate_2.replace(certificate)
    assert found.context() is first, "the certificate alone is new: key and certificate do not fit"
    assert "is not the key of" in caplog.text
    key_2.replace(key)
    assert _shown(found.context(), authority) == "second"
    assert "new TLS files are in use" in caplog.text
    certificate.write_text("half a file")
    assert _shown(found.context(), authority) == "second"
    certificate.unlink()
    assert _shown(found.context(), authority) == "second"


def broken(authority: Authority, folder: Path, what: str) -> tuple[dict[str, Any], str]:
    certificate, key = authority.issue("gateway")
    _, other_key = authority.issue("other")
    text = folder / "text"
    text.write_text("no PEM")
    files = {"tls_certificate_file": certificate, "tls_key_file": key}
    both = {"tls_client_certificates": "required"}
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "no certificate": ({"tls_certificate_file": folder / "none"}, "tls_certificate_file: .*none: No such file"),
        "no key": ({"tls_key_file": folder / "none"}, "tls_key_file: .*none: No such file"),
        "a directory": ({"tls_key_file": folder}, "tls_key_file: .*: Is a directory"),
        "text for a certificate": ({"tls_certificate_file": text}, "tls_certificate_file: .*: no certificates in PEM"),
        "text for a key": ({"tls_key_file": text}, "tls_key_file: .*: no private key in PEM"),
        "another's key": ({"tls_key_file": other_key}, "tls_key_file: .*is not the key of"),
        "swapped": ({"tls_certificate_file": key, "tls_key_file": certificate}, "tls_certificate_file: .*no cert"),
        "no authority": ({**both, "tls_client_ca_file": folder / "none"}, "tls_client_ca_file: .*No such file"),
        "text for an authority": ({**both, "tls_client_ca_file": text}, "tls_client_ca_file: .*no certificates in PEM"),
        "ended": (_files(authority.issue("e", ends=timedelta(hours=-1))), "tls_certificate_file: .*ended at 20"),
        "not yet": (_files(authority.issue("n", begins=timedelta(hours=1))), "tls_certificate_file: .*valid from 20"),
        "a password": (_files(authority.issue("p", password=b"secret")), "tls_key_file: .*has a password"),
    }
    given, message = cases[what]
    return files | given, message


def _files(files: tuple[Path, Path]) -> dict[str, Any]:
    return {"tls_certificate_file": files[0], "tls_key_file": files[1]}


@pytest.mark.parametrize(
    "what",
    [
        "no certificate",
        "no key",
        "a directory",
        "text for a certificate",
        "text for a key",
        "another's key",
        "swapped",
        "no authority",
        "text for an authority",
        "ended",
        "not yet",
        "a password",
    ],
)
def test_each_fault_in_the_files_is_told(settings: Settings, authority: Authority, tmp_path: Path, what: str) -> None:
    """By ``gateway check-config`` and at the start, which both check the settings so."""
    given, message = broken(authority, tmp_path, what)
    with pytest.raises(InvalidSettings, match=message):
        assembly.check(settings.model_copy(update={"http": HttpSettings(**given)}))


def test_files_may_be_relative_to_the_settings_and_belong_together(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.issue("gateway")
    shutil.copy(certificate, tmp_path / "c.pem")
    file = tmp_path / "gateway.toml"
    file.write_text(f'[http]\ntls_certificate_file = "c.pem"\ntls_key_file = "{key.name}"\n')
    assembly.check(load(file))
    for text, message in (
        ('tls_certificate_file = "c.pem"', "http: tls_certificate_file: to be given together with tls_key_file"),
        ('tls_client_certificates = "required"', "needs tls_certificate_file"),
        ('tls_client_ca_file = "c.pem"', "only there"),
    ):
        file.write_text(f"[http]\n{text}\n")
        with pytest.raises(InvalidSettings, match=message):
            load(file)


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({"host": "127.0.0.1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "tls_at_proxy": True}, False),
        ({"host": "0.0.0.0", "tls_certificate_file": Path("c"), "tls_key_file": Path("k")}, False),
    ],
)
def test_clear_text_beyond_this_machine_is_warned_of(tmp_path: Path, more: dict[str, Any], warned: bool) -> None:
    settings = Settings(http=HttpSettings(**more), access=AccessSettings(policy_file=tmp_path / "policy.toml"))
    assert any("in clear over 0.0.0.0" in each for each in serve.off(settings)) == warned


async def test_browsers_are_told_to_stay_with_https_only_where_they_came_by_it(
    settings: Settings, authority: Authority, aiohttp_client: Callable[..., Any]
) -> None:
    from gateway.http import application, health

    proxied = HttpSettings(port=0, public_url="https://imaging.example.org", trusted_proxies=("127.0.0.1/32",))
    for http, sent, expected in (
        (HttpSettings(port=0), {}, None),
        (HttpSettings(port=0), {"X-Forwarded-Proto": "https"}, None),
        (proxied, {}, None),
        (proxied, {"X-Forwarded-Proto": "http"}, None),
        (proxied, {"X-Forwarded-Proto": "https"}, "max-age=31536000"),
        (with_tls(settings, authority.issue("gateway")).http, {}, "max-age=31536000"),
        (with_tls(settings, authority.issue("gateway"), hsts_max_age_s=0).http, {}, None),
    ):
        core = assembly.build(settings.model_copy(update={"http": http}), "hsts")
        client = await aiohttp_client(application.build(core, health.routes()))
        async with client.get("/health/live", headers=sent) as response:
            assert response.headers.get("Strict-Transport-Security") == expected
        core.close()
