"""A real S3 server (moto, signatures checked): the laboratory's, emptied for each test."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from flow8_lab.client import Lab


@dataclass(frozen=True)
class S3Server:
    """Where it is, its one pair of keys, and the bucket that exists from the start."""

    endpoint: str
    region: str
    bucket: str
    access_key_id: str
    secret_access_key: str
    lab: Lab

    def component(self, **changes: Any) -> dict[str, Any]:
        """The `config` of a storage component for it."""
        return {
            "provider": "s3",
            "bucket": self.bucket,
            "region": self.region,
            "endpoint": self.endpoint,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        } | changes

    def client(self, *, access_key_id: str | None = None, secret_access_key: str | None = None) -> Any:
        """A stock boto3 client, to look at what landed. It reads nothing from the environment."""
        from botocore.config import Config

        return _session().client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=access_key_id or self.access_key_id,
            aws_secret_access_key=secret_access_key or self.secret_access_key,
            config=Config(proxies={}, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def create_bucket(self, name: str) -> None:
        """Another bucket."""
        self.lab.control("/buckets", {"name": name})


@cache
def _session() -> Any:
    """One session: it keeps the service model, whose reading costs a fifth of a second."""
    import boto3

    return boto3.session.Session()


@pytest.fixture
def s3(lab: Lab) -> S3Server:
    """The server with its one empty bucket."""
    described = lab.services["s3"]
    return S3Server(
        endpoint=described["endpoint"],
        region=described["region"],
        bucket=described["bucket"],
        access_key_id=described["access_key_id"],
        secret_access_key=described["secret_access_key"],
        lab=lab,
    )
