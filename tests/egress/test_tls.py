"""Whom we trust, and that nothing weakens it."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import InternalError, ProviderUnavailable, ValidationFailed
from tests.egress.conftest import answers, server_context
from tests.egress.servers import Server, echo

EgressTo = Callable[..., Egress]
Serve = Callable[..., Server]
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def bad_certificates(authority: trustme.CA) -> dict[str, trustme.LeafCert]:
    return {
        "of another authority": trustme.CA().issue_cert("127.0.0.1"),
        "for another name": authority.issue_cert("other.example"),
        "for another address": authority.issue_cert("127.0.0.2"),
        "for a name in its common name only": authority.issue_cert(common_name="127.0.0.1"),
        "expired": authority.issue_cert("127.0.0.1", not_before=PAST, not_after=PAST + datetime.timedelta(days=1)),
        "not yet valid": authority.issue_cert("127.0.0.1", not_before=FUTURE, not_after=FUTURE.replace(year=2101)),
    }


@pytest.mark.parametrize("fault", bad_certificates(trustme.CA()))
def test_a_bad_certificate_is_refused_before_anything_is_sent(
    *, egress_to: EgressTo, serve: Serve, authority: trustme.CA, ca_file: Path, soon: Deadline, fault: str
) -> None:
    server = serve(echo, tls=server_context(bad_certificates(authority)[fault]))

    with pytest.raises(ProviderUnavailable, match="certificate") as refused:
        egress_to(server, ca_file=ca_file).send("POST", server.url(), body=b"secret", deadline=soon)

    assert not refused.value.ambiguous
    assert server.heads == []


def test_the_operators_authority_is_trusted_only_where_it_is_named(
    *, egress_to: EgressTo, serve: Serve, server_tls: ssl.SSLContext, ca_file: Path, soon: Deadline
) -> None:
    server = serve(echo, tls=server_tls)

    assert egress_to(server, ca_file=ca_file).send("GET", server.url(), deadline=soon).status == 200
    with pytest.raises(ProviderUnavailable, match="certificate"):
        egress_to(server).send("GET", server.url(), deadline=soon)


def test_a_name_is_checked_against_the_url_and_not_against_the_address(
    *, egress_to: EgressTo, serve: Serve, server_tls: ssl.SSLContext, ca_file: Path, soon: Deadline
) -> None:
    server = serve(echo, tls=server_tls)
    egress = egress_to(server, ca_file=ca_file, resolve=answers(server.host))

    assert egress.send("GET", f"https://api.example.test:{server.port}/", deadline=soon).status == 200
    with pytest.raises(ProviderUnavailable, match="certificate"):
        egress.send("GET", f"https://evil.example.test:{server.port}/", deadline=soon)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(
    *, egress_to: EgressTo, serve: Serve, authority: trustme.CA, ca_file: Path, soon: Deadline
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = serve(echo, tls=context)

    with pytest.raises(ProviderUnavailable):
        egress_to(server, ca_file=ca_file).send("GET", server.url(), deadline=soon)

    assert server.heads == []


def test_a_server_that_does_not_speak_tls_is_refused(egress_to: EgressTo, serve: Serve, soon: Deadline) -> None:
    server = serve(lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))

    with pytest.raises(ProviderUnavailable) as refused:
        egress_to(server).send("POST", server.url().replace("http:", "https:"), body=b"x", deadline=soon)

    assert not refused.value.ambiguous


@pytest.mark.parametrize("option", [{"verify": False}, {"verify": "/tmp/ca.pem"}, {"cert": "/tmp/me.pem"}])
def test_a_session_cannot_be_talked_into_less(
    egress_to: EgressTo, serve: Serve, soon: Deadline, option: dict[str, Any]
) -> None:
    server = serve(echo)

    with pytest.raises(InternalError):
        egress_to(server).session(deadline=soon).get(server.url(), **option)

    assert server.accepted == 0


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_ca_file_without_a_certificate_is_named(
    *,
    egress_to: EgressTo,
    serve: Serve,
    server_tls: ssl.SSLContext,
    soon: Deadline,
    tmp_path: Path,
    content: str | None,
) -> None:
    server = serve(echo, tls=server_tls)
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)

    with pytest.raises(ValidationFailed) as refused:
        egress_to(server, ca_file=tmp_path / "ca.pem").send("GET", server.url(), deadline=soon)

    assert refused.value.path == "egress.ca_file"
