"""The kinds of components: which configs are accepted, and how a fault is told."""

from __future__ import annotations

from typing import Any

import pytest

from credentials.component_bodies import parse_config
from credentials.component_kinds import KINDS, MODELS
from flow8_core.errors import ValidationFailed
from flow8_core.secret import Secret
from tests.credentials.test_key_formats import ANTHROPIC, AWS_ID, AWS_SECRET, OPENAI, PEM

S3 = {
    "provider": "s3",
    "bucket": "files",
    "region": "eu-central-1",
    "access_key_id": AWS_ID,
    "secret_access_key": AWS_SECRET,
}
R2 = {
    **S3,
    "endpoint": "https://abc.r2.cloudflarestorage.com",
    "access_key_id": "a1b2c3d4" * 4,
    "secret_access_key": "x" * 64,
}
API = {"hosts": ["api.example.com"], "auth": {"type": "bearer", "value": "token-123456"}}
MAIL = {"host": "smtp.example.com", "username": "me@example.com", "password": "app-password"}
SFTP = {
    "protocol": "sftp",
    "host": "files.example.com",
    "username": "me",
    "password": "pass-word",
    "host_key": "SHA256:abc",
}


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


def auth(**fields: Any) -> dict[str, Any]:
    return {**API, "auth": fields}


FINE = {
    "s3": ("storage", S3),
    "s3, temporary": ("storage", {**S3, "access_key_id": "ASIA" + "A2B3" * 4, "session_token": "FwoGZXIvYXdz" * 9}),
    "s3, compatible": ("storage", R2),
    "s3, on loopback": ("storage", {**R2, "endpoint": "http://127.0.0.1:9000"}),
    "s3, on IPv6": ("storage", {**R2, "endpoint": "http://[::1]:9000/"}),
    "s3, upper-case endpoint": ("storage", {**R2, "endpoint": "HTTPS://MinIO.Example.com"}),
    "s3, bucket with dots": ("storage", {**S3, "bucket": "my.bucket.name"}),
    "openai": (
        "ai",
        {"provider": "openai", "api_key": OPENAI, "model": "gpt-5", "temperature": 0.7, "max_tokens": 2048},
    ),
    "anthropic": ("ai", {"provider": "anthropic", "api_key": ANTHROPIC}),
    "a gateway with keys of its own": (
        "ai",
        {"provider": "anthropic", "api_key": OPENAI, "base_url": "https://gw.example.com/v1"},
    ),
    "mistral": ("ai", {"provider": "mistral", "api_key": "a1B2c3D4" * 4}),
    "ollama": ("ai", {"provider": "ollama", "base_url": "http://127.0.0.1:11434"}),
    "compatible": ("ai", {"provider": "openai-compatible", "base_url": "http://lm:1234/v1"}),
    "mongodb": ("db", {"provider": "mongodb", "uri": "mongodb://u:p@db:27017/ud?authSource=admin", "database": "ud"}),
    "postgresql": ("db", {"provider": "postgresql", "uri": "postgres://u:p@db/x"}),
    "bearer": ("request", API),
    "no auth": ("request", {"hosts": ["api.example.com"]}),
    "hosts": (
        "request",
        {**API, "hosts": ["API.example.com", "*.example.org", "localhost:8443", "127.0.0.1:9000", "[::1]:80"]},
    ),
    "basic": ("request", auth(type="basic", username="me", password="pass-word")),
    "basic, the key as the user": ("request", auth(type="basic", username="sk_live_" + "a1B2" * 6)),
    "header": ("request", auth(type="header", name="X-Api-Key", value="token-123456")),
    "header with a scheme": ("request", auth(type="header", name="Authorization", value="Token abc-123456")),
    "query": ("request", auth(type="query", name="key", value="token-123456")),
    "switches": ("request", {**API, "honours_idempotency_key": True, "timeout_seconds": 30, "max_retries": 0}),
    "numbers as text, as forms send them": ("request", {**API, "timeout_seconds": "30", "max_retries": "2"}),
    "console": ("console", {}),
    "console, level": ("console", {"level": "debug"}),
    "smtp": ("email", MAIL),
    "smtps": ("email", {**MAIL, "port": 465, "security": "tls", "from_address": "me@example.com", "from_name": "Me"}),
    "smtp, a relay without login": ("email", {"host": "relay", "port": 25, "security": "none"}),
    "sftp": ("file_transfer", SFTP),
    "sftp with a key": (
        "file_transfer",
        {**without(SFTP, "password"), "private_key": PEM, "passphrase": "pass-phrase"},
    ),
    "ftps": ("file_transfer", {**without(SFTP, "host_key"), "protocol": "ftps"}),
    "ftp, on purpose": ("file_transfer", {**without(SFTP, "host_key"), "protocol": "ftp", "allow_plaintext": True}),
}


