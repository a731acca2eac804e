"""S3 runs with the component's keys and nobody else's: no identity, endpoint or setting comes from where it runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from flow8_core.egress import Egress
from flow8_core.errors import EgressDenied, Flow8Error, InvalidCredentials
from flow8_core.secret import Secret
from flow8_modules.integrations.s3.client import s3
from flow8_modules.testing import context

OWN = {
    "provider": "s3",
    "bucket": "flow8-artifacts",
    "region": "eu-central-1",
    "access_key_id": Secret("AKIAIOSFODNN7EXAMPLE"),
    "secret_access_key": Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
}
AMBIENT = {
    "AWS_ACCESS_KEY_ID": "AKIAAMBIENTAMBIENTAM",
    "AWS_SECRET_ACCESS_KEY": "ambient",
    "AWS_SESSION_TOKEN": "ambient",
    "AWS_PROFILE": "ambient",
    "AWS_REGION": "ambient-1",
    "AWS_DEFAULT_REGION": "ambient-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_MAX_ATTEMPTS": "9",
    "AWS_CA_BUNDLE": "/nowhere",
    "AWS_DATA_PATH": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/credentials",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
}


class Resolver:
    """Stands for name resolution: notes what is looked up, and finds nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, host: str, *rest: Any, **more: Any) -> list[Any]:
        self.asked.append(host)
        raise OSError


@pytest.fixture
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker with an identity of its own, by every way that botocore knows."""
    home = tmp_path / "home" / ".aws"
    home.mkdir(parents=True)
    (home / "credentials").write_text("[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key=file\n")
    (home / "config").write_text("[default]\nregion=file-1\nendpoint_url=http://127.0.0.1:1\n")
    monkeypatch.setenv("HOME", str(home.parent))
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("missing", [None, "", ...])
@pytest.mark.parametrize("part", ["access_key_id", "secret_access_key"])
@pytest.mark.usefixtures("ambient")
def test_without_keys_nothing_is_asked(tmp_path: Path, part: str, missing: Any) -> None:
    resolver = Resolver()
    config = {name: value for name, value in {**OWN, part: missing}.items() if value is not ...}
    ctx = context(tmp_path, egress=Egress(resolve=resolver), components={"storage": config})

    with pytest.raises(InvalidCredentials, match="no access key"), s3(ctx) as api:
        api.list_buckets()
    assert resolver.asked == []


@pytest.mark.usefixtures("ambient")
def test_keys_region_and_endpoint_are_those_of_the_component(tmp_path: Path) -> None:
    resolver = Resolver()
    ctx = context(tmp_path, egress=Egress(resolve=resolver), components={"storage": OWN})

    with pytest.raises(Flow8Error), s3(ctx) as api:
        api.head_bucket(Bucket="flow8-artifacts")

    assert resolver.asked == ["flow8-artifacts.s3.eu-central-1.amazonaws.com"]
    credentials = api._request_signer._credentials
    assert (credentials.access_key, credentials.token) == ("AKIAIOSFODNN7EXAMPLE", None)
    assert api.meta.config.retries["total_max_attempts"] == 1
    assert api.meta.region_name == "eu-central-1"


def test_a_private_endpoint_is_reached_only_where_the_operator_allows_it(tmp_path: Path) -> None:
    for endpoint in ("http://169.254.169.254/", "https://127.0.0.1:9/", "http://127.0.0.1:9/"):
        ctx = context(tmp_path, components={"storage": {**OWN, "endpoint": endpoint}})

        with pytest.raises(EgressDenied), s3(ctx) as api:
            api.head_bucket(Bucket="flow8-artifacts")


def test_an_endpoint_that_is_no_url_is_refused(tmp_path: Path) -> None:
    for endpoint in ("file:///etc/passwd", "gopher://x/", "http://user:pw@x/", "nonsense"):
        ctx = context(tmp_path, components={"storage": {**OWN, "endpoint": endpoint}})

        with pytest.raises(Flow8Error), s3(ctx) as api:
            api.head_bucket(Bucket="flow8-artifacts")


def test_each_account_has_its_own_client(tmp_path: Path) -> None:
    ctx = context(tmp_path, components={"storage": OWN})
    other = context(
        tmp_path,
        components={"storage": {**OWN, "secret_access_key": Secret("another")}},
        clients=ctx.clients,
        egress=ctx.egress,
    )

    with s3(ctx) as first, s3(ctx) as again, s3(other) as second:
        assert first is again
        assert first is not second


def test_keys_appear_in_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG botocore logs the key id by itself: its loggers are pinned where logging is set up; the secret never."""
    ctx = context(tmp_path, egress=Egress(resolve=Resolver()), components={"storage": OWN})

    with caplog.at_level(logging.DEBUG), pytest.raises(Flow8Error), s3(ctx) as api:
        api.head_bucket(Bucket="flow8-artifacts")

    assert OWN["secret_access_key"].reveal() not in caplog.text  # type: ignore[attr-defined]
