"""A1: tokens that are forged, altered, too old, for somebody else, or made to hurt; and providers that fail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwe
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from gateway.access import providers
from gateway.access.tokens import MAX_TOKEN_BYTES, Tokens
from gateway.errors import IdentityUnavailable, Unauthenticated
from tests import issuer as issuers
from tests.issuer import AUDIENCE, DISCOVERY, INTROSPECT, KEYS, Issuer, Listener, rsa_key, sign

DAY_S = 86_400


@pytest.fixture
def tokens(issuer: Issuer) -> Iterator[Tokens]:
    """What accepts the provider's tokens, and has its keys already."""
    found = Tokens([issuer.settings()])
    assert found.principal(issuer.token())[0].name == "ann"
    yield found
    found.close()


@pytest.fixture
def accepting() -> Iterator[Callable[..., Tokens]]:
    """Makes what accepts tokens, by settings."""
    made: list[Tokens] = []

    def make(*settings: Any) -> Tokens:
        made.append(Tokens(settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: str, payload: bytes, key: RSAKey) -> str:
    """An RS256 token of any bytes, which no library would make."""
    said = f"{encoded(header.encode())}.{encoded(payload)}"
    signature = key.private_key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{said}.{encoded(signature)}"


def by_secret(issuer: Issuer, secret: bytes, algorithm: str = "HS256") -> str:
    header = encoded(json.dumps({"alg": algorithm, "typ": "JWT", "kid": issuer.key.kid}).encode())
    said = f"{header}.{encoded(json.dumps(issuer.claims()).encode())}"
    return f"{said}.{encoded(hmac.digest(secret, said.encode(), hashlib.sha256))}"


def refused(tokens: Tokens, token: str) -> str:
    """Why a token is refused."""
    with pytest.raises(Unauthenticated) as caught:
        tokens.principal(token)
    text = f"{caught.value} {caught.value!r}"
    assert "\n" not in text
    assert token not in text
    return str(caught.value)


# Algorithms and keys


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, ["RS256"], {"RS256": 1}, True])
@pytest.mark.parametrize("signed", [True, False])
def test_a1_a_token_without_a_signature_is_nobodys(
    tokens: Tokens, issuer: Issuer, algorithm: object, signed: bool
) -> None:
    header = encoded(json.dumps({"alg": algorithm, "typ": "JWT", "kid": "one"}).encode())
    said = f"{header}.{encoded(json.dumps(issuer.claims()).encode())}"
    signature = issuer.token().rpartition(".")[2] if signed else ""
    assert "algorithm" in refused(tokens, f"{said}.{signature}")


@pytest.mark.parametrize("encoding", ["PEM", "DER"])
@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_a1_the_public_key_is_no_secret(tokens: Tokens, issuer: Issuer, encoding: str, algorithm: str) -> None:
    public = issuer.key.public_key
    kinds = (serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1)
    for secret in (public.public_bytes(getattr(serialization.Encoding, encoding), kind) for kind in kinds):
        for each in (secret, secret.strip()):
            refused(tokens, by_secret(issuer, each, algorithm))
    refused(tokens, by_secret(issuer, json.dumps(issuer.key.as_dict(private=False)).encode(), algorithm))


def test_a1_only_algorithms_of_the_settings_and_of_the_key_count(
    tokens: Tokens, issuer: Issuer, accepting: Callable[..., Tokens]
) -> None:
    assert "algorithm" in refused(tokens, issuer.token({"alg": "RS512"}))
    assert accepting(issuer.settings(algorithms=["RS512"])).principal(issuer.token({"alg": "RS512"}))
    tokens.principal(issuer.token({"alg": "PS256"}))
    issuer.publish({**issuer.key.as_dict(private=False), "alg": "RS256"})
    fresh = accepting(issuer.settings())
    fresh.principal(issuer.token())
    refused(fresh, issuer.token({"alg": "PS256"}))
    refused(fresh, sign({"alg": "ES256", "kid": "one"}, b"{}", ECKey.generate_key("P-256")))


