"""botocore with nothing ambient, on our egress. Imported only when an S3 module is called: it imports the SDK.

Left alone, botocore takes its identity from the environment, from files and from the machine's metadata service, and
its endpoint, profile and proxies likewise. Here its settings are constants, and each request goes through the egress.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore import configprovider
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.credentials import CredentialResolver
from botocore.loaders import Loader
from botocore.session import Session

from flow8_core.egress import Egress, Hosts
from flow8_modules import Deadline, Secret

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AWS_HOSTS = ("*.amazonaws.com", "*.amazonaws.com.cn")
MAX_ANSWER = 10 * 1024 * 1024


@dataclass(frozen=True)
class Account:
    """Where to store, and as whom. `endpoint` is None for Amazon itself."""

    region: str
    endpoint: str | None
    access_key_id: Secret
    secret_access_key: Secret
    session_token: Secret | None

    @property
    def hosts(self) -> Hosts:
        """Where the signature and the session token may go."""
        return Hosts.of(*AWS_HOSTS) if self.endpoint is None else Hosts.of_url(self.endpoint)


def isolated_session() -> Session:
    """A botocore session that reads no environment variable, no file of the user, and no metadata service."""
    session = Session()
    settings: dict[str, Any] = {
        name: configprovider.ConstantProvider(default)
        for name, (_, _, default, _) in configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    for name in ("config_file", "credentials_file"):
        settings[name] = configprovider.ConstantProvider(os.devnull)
    session.register_component("config_store", configprovider.ConfigValueStore(mapping=settings))
    session.register_component("credential_provider", CredentialResolver(providers=[]))
    session.register_component(
        "data_loader", Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    )
    return session


class S3:
    """A botocore S3 client for one account. Thread-safe: what belongs to one call is kept for its thread."""

    def __init__(self, account: Account, *, session: Session, egress: Egress) -> None:
        self._hosts = account.hosts
        self._egress = egress
        self._call = threading.local()
        self.api = cast(
            "S3Client",
            session.create_client(
                "s3",
                region_name=account.region,
                endpoint_url=account.endpoint,
                aws_access_key_id=account.access_key_id.reveal(),
                aws_secret_access_key=account.secret_access_key.reveal(),
                aws_session_token=account.session_token.reveal() if account.session_token else None,
                config=_config(account),
            ),
        )
        events = self.api.meta.events
        events.register(
            "before-send.s3", cast("Any", self._send)
        )  # an answer from here keeps botocore from sending by itself
        events.register_last("before-parameter-build.s3", _stay_in_region)

    @contextmanager
    def calling(self, deadline: Deadline) -> Iterator[S3Client]:
        """The client, for this thread's calls until `deadline`."""
        before = getattr(self._call, "deadline", None)
        self._call.deadline = deadline
        try:
            yield self.api
        finally:
            self._call.deadline = before

    def _send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        """botocore's before-send hook: the request through the egress. Its errors come out of the call as they are."""
        answer = self._egress.send(
            request.method,
            request.url,
            headers=dict(request.headers),
            body=cast("Any", request.body),
            deadline=self._call.deadline,
            hosts=self._hosts,
            max_bytes=MAX_ANSWER,
        )
        return AWSResponse(answer.url, answer.status, cast("Any", answer.headers), _Body(answer.body))


class _Body:
    """A body that is there already, in the shape that botocore reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _config(account: Account) -> Config:
    return Config(  # type: ignore[call-arg]  # the stubs lag behind
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": 1},  # the runtime alone repeats
        ignore_configured_endpoint_urls=True,
        use_dualstack_endpoint=False,
        use_fips_endpoint=False,
        user_agent="flow8-modules",
        s3={"addressing_style": "path" if account.endpoint else "auto"},
        # The signature covers the body's SHA-256 already. Trailing checksums, the default, break S3-compatible servers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    """Tells botocore's region redirector that it has redirected already: a bucket elsewhere is an error of the
    component, not up to 22 requests in one call."""
    context.setdefault("s3_redirect", {})["redirected"] = True