@pytest.mark.parametrize(("kind", "config"), FINE.values(), ids=FINE.keys())
def test_a_good_config_is_accepted_without_a_word(kind: str, config: dict[str, Any]):
    parsed = parse_config(kind, config)

    assert list(parsed.findings()) == []


ODD = {
    "s3 without a region": ("storage", without(S3, "region"), "config.region"),
    "anthropic with a temperature": (
        "ai",
        {"provider": "anthropic", "api_key": ANTHROPIC, "temperature": 0.5},
        "config.temperature",
    ),
    "a short password": ("email", {**MAIL, "password": "abc"}, "config.password"),
    "a password in clear": ("email", {**MAIL, "security": "none"}, "config.security"),
    "the port of the other": ("email", {**MAIL, "port": 465}, "config.security"),
}


@pytest.mark.parametrize(("kind", "config", "path"), ODD.values(), ids=ODD.keys())
def test_an_odd_config_is_accepted_with_a_warning(kind: str, config: dict[str, Any], path: str):
    findings = list(parse_config(kind, config).findings())

    assert [(finding.path, finding.fatal) for finding in findings] == [(path, False)]


MISSHAPEN = {
    "nothing": (
        "storage",
        {},
        {"config.provider", "config.bucket", "config.access_key_id", "config.secret_access_key"},
    ),
    "another provider": ("storage", {**S3, "provider": "ftp"}, {"config.provider"}),
    "an unknown field": ("storage", {**S3, "acl": "private"}, {"config.acl"}),
    "a key in place of a field's name": ("storage", {**S3, "sk-proj-abc/def": 1}, {"config.?"}),
    "a number as a key": ("storage", {**S3, "access_key_id": 7}, {"config.access_key_id"}),
    "an operator as a key": ("storage", {**S3, "access_key_id": {"$ne": None}}, {"config.access_key_id"}),
    "an envelope as a key": (
        "storage",
        {**S3, "access_key_id": {"encrypted": True, "nonce": "", "ciphertext": ""}},
        {"config.access_key_id"},
    ),
    "a bucket with a slash": ("storage", {**S3, "bucket": "a/b"}, {"config.bucket"}),
    "a bucket with a line break": ("storage", {**S3, "bucket": "bucket\n"}, {"config.bucket"}),
    "an endpoint without a scheme": ("storage", {**R2, "endpoint": "minio:9000"}, {"config.endpoint"}),
    "an endpoint with a user": ("storage", {**R2, "endpoint": "https://u:p@minio"}, {"config.endpoint"}),
    "an endpoint with a query": ("storage", {**R2, "endpoint": "https://minio/?key=abc"}, {"config.endpoint"}),
    "an endpoint that is a file": ("storage", {**R2, "endpoint": "file:///etc/passwd"}, {"config.endpoint"}),
    "no hosts": ("request", {**API, "hosts": []}, {"config.hosts"}),
    "hosts as text": ("request", {**API, "hosts": "api.example.com"}, {"config.hosts"}),
    "a host that is a URL": ("request", {**API, "hosts": ["https://api.example.com/"]}, {"config.hosts[0]"}),
    "a host with a path": ("request", {**API, "hosts": ["ok.com", "api.example.com/v1"]}, {"config.hosts[1]"}),
    "any host": ("request", {**API, "hosts": ["*"]}, {"config.hosts[0]"}),
    "any host of a top-level domain": ("request", {**API, "hosts": ["*.com"]}, {"config.hosts[0]"}),
    "a star in the middle": ("request", {**API, "hosts": ["api.*.com"]}, {"config.hosts[0]"}),
    "a host with a user": ("request", {**API, "hosts": ["me@api.example.com"]}, {"config.hosts[0]"}),
    "a look-alike host": ("request", {**API, "hosts": ["аpi.example.com"]}, {"config.hosts[0]"}),
    "port 0": ("request", {**API, "hosts": ["api.example.com:0"]}, {"config.hosts[0]"}),
    "auth without a type": ("request", auth(value="token-123456"), {"config.auth"}),
    "auth of another type": ("request", auth(type="digest", value="token-123456"), {"config.auth"}),
    "bearer without a value": ("request", auth(type="bearer"), {"config.auth.value"}),
    "bearer with a name": ("request", auth(type="bearer", value="token-123456", name="x"), {"config.auth.name"}),
    "a header's name with a colon": (
        "request",
        auth(type="header", name="X: y", value="token-123456"),
        {"config.auth.name"},
    ),
    "a header's name with a line break": (
        "request",
        auth(type="header", name="X-A\n", value="token-123456"),
        {"config.auth.name"},
    ),
    "a timeout of nothing": ("request", {**API, "timeout_seconds": 0}, {"config.timeout_seconds"}),
    "a timeout for ever": ("request", {**API, "timeout_seconds": "inf"}, {"config.timeout_seconds"}),
    "a timeout that is no number": ("request", {**API, "timeout_seconds": "nan"}, {"config.timeout_seconds"}),
    "retries without end": ("request", {**API, "max_retries": 1000}, {"config.max_retries"}),
    "an address with a line break": (
        "email",
        {**MAIL, "from_address": "a@b.ch\r\nBcc: x@y.ch"},
        {"config.from_address"},
    ),
    "a mail host that is a URL": ("email", {**MAIL, "host": "smtp://mail"}, {"config.host"}),
    "port 65536": ("email", {**MAIL, "port": 65536}, {"config.port"}),
    "another protocol": ("file_transfer", {**SFTP, "protocol": "scp"}, {"config.protocol"}),
    "a root with a NUL": ("file_transfer", {**SFTP, "root": "/a\x00b"}, {"config.root"}),
}