@pytest.mark.parametrize(
    "made", [ECKey.generate_key("P-256", {"kid": "e"}), OKPKey.generate_key("Ed25519", {"kid": "o"})]
)
def test_keys_of_curves_are_good_and_of_one_algorithm(
    issuer: Issuer, accepting: Callable[..., Tokens], made: ECKey | OKPKey
) -> None:
    issuer.publish(made, issuer.key)
    tokens = accepting(issuer.settings())
    algorithm = "ES256" if isinstance(made, ECKey) else "EdDSA"
    assert tokens.principal(issuer.token({"alg": algorithm}, made))[0].name == "ann"
    if isinstance(made, OKPKey):
        assert tokens.principal(issuer.token({"alg": "Ed25519"}, made))
    altered = issuer.token({"alg": algorithm}, made).split(".")
    refused(tokens, ".".join((altered[0], altered[1], encoded(bytes(64)))))
    refused(tokens, issuer.token({"kid": made.kid}))


def _with_certificate(key: RSAKey) -> str:
    """A certificate that an attacker made for its own key, as x5c has it."""
    import datetime

    from cryptography import x509
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attacker")])
    now = datetime.datetime.now(datetime.UTC)
    private = key.private_key
    assert private is not None
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    return base64.b64encode(builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()


@pytest.mark.parametrize("key_id", ["one", None, "attacker's"])
def test_a1_what_a_token_says_of_its_keys_is_of_no_account(
    tokens: Tokens, issuer: Issuer, listener: Listener, other_key: RSAKey, key_id: str | None
) -> None:
    listener.answers["/jwks"] = {"keys": [other_key.as_dict(private=False)]}
    headers: list[dict[str, Any]] = [
        {"jwk": other_key.as_dict(private=False)},
        {"jku": f"{listener.url}/jwks"},
        {"x5u": f"{listener.url}/cert"},
        {"x5c": [_with_certificate(other_key)]},
        {"jku": f"{issuer.url}{KEYS}@{listener.url}/jwks"},
        {"jku": f"{listener.url}/jwks", "jwk": other_key.as_dict(private=False), "x5u": listener.url},
    ]
    for header in headers:
        refused(tokens, issuer.token({"kid": key_id, **header}, other_key))
    assert listener.asked.total() == 0
    assert tokens.principal(issuer.token({"x5c": [_with_certificate(other_key)], "jku": listener.url}))
    assert listener.asked.total() == 0


def test_a1_an_issuer_or_key_id_that_is_an_address_is_not_asked(
    tokens: Tokens, issuer: Issuer, listener: Listener, other_key: RSAKey
) -> None:
    listener.answers[DISCOVERY] = {"issuer": listener.url, "jwks_uri": f"{listener.url}/jwks"}
    listener.answers["/jwks"] = {"keys": [other_key.as_dict(private=False)]}
    for issued_by in (listener.url, f"{issuer.url}@{listener.url[7:]}", f"{issuer.url}/../{listener.url}"):
        refused(tokens, issuer.token(key=other_key, iss=issued_by))
    refused(tokens, issuer.token({"kid": f"{listener.url}/jwks"}, other_key))
    assert listener.asked.total() == 0


@pytest.mark.parametrize(
    "key_id",
    ["../../dev/null", "one' OR '1'='1", "one\x00", "ONE", "", "k" * 4000, ["one"], {"one": 1}, 1, True],
    ids=str,
)
def test_a1_a_key_id_names_a_key_or_nothing(tokens: Tokens, issuer: Issuer, key_id: object) -> None:
    header = json.dumps({"alg": "RS256", "typ": "JWT", "kid": key_id})
    refused(tokens, raw(header, json.dumps(issuer.claims()).encode(), issuer.key))
    assert tokens.principal(issuer.token())


def test_a_token_without_a_key_id_is_tried_with_every_key(tokens: Tokens, issuer: Issuer, other_key: RSAKey) -> None:
    assert tokens.principal(issuer.token({"kid": None}))
    refused(tokens, issuer.token({"kid": None}, other_key))


# Claims


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another"},
        {"aud": ["another", "other"]},
        {"aud": []},
        {"aud": None},
        {"aud": {AUDIENCE: 1}},
        {"aud": [[AUDIENCE]]},
        {"aud": AUDIENCE.upper()},
        {"aud": f"{AUDIENCE} "},
        {"iss": None},
        {"iss": ["x"]},
        {"iss": "https://other.example.org"},
        {"exp": None},
        {"exp": str(int(time.time()) + 7200)},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": [9]},
        {"exp": 0},
        {"exp": -1},
        {"exp": time.time() - 61},
        {"exp": time.time() + 2 * DAY_S},
        {"exp": 10**14},
        {"exp": 10**400},
        {"nbf": time.time() + 7200},
        {"nbf": "soon"},
        {"nbf": True},
        {"iat": time.time() + 7200},
        {"iat": float("-inf")},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids="-".join,
)
def test_a1_a_token_for_another_time_or_place_is_refused(
    tokens: Tokens, issuer: Issuer, claims: dict[str, object]
) -> None:
    refused(tokens, issuer.token(**claims))