@pytest.mark.parametrize(("kind", "config", "paths"), MISSHAPEN.values(), ids=MISSHAPEN.keys())
def test_a_misshapen_config_is_refused_naming_every_place(kind: str, config: dict[str, Any], paths: set[str]):
    with pytest.raises(ValidationFailed) as caught:
        parse_config(kind, config)

    assert {path for path, _ in caught.value.problems} == paths
    for value in ("token-123456", AWS_SECRET, "sk-proj", "digest", "evil", "https://u:p"):
        assert value not in caught.value.message


WRONG = {
    "id and secret swapped": (
        "storage",
        {**S3, "access_key_id": AWS_SECRET, "secret_access_key": AWS_ID},
        "config.secret_access_key",
    ),
    "openai without a key": ("ai", {"provider": "openai"}, "config.api_key"),
    "a compatible server without an address": (
        "ai",
        {"provider": "openai-compatible", "api_key": "abc-123456"},
        "config.base_url",
    ),
    "another vendor's key": ("ai", {"provider": "openai", "api_key": ANTHROPIC}, "config.api_key"),
    "another database's address": ("db", {"provider": "mongodb", "uri": "postgres://u:p@db/x"}, "config.uri"),
    "Bearer in a bearer token": ("request", auth(type="bearer", value="Bearer token-123456"), "config.auth.value"),
    "a colon in a user name": (
        "request",
        auth(type="basic", username="a:b", password="pass-word"),
        "config.auth.username",
    ),
    "the Host header": ("request", auth(type="header", name="Host", value="evil.example"), "config.auth.name"),
    "a proxy header": (
        "request",
        auth(type="header", name="Proxy-Authorization", value="token-123456"),
        "config.auth.name",
    ),
    "a line break in a header": (
        "request",
        auth(type="header", name="X-Key", value="abcdef\r\nX-A: b"),
        "config.auth.value",
    ),
    "a user without a password": ("email", without(MAIL, "password"), "config.password"),
    "a password without a user": ("email", without(MAIL, "username"), "config.password"),
    "sftp without the host's key": ("file_transfer", without(SFTP, "host_key"), "config.host_key"),
    "no way to sign in": ("file_transfer", without(SFTP, "password"), "config.password"),
    "ftp by accident": ("file_transfer", {**SFTP, "protocol": "ftp"}, "config.allow_plaintext"),
    "a private key for ftps": ("file_transfer", {**SFTP, "protocol": "ftps", "private_key": PEM}, "config.private_key"),
    "a passphrase for nothing": ("file_transfer", {**SFTP, "passphrase": "pass-phrase"}, "config.passphrase"),
}


@pytest.mark.parametrize(("kind", "config", "path"), WRONG.values(), ids=WRONG.keys())
def test_a_config_that_cannot_work_is_refused(kind: str, config: dict[str, Any], path: str):
    findings = parse_config(kind, config).findings()

    assert path in {finding.path for finding in findings if finding.fatal}


def test_a_host_is_kept_in_lower_case():
    assert parse_config("request", {"hosts": ["API.Example.COM:8443"]}).values()["hosts"] == ["api.example.com:8443"]


def test_what_is_off_or_not_said_is_not_stored():
    values = parse_config("request", {**API, "honours_idempotency_key": False, "timeout_seconds": None}).values()

    assert values == {"hosts": ["api.example.com"], "auth": {"type": "bearer", "value": Secret("token-123456")}}


def write_only(schema: dict[str, Any], definitions: dict[str, Any], base: str = "") -> set[str]:
    """The dotted paths of all fields that a JSON schema marks as secret."""
    found: set[str] = set()
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        found |= write_only(branch, definitions, base)
    if schema.get("writeOnly"):
        found.add(base.removesuffix("."))
    for name, inner in schema.get("properties", {}).items():
        found |= write_only(inner, definitions, f"{base}{name}.")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_secrets_of_a_kind_are_exactly_what_its_schema_marks(kind: str):
    """A secret field that is missing from the list would be stored as it is."""
    model = MODELS[kind]
    schema = model.model_json_schema()

    assert write_only(schema, schema.get("$defs", {})) == set(model.secrets)
    assert set(model.destinations) <= set(model.model_fields)