@pytest.mark.parametrize("end", ["1e400", "-1e400", "NaN", "Infinity", '"1e9"', "9" * 5000])
def test_a1_an_end_is_a_number(tokens: Tokens, issuer: Issuer, end: str) -> None:
    payload = json.dumps(issuer.claims(exp=0)).replace('"exp": 0', f'"exp": {end}')
    refused(tokens, raw('{"alg":"RS256","kid":"one"}', payload.encode(), issuer.key))


def test_clocks_may_differ_a_little(tokens: Tokens, issuer: Issuer) -> None:
    now_s = time.time()
    for claims in ({"exp": now_s - 30}, {"nbf": now_s + 30}, {"iat": now_s + 30}, {"aud": ["x", AUDIENCE]}):
        assert tokens.principal(issuer.token(**claims))


def test_what_is_remembered_of_a_token_ends_with_it(tokens: Tokens, issuer: Issuer) -> None:
    ends_s = int(time.time()) + 7
    assert tokens.principal(issuer.token(exp=ends_s))[1] == ends_s


@pytest.mark.parametrize("kind", ["id+jwt", "dpop+jwt", "logout+jwt", "JOSE", "", 1, ["at+jwt"], None])
def test_a1_a_token_of_another_type_is_refused(tokens: Tokens, issuer: Issuer, kind: object) -> None:
    header = json.dumps({"alg": "RS256", "kid": "one", "typ": kind})
    refused(tokens, raw(header, json.dumps(issuer.claims()).encode(), issuer.key))


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_types_of_access_tokens_are_taken(tokens: Tokens, issuer: Issuer, kind: str) -> None:
    assert tokens.principal(issuer.token({"typ": kind}))


# Forms


@pytest.mark.parametrize(
    "header",
    [
        '{"alg":"RS256","kid":"one","crit":["exp"],"exp":1}',
        '{"alg":"RS256","kid":"one","crit":[]}',
        '{"alg":"RS256","kid":"one","b64":false}',
        '{"alg":"RS256","kid":"one","b64":false,"crit":["b64"]}',
        '{"alg":"none","alg":"RS256","kid":"one"}',
        '{"alg":"RS256","kid":"two","kid":"one"}',
        '["RS256"]',
        '"RS256"',
        "{",
        "",
        "[" * 6000,
        '{"a":' * 2000,
    ],
    ids=lambda text: text[:40],
)
def test_a1_a_header_that_two_readers_would_read_differently_is_refused(
    tokens: Tokens, issuer: Issuer, header: str
) -> None:
    refused(tokens, raw(header, json.dumps(issuer.claims()).encode(), issuer.key))


@pytest.mark.parametrize("name", ["iss", "aud", "exp", "sub", "roles"])
def test_a1_a_claim_that_stands_twice_is_refused(tokens: Tokens, issuer: Issuer, name: str) -> None:
    claims = issuer.claims()
    payload = json.dumps(claims)[:-1] + f", {json.dumps(name)}: {json.dumps(claims[name])}}}"
    assert "read" in refused(tokens, raw('{"alg":"RS256","kid":"one"}', payload.encode(), issuer.key))


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"null", b"\xff\xfe", b"[" * 7000, b'{"a":' * 2000])
def test_a1_a_payload_that_is_no_object_is_refused(tokens: Tokens, issuer: Issuer, payload: bytes) -> None:
    refused(tokens, raw('{"alg":"RS256","kid":"one"}', payload, issuer.key))


def test_a1_a_signature_is_of_every_byte(tokens: Tokens, issuer: Issuer) -> None:
    token = issuer.token()
    header, payload, signature = token.split(".")
    for cut in (1, 4, 100, len(signature)):
        refused(tokens, token[:-cut])
    middle = len(signature) // 2
    flipped = "A" if signature[middle] != "A" else "B"
    refused(tokens, f"{header}.{payload}.{signature[:middle]}{flipped}{signature[middle + 1 :]}")
    for claims in ({"roles": ["administrator"]}, {"sub": "root"}, {"exp": int(time.time()) + 900}):
        altered = encoded(json.dumps(issuer.claims(**claims)).encode())
        assert "signature" in refused(tokens, f"{header}.{altered}.{signature}")
    altered = encoded(json.dumps({"alg": "RS256", "kid": "one", "typ": "JWT"}).encode())
    refused(tokens, f"{altered}.{payload}.{signature}")
    refused(tokens, f"{header}=.{payload}=.{signature}=")
    refused(tokens, f"{header} .{payload}.{signature}")
    refused(tokens, f"{header}.{payload}.{signature}.")
    refused(tokens, f"{header}.{payload}\n.{signature}")


@pytest.mark.parametrize("token", ["", ".", "..", "...", "....", "a.b.c", "ä.ö.ü", "\x00.\x00.\x00", "e30.e30.e30"])
def test_a1_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    with pytest.raises(Unauthenticated):
        tokens.principal(token)


def test_a1_a_long_token_is_not_looked_at(tokens: Tokens, issuer: Issuer) -> None:
    token = issuer.token(more="x" * 100_000)
    assert len(token) > 100_000
    assert "long" in refused(tokens, token)
    assert "long" in refused(tokens, "x" * 100_000)
    padded = issuer.token(more="x" * 10_000)
    assert len(padded) < MAX_TOKEN_BYTES
    assert tokens.principal(padded)


def test_a1_a_token_in_a_token_or_in_a_cipher_is_refused(tokens: Tokens, issuer: Issuer) -> None:
    inner = issuer.token()
    assert "read" in refused(tokens, issuer.signed(inner.encode(), {"cty": "JWT"}))
    public = RSAKey.import_key(issuer.key.as_dict(private=False))
    ciphered = jwe.encrypt_compact({"alg": "RSA-OAEP", "enc": "A128GCM", "cty": "JWT"}, inner, public)
    assert ciphered.count(".") == 4
    refused(tokens, ciphered)
    refused(tokens, json.dumps({"payload": inner.split(".")[1], "signatures": []}))


# Several issuers


def test_a1_the_key_of_one_issuer_is_no_good_for_another(
    issuer: Issuer, other_key: RSAKey, accepting: Callable[..., Tokens]
) -> None:
    with issuers.issuer(other_key) as other:
        tokens = accepting(issuer.settings(), other.settings(tenant="second", name_claim="email"))
        assert tokens.principal(issuer.token())[0].tenant == "main"
        found, _ = tokens.principal(other.token(email="bob@example.org"))
        assert (found.name, found.tenant) == ("bob@example.org", "second")
        refused(tokens, issuer.token(iss=other.url, email="bob"))
        refused(tokens, other.token(iss=issuer.url))
        refused(tokens, other.token({"kid": None}, iss=issuer.url))
        assert other.asked.total() == issuer.asked.total() == 2


# Providers that fail, rotate, and are flooded


def test_a1_a_key_that_was_rotated_out_is_no_good_and_a_new_one_is(
    issuer: Issuer, accepting: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = accepting(issuer.settings(refresh_s=1))
    old = issuer.token()
    assert tokens.principal(old)
    new_key = rsa_key("two")
    issuer.publish(new_key)
    passed(monkeypatch, 2)
    assert tokens.principal(issuer.token(key=new_key))
    refused(tokens, old)


def test_a1_a_key_that_was_rotated_out_ends_also_when_nobody_shows_another(
    tokens: Tokens, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.publish(rsa_key("two"))
    token = issuer.token()
    assert tokens.principal(token), "for a while"
    passed(monkeypatch, 901)
    refused(tokens, token)


def passed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let time pass for what counts when keys were fetched."""

    class Later:
        monotonic = staticmethod(lambda: time.monotonic() + seconds)

    monkeypatch.setattr(providers, "time", Later)


def test_a1_without_keys_from_the_start_nobody_is_let_in(
    issuer: Issuer, accepting: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.is_down = True
    tokens = accepting(issuer.settings(refresh_s=5))
    for token in (issuer.token(), issuer.token(key=rsa_key("two")), issuer.token({"kid": None})):
        with pytest.raises(IdentityUnavailable):
            tokens.principal(token)
    assert issuer.asked.total() == 1, "not for each token"
    assert "cannot be fetched" in caplog.text
    issuer.is_down = False
    passed(monkeypatch, 6)
    assert tokens.principal(issuer.token())


def test_a1_a_provider_that_is_not_there_is_the_same(issuer: Issuer, accepting: Callable[..., Tokens]) -> None:
    tokens = accepting(issuer.settings())
    token = issuer.token()
    issuer.close()
    with pytest.raises(IdentityUnavailable):
        tokens.principal(token)


def test_a1_without_keys_later_the_known_ones_stay_good_for_a_bounded_time(
    issuer: Issuer, accepting: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = accepting(issuer.settings(stale_s=100))
    assert tokens.principal(issuer.token())
    issuer.is_down = True
    for seconds in (899, 950, 999):
        passed(monkeypatch, seconds)
        assert tokens.principal(issuer.token())
        refused(tokens, issuer.token({"kid": "two"}))
    passed(monkeypatch, 1020)
    with pytest.raises(IdentityUnavailable):
        tokens.principal(issuer.token())
    with pytest.raises(IdentityUnavailable):
        tokens.principal(issuer.token({"kid": "two"}))


def test_a1_a_flood_of_key_ids_has_the_keys_fetched_once(
    issuer: Issuer, accepting: Callable[..., Tokens], other_key: RSAKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = accepting(issuer.settings(refresh_s=60))
    token = issuer.token(key=other_key).split(".")

    def flood() -> None:
        for number in range(50):
            header = encoded(json.dumps({"alg": "RS256", "kid": f"{threading.get_ident()}{number}"}).encode())
            refused(tokens, f"{header}.{token[1]}.{token[2]}")

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert issuer.asked[KEYS] == 1
    passed(monkeypatch, 61)
    flood()
    assert issuer.asked[KEYS] == 2
    assert issuer.asked[DISCOVERY] == 1


def test_a1_a_slow_provider_takes_no_time_from_tokens_with_known_keys(
    issuer: Issuer, accepting: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.access.outgoing._TIMEOUT_S", 60.0)
    tokens = accepting(issuer.settings(refresh_s=1))
    good = issuer.token()
    tokens.principal(good)
    answering, given = threading.Event(), issuer.answers[KEYS]

    def late(handler: Any) -> None:
        answering.wait(60)
        issuer.answers[KEYS] = given
        handler.do_GET()

    issuer.answers[KEYS] = late
    monkeypatch.setattr(providers, "_PATIENCE_S", 0.05)
    passed(monkeypatch, 2)
    asking = threading.Thread(target=lambda: refused(tokens, issuer.token({"kid": "new"})))
    asking.start()
    while issuer.asked[KEYS] < 2:
        time.sleep(0.005)
    assert tokens.principal(good)
    with pytest.raises(IdentityUnavailable):
        tokens.principal(issuer.token({"kid": "newer"}))
    assert asking.is_alive(), "the provider has not answered yet"
    answering.set()
    asking.join()


# Key sets and discovery that are no good


def test_a1_only_public_signature_keys_of_some_strength_are_taken(
    issuer: Issuer, accepting: Callable[..., Tokens]
) -> None:
    short, ciphers = rsa_key("short", 1024), rsa_key("ciphers")
    secret = OctKey.generate_key(256, {"kid": "secret"})
    told = rsa_key("told")
    issuer.publish(
        {"kty": "oct", "kid": "secret", "k": secret.as_dict(private=True)["k"]},
        {**short.as_dict(private=False)},
        {**ciphers.as_dict(private=False), "use": "enc"},
        {**rsa_key("wraps").as_dict(private=False), "key_ops": ["encrypt"]},
        {**told.as_dict(private=True)},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        {"kty": ["RSA"], "kid": "x"},
        {"kty": "RSA"},
        {"kid": ["one"], **{k: v for k, v in told.as_dict(private=False).items() if k != "kid"}},
        issuer.key,
    )
    tokens = accepting(issuer.settings(algorithms=["RS256", "ES256"]))
    assert tokens.principal(issuer.token())
    for key in (short, ciphers, told):
        refused(tokens, issuer.token(key=key))
        refused(tokens, issuer.token({"kid": None}, key))
    refused(tokens, sign({"alg": "HS256", "kid": "secret"}, json.dumps(issuer.claims()).encode(), secret))


def test_a1_of_ten_thousand_keys_some_are_looked_at(issuer: Issuer, accepting: Callable[..., Tokens]) -> None:
    issuer.answers[KEYS] = {"keys": [issuer.key.as_dict(private=False), *({"kty": "oct", "k": "AAAA"},) * 10_000]}
    tokens = accepting(issuer.settings())
    began_s = time.monotonic()
    assert tokens.principal(issuer.token())
    assert time.monotonic() - began_s < 2
    issuer.publish(*({**issuer.key.as_dict(private=False), "kid": str(number)} for number in range(10_000)))
    with pytest.raises(IdentityUnavailable):
        accepting(issuer.settings()).principal(issuer.token({"kid": "9999"}))


def _drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(200):
            handler.wfile.write(b" ")
            time.sleep(0.02)
    except OSError:
        pass


def _bomb(handler: BaseHTTPRequestHandler) -> None:
    import gzip

    body = gzip.compress(b" " * (64 << 20))
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.end_headers()

    return answer


@pytest.mark.parametrize("path", [DISCOVERY, KEYS])
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"keys":' * 100_000,
        b'{"keys": "' + b"x" * (2 << 20) + b'"}',
        _bomb,
        _drip,
    ],
    ids=["empty", "text", "list", "null", "bytes", "depth", "names", "long", "gzip", "drip"],
)
def test_a1_an_answer_that_is_no_json_of_some_size_is_none(
    issuer: Issuer, accepting: Callable[..., Tokens], monkeypatch: pytest.MonkeyPatch, path: str, answer: Any
) -> None:
    monkeypatch.setattr("gateway.access.outgoing._TIMEOUT_S", 0.3)
    issuer.answers[path] = answer
    began_s = time.monotonic()
    with pytest.raises(IdentityUnavailable):
        accepting(issuer.settings()).principal(issuer.token())
    assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("keys", [{}, {"keys": {}}, {"keys": []}, {"keys": "x"}, {"keys": [1, None, []]}], ids=str)
def test_a1_a_key_set_without_keys_makes_every_token_nobodys(
    issuer: Issuer, accepting: Callable[..., Tokens], keys: dict[str, Any]
) -> None:
    issuer.answers[KEYS] = keys
    refused(accepting(issuer.settings()), issuer.token())


def test_a1_discovery_that_names_another_issuer_or_place_is_not_followed(
    issuer: Issuer, listener: Listener, other_key: RSAKey, accepting: Callable[..., Tokens]
) -> None:
    listener.answers["/jwks"] = {"keys": [other_key.as_dict(private=False)]}
    jwks = f"{listener.url}/jwks"
    for found in (
        {"issuer": listener.url, "jwks_uri": jwks},
        {"issuer": f"{issuer.url}/", "jwks_uri": jwks},
        {"jwks_uri": jwks},
        {"issuer": issuer.url},
        {"issuer": issuer.url, "jwks_uri": jwks.replace("127.0.0.1", "127.0.0.1.nip.invalid")},
        {"issuer": issuer.url, "jwks_uri": "file:///etc/passwd"},
        {"issuer": issuer.url, "jwks_uri": [jwks]},
        _redirect(f"{listener.url}{DISCOVERY}"),
    ):
        issuer.answers[DISCOVERY] = found
        with pytest.raises(IdentityUnavailable):
            accepting(issuer.settings()).principal(issuer.token(key=other_key))
    issuer.answers[DISCOVERY] = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}{KEYS}"}
    issuer.answers[KEYS] = _redirect(jwks)
    with pytest.raises(IdentityUnavailable):
        accepting(issuer.settings()).principal(issuer.token(key=other_key))
    assert listener.asked.total() == 0


# Tokens that are no JWT


@pytest.fixture
def asking(issuer: Issuer, accepting: Callable[..., Tokens]) -> Tokens:
    settings = {"introspection_url": f"{issuer.url}{INTROSPECT}", "client_id": "gateway:1", "client_secret": "sécret"}
    return accepting(issuer.settings(**settings))


def test_an_active_token_is_somebodys_for_a_short_time(asking: Tokens, issuer: Issuer) -> None:
    issuer.answers[INTROSPECT] = {"active": True, "sub": "ann", "roles": "viewer radiologist"}
    found, until_s = asking.principal("opaque")
    assert (found.name, found.roles) == ("ann", frozenset(("viewer", "radiologist")))
    assert until_s <= time.time() + 1, "nothing is said of its end"
    assert issuer.forms == [{"token": ["opaque"]}]
    shown = base64.b64decode(issuer.authorizations[0].removeprefix("Basic ")).decode()
    assert shown == "gateway%3A1:s%C3%A9cret", "RFC 6749, 2.3.1"
    issuer.answers[INTROSPECT] = {**issuer.claims(exp=int(time.time()) + 3000), "active": True}
    assert asking.principal("opaque")[1] <= time.time() + 30


@pytest.mark.parametrize(
    "answer",
    [
        {"active": False},
        {},
        {"active": "true", "sub": "ann"},
        {"active": 1, "sub": "ann"},
        {"active": True},
        {"active": True, "sub": "ann", "aud": "another"},
        {"active": True, "sub": "ann", "iss": "https://other.example.org"},
        {"active": True, "sub": "ann", "exp": 1},
        {"active": True, "sub": "ann", "exp": "never"},
        {"active": True, "sub": "ann", "exp": None},
        {"active": True, "sub": "ann", "nbf": time.time() + 7200},
    ],
    ids="-".join,
)
def test_a_token_that_is_not_active_or_not_for_us_is_nobodys(
    asking: Tokens, issuer: Issuer, answer: dict[str, Any]
) -> None:
    issuer.answers[INTROSPECT] = answer
    refused(asking, "opaque-token")
    refused(asking, "a.b.c.d.e")


def test_without_an_answer_about_a_token_nobody_is_let_in(
    asking: Tokens, issuer: Issuer, accepting: Callable[..., Tokens]
) -> None:
    for broken in (b"x", b"[" * 100_000, b"[]"):
        issuer.answers[INTROSPECT] = broken
        with pytest.raises(IdentityUnavailable):
            asking.principal("opaque")
    with issuers.issuer(issuer.key) as other:
        other.answers[INTROSPECT] = {"active": True, "sub": "bob"}
        named = {"client_id": "gateway"}
        both = accepting(
            issuer.settings(introspection_url=f"{issuer.url}{INTROSPECT}", **named),
            other.settings(introspection_url=f"{other.url}{INTROSPECT}", **named),
        )
        assert both.principal("opaque")[0].name == "bob", "one provider's silence is not another's"
        other.answers[INTROSPECT] = {"active": False}
        with pytest.raises(IdentityUnavailable):
            both.principal("opaque")
